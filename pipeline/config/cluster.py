"""Where the Dask workers of a run are, how many, and how their talk is kept from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.loading import StrictConfig


class AdaptiveConfig(StrictConfig):
    """A number of workers that follows the work."""

    minimum: int = Field(default=1, ge=1, description="Fewest workers; at least one is there to be asked what it is.")
    maximum: int = Field(ge=1, description="Most workers.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}")
        return self


class SecurityConfig(StrictConfig):
    """TLS between client, scheduler and workers; each file is PEM, and a path on the machine that uses it."""

    tls_ca_file: str = Field(description="Certificate of the authority that all others are signed by.")
    tls_client_cert: str = Field(description="Certificate of the client, which this process is.")
    tls_client_key: str | None = Field(default=None, description="Its key, where the certificate's file has none.")
    tls_scheduler_cert: str | None = Field(default=None, description="Certificate of a scheduler started here.")
    tls_scheduler_key: str | None = Field(default=None, description="Its key.")
    tls_worker_cert: str | None = Field(default=None, description="Certificate of workers started here.")
    tls_worker_key: str | None = Field(default=None, description="Their key.")

    @field_validator("*")
    @classmethod
    def _refuse_content(cls, value: str | None) -> str | None:
        # Dask would also take the content of a file; but a key does not belong into a config.
        if value is not None and "\n" in value:
            raise ValueError("expected the path of a PEM file, not its content")
        return value


class ClusterConfig(StrictConfig):
    """Where the Dask workers are."""

    gone_keys: ClassVar[Mapping[str, str]] = {"worker_ttl_s": "a worker that is silent for ten minutes is given up"}

    kind: Literal["local", "address", "cuda", "class"] = Field(
        default="local",
        description="local: processes on this machine; address: a scheduler that runs already; cuda: one process per "
        "GPU of this machine (pip install 'deltavlm-monitor[cuda]'); class: any Dask cluster class.",
    )
    n_workers: int | None = Field(
        default=None,
        ge=1,
        description="Number of workers to start. Left out, one per GPU if the model runs on GPUs, else one "
        "per core as far as memory allows; for a class, its own default.",
    )
    adaptive: AdaptiveConfig | None = Field(
        default=None,
        description="In place of n_workers, {minimum: 1, maximum: 8}: as many workers as the work asks for.",
    )
    memory_limit: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)? ?[kMGT]i?B$",
        description="Memory limit of a worker on this machine, such as 8GiB. Left out, what the libraries, "
        "the model's weights and the batches need.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address of this machine that a scheduler started here and its workers listen on.",
    )
    address: str | None = Field(
        default=None, description="Scheduler address such as tcp://host:8786, or tls://host:8786 with security."
    )
    class_path: str | None = Field(
        default=None, description="Cluster class of an installed package, such as dask_jobqueue.SLURMCluster."
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the cluster class; not for passwords."
    )
    security: SecurityConfig | None = Field(
        default=None,
        description="Certificates for TLS (tls_ca_file, tls_client_cert, ...). Left out, workers of this machine get "
        "temporary ones.",
    )
    allow_unencrypted: bool = Field(
        default=False,
        description="Whether a scheduler may do without TLS, though everyone who reaches it can run code as its user. "
        "One at address on the loopback always may.",
    )
    no_workers_timeout_s: float = Field(
        default=300, gt=0, description="Seconds without any worker after which the run stops."
    )
    dashboard_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port on the loopback for Dask's dashboard; left out, none. Its pages need the package bokeh.",
    )
    max_batches_in_flight: int | None = Field(
        default=None,
        ge=1,
        description="Batches handed to the scheduler at once. Left out, three per worker.",
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        for key, kind in (("address", "address"), ("class_path", "class")):
            if (self.kind == kind) != (getattr(self, key) is not None):
                raise ValueError(f"cluster.{key} goes with cluster.kind: {kind}, and only with it")
        if self.arguments and self.kind != "class":
            raise ValueError("cluster.arguments goes with cluster.kind: class, and only with it")
        if self.memory_limit is not None and self.kind not in {"local", "cuda"}:
            raise ValueError("cluster.memory_limit is for workers of this machine; tell a class in its arguments")
        return self

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.adaptive is not None and self.n_workers is not None:
            raise ValueError("cluster.n_workers and cluster.adaptive exclude each other; leave one out")
        if self.kind == "address" and self.adaptive is not None:
            raise ValueError("cluster.adaptive is for workers that a run starts; cluster.address has its own")
        return self

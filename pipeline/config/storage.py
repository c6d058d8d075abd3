"""Settings of the object store that a run is written to."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pipeline.config.loading import StrictConfig


class StorageConfig(StrictConfig):
    """How much patience a run has with the object store that it is written to, and whom it lets lead it where."""

    retry_timeout_s: float = Field(
        default=120,
        ge=1,
        le=1800,
        description="Seconds for which a failing request to s3:// is retried before the run stops.",
    )
    lock_timeout_s: float = Field(
        default=300,
        ge=2,
        le=7200,
        description="Seconds after which the lock of a run in s3:// may be taken over, if its owner has not "
        "renewed it.",
    )
    allow_private_hosts: bool = Field(
        default=False,
        description="Whether STAC documents, VRTs and redirects from the network may lead to hosts of closed networks "
        "other than their own: to this machine, to private or link-local addresses. What the config itself names is "
        "read wherever it is.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.lock_timeout_s < 2 * self.retry_timeout_s:
            raise ValueError("storage.lock_timeout_s must be at least twice storage.retry_timeout_s")
        return self

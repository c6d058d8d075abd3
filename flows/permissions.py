"""What a run that somebody starts through Prefect's server may name: its operator decides, not the form.

A form reaches whoever reaches the server. Some settings of a run have code run, send pixels elsewhere, read files or
write them; of those a run of a deployment takes what the machine that carries it out was told to allow, and no more.
Python code that calls a flow has those powers already, and is not asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from prefect.context import FlowRunContext
from pydantic import Field, field_validator

from model.errors import InputError
from model.registry import SHIPPED_MODELS
from pipeline.config.cluster import ClusterConfig
from pipeline.config.grid import GridConfig
from pipeline.config.loading import StrictConfig, load_settings
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.config.run import RunConfig
from pipeline.config.scene import NO_SIGNER, PLANETARY_COMPUTER, SceneConfig, list_scene_uris
from pipeline.uris import split_zip_uri

VARIABLE = "DELTAVLM_ALLOW"
"""Environment variable of the process that carries runs out: a YAML file of `Permissions`, or their JSON."""
_NAMED = {"models", "clusters", "signers"}
_HARMLESS_CLUSTER_KEYS = (
    "n_workers",
    "adaptive",
    "memory_limit",
    "no_workers_timeout_s",
    "max_batches_in_flight",
)


class Permissions(StrictConfig):
    """What a run started from a form may name, and how far some of its settings may go; the others are harmless."""

    inputs: tuple[str, ...] = Field(
        default=(), description="Folders and URLs that scenes, catalogs and polygons may lie under."
    )
    outputs: tuple[str, ...] = Field(
        default=(), description="Folders and s3://bucket/prefix that results may go under."
    )
    models: tuple[str, ...] = Field(
        default=SHIPPED_MODELS, description="Names of models; others may run code of theirs or send pixels away."
    )
    clusters: tuple[ClusterConfig, ...] = Field(
        default=(), description="Clusters beside workers of this machine, each as `cluster` of a run; sizes may differ."
    )
    signers: tuple[str, ...] = Field(
        default=(), description="Functions that may sign addresses, each as module:function; they run code."
    )
    max_workers: int = Field(default=32, ge=1, description="Most workers that a run may have.")
    max_tiles: int = Field(default=GridConfig().max_tiles, ge=1, description="Most tiles that a run may have.")
    allow_private_hosts: bool = Field(
        default=False, description="Whether a run may lift the rule that no document leads into closed networks."
    )
    regions: tuple[RegionConfig, ...] = Field(
        default=(), description="Regions that passes may be made over, each as its YAML file or what that says."
    )

    @field_validator("regions", mode="before")
    @classmethod
    def _load_files(cls, values: Any) -> Any:
        return tuple(load_region_config(value) if isinstance(value, str) else value for value in values)


def load_permissions(path: Path | None) -> Permissions:
    """Read what is allowed; without a file, no place, and the models that ship with the package.

    Raises:
        InputError: the file cannot be read, or a key or value does not fit.
    """
    return load_settings(Permissions, path, described_in="docs/deploy.md", begin_with="docs/deploy.md")


def read_permissions(environment: Mapping[str, str] = os.environ) -> Permissions:
    """Find what the operator of this process allows.

    Raises:
        InputError: as `load_permissions`.
    """
    value = environment.get(VARIABLE, "")
    if value.startswith("{"):
        return Permissions.model_validate_json(value)
    return load_permissions(Path(value) if value else None)


def is_from_server() -> bool:
    """Tell whether the flow at work was started through a deployment, with parameters that a server gave."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None


def check_run(config: RunConfig, permissions: Permissions) -> None:
    """Refuse a run that names what is not allowed.

    Raises:
        InputError: it does; the first such setting.
    """
    for key, place in _list_inputs(config):
        if not any(_lies_under(place, root, is_there=True) for root in permissions.inputs):
            raise _refuse(key, place, allowed=permissions.inputs, setting="inputs")
    if not any(_lies_under(config.output, root, is_there=False) for root in permissions.outputs):
        raise _refuse("output", config.output, allowed=permissions.outputs, setting="outputs")
    if config.model.name not in permissions.models:
        raise _refuse("model.name", config.model.name, allowed=permissions.models, setting="models")
    for key in ("before", "after"):
        sign = getattr(config, key).sign
        if sign not in {NO_SIGNER, PLANETARY_COMPUTER, *permissions.signers}:
            raise _refuse(f"{key}.sign", sign, allowed=permissions.signers, setting="signers")
    clusters = (ClusterConfig(), ClusterConfig(kind="cuda"), *permissions.clusters)
    if _strip_sizes(config.cluster) not in map(_strip_sizes, clusters):
        names = [each.class_path or each.address or each.kind for each in clusters]
        named = config.cluster.class_path or config.cluster.address or config.cluster.kind
        raise _refuse("cluster", f"{named} with these settings", allowed=names, setting="clusters")
    _check_sizes(config, permissions)


def _check_sizes(config: RunConfig, permissions: Permissions) -> None:
    """Refuse what would fill this machine, or open its network."""
    adaptive = config.cluster.adaptive
    n_workers = max(config.cluster.n_workers or 1, adaptive.maximum if adaptive is not None else 1)
    for key, wanted, most, setting in (
        ("cluster.n_workers", n_workers, permissions.max_workers, "max_workers"),
        ("grid.max_tiles", config.grid.max_tiles, permissions.max_tiles, "max_tiles"),
        (
            "storage.allow_private_hosts",
            config.storage.allow_private_hosts,
            permissions.allow_private_hosts,
            "allow_private_hosts",
        ),
    ):
        if wanted > most:
            raise InputError(
                f"{key}: {str(wanted).lower()} is not what this machine takes from a form",
                expected=f"at most {most:,}" if wanted is not True else "false",
                remedy=f"have its operator set {setting} in the file of `deltavlm serve --allow` or ${VARIABLE}",
            )


def check_region(region: RegionConfig, permissions: Permissions) -> None:
    """Refuse a pass over a region that is not, to the letter, one of the operator's.

    Raises:
        InputError: it is another.
    """
    if region not in permissions.regions:
        raise _refuse("region", region.name, allowed=[each.name for each in permissions.regions], setting="regions")


def _refuse(key: str, value: str, *, allowed: Any, setting: str) -> InputError:
    return InputError(
        f"{key}: {value} is not what this machine takes from a form",
        expected=f"{'one of' if setting in _NAMED else 'as in, or under,'} {', '.join(allowed)}"
        if allowed
        else f"nothing, as no {setting} are allowed",
        remedy=f"have its operator add it to {setting} in the file of `deltavlm serve --allow` or ${VARIABLE}",
    )


def _list_inputs(config: RunConfig) -> Iterator[tuple[str, str]]:
    """List what a run reads, by the setting that names it."""
    for key in ("before", "after"):
        scene: SceneConfig = getattr(config, key)
        places = [*list_scene_uris(scene), *([scene.stac.href] if scene.stac is not None else [])]
        yield from ((key, place) for place in places)
    yield from ((key, place) for key in ("aoi", "zones") if (place := getattr(config, key)) is not None)


def _lies_under(place: str, root: str, *, is_there: bool) -> bool:
    """Tell whether a path or URI is a root or below it; a local one wherever its links lead."""
    if (member := split_zip_uri(place)) is not None:
        place = member[0]
    if "://" not in place and "://" not in root:
        found = Path(place).resolve()
        # A name that GDAL takes for something else than a file is no file.
        return found.is_relative_to(Path(root).resolve()) and (found.exists() or not is_there)
    found_url, root_url = urlsplit(place), urlsplit(root)
    if (found_url.scheme, found_url.netloc) != (root_url.scheme, root_url.netloc):
        return False
    steps, root_steps = (unquote(url.path).strip("/").split("/") for url in (found_url, root_url))
    return not {"", ".", ".."} & set(steps) and (root_steps == [""] or steps[: len(root_steps)] == root_steps)


def _strip_sizes(cluster: ClusterConfig) -> ClusterConfig:
    plain = ClusterConfig()
    return cluster.model_copy(update={key: getattr(plain, key) for key in _HARMLESS_CLUSTER_KEYS})

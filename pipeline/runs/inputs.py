"""What can be found wrong about a run before a scene is read: words, small files and the place of the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError
from model.registry import find_model_folder, find_model_source
from pipeline.config.run import SCENE_KEYS, RunConfig
from pipeline.findings.columns import make_findings_schema
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.runs.polygons import read_run_zones
from pipeline.scenes.signing import check_signer
from pipeline.storage.opening import check_foreign, find_folder
from pipeline.uris import is_remote
from pipeline.workers.memory import check_memory

if TYPE_CHECKING:
    from pipeline.polygons.zones import Zones


@dataclass(frozen=True, kw_only=True)
class RunPolygons:
    """The polygons that a run is told of, as their files were when it began."""

    aoi: AreaOfInterest | None = None
    """The area of interest; None without one."""
    zones: Zones | None = None
    """What the findings are summed over; None without."""


def check_inputs(config: RunConfig) -> RunPolygons:
    """Check what is quickly checked, so that a mistyped name does not wait for scenes to be read.

    Returns:
        What was read on the way, to be used from here on: read once more, the files might be others.

    Raises:
        InputError: the first thing that is wrong.
    """
    found = {setting: check() for setting, check in list_checks(config).items()}
    return RunPolygons(aoi=found["aoi"], zones=found["zones"])


def list_checks(config: RunConfig) -> dict[str, Callable[[], Any]]:
    """List the checks by the setting that each is about, the quickest first; each raises an `InputError`."""
    return {
        "prompts": lambda: make_findings_schema(
            [prompt.to_prompt() for prompt in config.prompts], is_composed=config.is_composed
        ),
        "model": lambda: _check_model(config),
        "sign": lambda: _check_signers(config),
        "output": lambda: _check_writable(config),
        "aoi": lambda: AreaOfInterest.read(config.aoi) if config.aoi is not None else None,
        "zones": lambda: read_run_zones(config),
    }


def _check_model(config: RunConfig) -> int:
    """Look for the model, without hashing its weights, which takes a while for large ones, and at what it weighs."""
    try:
        if find_model_source(config.model.name) is None:
            find_model_folder(config.model.name)
    except InputError as problem:
        raise problem.about("model.name: ") from None
    return check_memory(config)


def _check_signers(config: RunConfig) -> None:
    for date in SCENE_KEYS:
        try:
            check_signer(getattr(config, date).sign)
        except InputError as problem:
            raise problem.about(f"{date}: ") from None


def _check_writable(config: RunConfig) -> None:
    output = config.output
    if is_remote(output) or Path(output).is_dir():
        check_foreign(find_folder(output, retry_timeout_s=config.storage.retry_timeout_s))
    if is_remote(output):
        return
    place = Path(output).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"output {output} cannot be written to ({place})",
            expected="a folder that can be made or written to",
            remedy="choose another --output or change its permissions",
        )

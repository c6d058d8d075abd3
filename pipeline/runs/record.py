"""``run.json``: what a run was made of and what it holds. Written last, so a run that has it is complete.

The polygons that a run is told of, its area of interest and its zones, are known by their hashes: read again, they have
to be the same.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from model.certainty import Certainty
from model.errors import InputError
from model.home import ModelFit
from model.interface import ENGINE_VERSION, ModelIdentity
from model.redaction import MASK, redact_values
from model.sealing import seal, unseal
from pipeline.answers.contexts import Dates
from pipeline.answers.outlines import OUTLINE_VERSION, choose_outline_kinds
from pipeline.answers.parts import AnswerParts
from pipeline.answers.screening import find_screen
from pipeline.config.run import RunConfig, describe_settings, list_report_settings
from pipeline.findings.coverage import Coverage
from pipeline.grid.grid import Grid
from pipeline.polygons.zones import Zones, read_zones
from pipeline.report.write import Report
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.registration import Registration
from pipeline.scenes.scene import Scene
from pipeline.scenes.stretch import Stretch
from pipeline.storage.folder import RunFolder
from pipeline.summary import StageSummary
from pipeline.tiles.select import SELECTION_VERSION
from pipeline.tiles.store import TileStore

_TITLES = {"aoi": "area of interest", "zones": "zones"}
_REMEDIES = {
    "aoi": "put the former file back, or run `deltavlm run` again",
    "zones": "put the former file back, or name the one to take with `deltavlm report RUN --zones`",
}


def name_absolutely(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings with files of polygons named so that a report can be made anew from any working directory."""
    files = {key: settings[key] for key in _TITLES if settings.get(key) is not None and "://" not in settings[key]}
    return {**settings, **{key: str(Path(file).absolute()) for key, file in files.items()}}


def read_run_zones(config: RunConfig) -> Zones | None:
    """Read the zones that a config names; None without.

    Raises:
        InputError: they cannot be used.
    """
    if config.zones is None:
        return None
    return read_zones(config.zones, id_column=config.zones_id_column, name_column=config.zones_name_column)


def check_readable(config: RunConfig) -> None:
    """Refuse a recorded place of polygons that lost its credentials on the way into the record.

    Raises:
        InputError: there is such a one.
    """
    for key, title in _TITLES.items():
        uri = getattr(config, key)
        if uri is not None and MASK in uri:
            raise InputError(
                f"{title} {uri} cannot be read again: the run's record keeps no credentials",
                expected="polygons that can be read without",
                remedy="run `deltavlm run` again with the whole URI: only the report is made anew",
            )


def check_unchanged(
    config: RunConfig, *, inputs: Mapping[str, Any], hashes: Mapping[str, str | None], run_id: str
) -> None:
    """Refuse files with other polygons than those that a run was made with.

    Args:
        config: The run, which names the files.
        inputs: What the run's record tells of its inputs.
        hashes: Hashes of what the files hold now, under ``aoi`` and ``zones``; None is not looked at.
        run_id: Name of the recorded run.

    Raises:
        InputError: they are others.
    """
    for key, found in hashes.items():
        recorded = (inputs.get(key) or {}).get("sha256")
        if found is not None and found != recorded:
            raise InputError(
                f"{_TITLES[key]} {getattr(config, key)} has changed since run {run_id}",
                expected="the polygons that the run was made with",
                remedy=_REMEDIES[key],
            )


RECORD_NAME = "run.json"
PENDING_NAME = "run.pending.json"
"""The record of a run while its report is made anew; beside a `RECORD_NAME` it counts for nothing."""

FORMAT_VERSION = 1
"""Raised when a field of the record changes its meaning or goes away."""

_PACKAGES = ("deltavlm-monitor", "torch", "transformers", "dask", "rasterio", "zarr", "geopandas", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of ``run.json``, as plain values."""

    format_version: int
    """Version of this layout."""
    run_id: str
    """Name of the run by the content it depends on."""
    config: Mapping[str, Any]
    """The whole `RunConfig`, with what was left out filled in."""
    inputs: Mapping[str, Any]
    """Under before and after what `Scene` tells, with every file and its checksum; under stretch the values that became
    0 and 255; under registration how the later date lies beside the earlier one, or null; under aoi and under
    zones place and hash, or null."""
    grid: Mapping[str, Any]
    """The grid, as `Grid.to_dict` gives it."""
    content_key: str
    """Key of the pair's pixels on the grid."""
    model: Mapping[str, str]
    """Readable id and weight hash of the model; not its place on one machine's disk."""
    mask_labels: Sequence[str] = ()
    """What the model gives masks of."""
    model_fit: str | None = None
    """How the run's tiles lie beside what the model was made for, by their size; None: nobody tells."""
    model_fit_counts: Mapping[str, int] = field(default_factory=dict)
    """Tiles by model_fit; empty where nobody tells."""
    withheld_counts: Mapping[str, int] = field(default_factory=dict)
    """Tiles per status of which it is not told that they did not change, as they are too coarse for the model."""
    certainty: Mapping[str, Any] | None = None
    """How far its findings can be relied on, as `Certainty.to_dict` gives it; None where nobody has measured it."""
    versions: Mapping[str, str]
    """Versions of Python and of the packages that shape the result."""
    status_counts: Mapping[str, int]
    """Tiles per status."""
    reason_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Tiles per status and kind of reason."""
    ground_m2: Mapping[str, float] = field(default_factory=dict)
    """Square metres of ground per status, under `coarse` that of tiles whose no is withheld, and under `off` what of
    the area of interest lies off the scenes."""
    seen_fraction: float | None = None
    """Part of the ground of which is known whether it changed, 0 to 1; None in records of older versions."""
    notes: Sequence[str] = ()
    """What whoever reads the report has to know of all of it."""
    changed_tile_count: int
    """Tiles that changed."""
    change_counts: Mapping[str, int]
    """Changes per kind."""
    left_out_counts: Mapping[str, int] = field(default_factory=dict)
    """Changes per kind of which the model is less sure than ``report.min_confidence``: the report does without."""
    thing_counts: Mapping[str, float | None] = field(default_factory=dict)
    """What the tiles count per kind, nothing of it twice; None where no tile told a count."""
    reviews: Mapping[str, Any] | None = None
    """How far people have reviewed the report, as `ReviewSummary.to_dict` gives it; None: not at all."""
    failed_shards: Sequence[tuple[int, int, str]]
    """Row and column of shards of the tile store that could not be written, and why."""
    failures: Mapping[str, str]
    """Why a tile has no answer, by tile id."""
    files: Mapping[str, Mapping[str, int | str]]
    """Size in bytes and sha256 of the report's files and of this run's answer and outline parts, by name."""
    stages: Sequence[Mapping[str, Any]]
    """What each stage did and how long it took, when something was last done here."""

    @property
    def coverage(self) -> Coverage:
        """What became of the ground and the tiles."""
        return Coverage(tile_counts=self.status_counts, ground_m2=self.ground_m2, withheld_counts=self.withheld_counts)

    def is_same_result(self, other: RunRecord) -> bool:
        """Tell whether two records differ at most in what their stages had left to do."""
        return replace(self, stages=()).to_json() == replace(other, stages=()).to_json()

    @classmethod
    def from_json(cls, text: bytes, *, source: str) -> Self:
        """Read a record.

        Raises:
            InputError: this is no record, or one of another version.
        """
        try:
            values = unseal(text)
            if values["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {values['format_version']}")
            return cls(**values)
        except (ValueError, KeyError, TypeError) as problem:
            raise InputError(
                f"{source} cannot be read ({problem})",
                expected=f"a {RECORD_NAME} of format_version {FORMAT_VERSION}",
                remedy="delete it and run again: what the folder holds is used",
            ) from None

    def to_json(self) -> bytes:
        """Give the file's content."""
        return json.dumps(seal(asdict(self)), indent=2, ensure_ascii=False).encode() + b"\n"


def compute_run_id(
    config: RunConfig,
    *,
    content_key: str,
    aoi_hash: str | None,
    zones_hash: str | None = None,
    identity: ModelIdentity,
    dates: Dates = (None, None),
) -> str:
    """Name a run after all that its report depends on: equal runs have equal names, wherever they are."""
    content: list[Any] = [
        content_key,
        aoi_hash,
        config.tiles.min_valid_fraction,
        config.tiles.max_cloud_fraction,
        [[prompt.name, prompt.kind.value, prompt.text] for prompt in config.prompts],
        identity.weight_hash,
        config.model.dtype,
        ENGINE_VERSION,
        SELECTION_VERSION,
        # Runs without zones have the names that they had before there were any.
        *([zones_hash] if zones_hash is not None else []),
        *list_report_settings(config.report),
    ]
    if screen := find_screen([prompt.to_prompt() for prompt in config.prompts], model=config.model):
        content.append(["screened", screen.name, config.model.screening_confidence])
    if config.model.reads_context:
        content.append(dates)
    if kinds := choose_outline_kinds(config.model.outlines, mask_labels=identity.mask_labels):
        content.append([kinds, OUTLINE_VERSION])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def make_record(
    report: Report,
    *,
    run_id: str,
    config: RunConfig,
    pair: ScenePair,
    store: TileStore,
    aoi_hash: str | None,
    zones_hash: str | None,
    identity: ModelIdentity,
    fit: ModelFit | None,
    answers: AnswerParts,
    stages: Sequence[StageSummary],
) -> RunRecord:
    """Gather what the record tells, without any credentials; reads the files it names, to hash them."""
    return RunRecord(
        format_version=FORMAT_VERSION,
        run_id=run_id,
        config=describe_settings(config),
        inputs=redact_values(
            {
                "before": pair.before.to_dict(),
                "after": pair.after.to_dict(),
                "stretch": pair.stretch.to_dict(),
                "registration": pair.registration.to_dict() if pair.registration is not None else None,
                "aoi": {"uri": config.aoi, "sha256": aoi_hash} if config.aoi is not None else None,
                "zones": {"uri": config.zones, "sha256": zones_hash} if config.zones is not None else None,
            }
        ),
        grid=pair.grid.to_dict(),
        content_key=pair.content_key,
        model={"model_id": identity.model_id, "weight_hash": identity.weight_hash},
        mask_labels=identity.mask_labels,
        model_fit=None if fit is None else fit.value,
        model_fit_counts=dict(report.model_fit_counts),
        withheld_counts=dict(report.coverage.withheld_counts),
        certainty=identity.certainty.to_dict() if identity.certainty is not None else None,
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        status_counts=dict(report.status_counts),
        reason_counts={status: dict(counts) for status, counts in report.reason_counts.items()},
        ground_m2=dict(report.coverage.ground_m2),
        seen_fraction=round(report.coverage.seen_fraction, 6),
        notes=list(report.notes),
        changed_tile_count=report.changed_tile_count,
        change_counts=dict(report.change_counts),
        left_out_counts=dict(report.left_out_counts),
        thing_counts=dict(report.thing_counts),
        reviews=report.reviews.to_dict() if report.reviews is not None else None,
        failed_shards=[(row, col, why) for (row, col), why in sorted(store.failed_shards.items())],
        failures=dict(answers.failures),
        files={**report.files, **answers.describe()},
        stages=[stage.to_dict() for stage in stages],
    )


def restore_identity(record: RunRecord) -> ModelIdentity:
    """Give the model of a recorded run, but for where its files are.

    Raises:
        InputError: the record tells something else than was measured of the model.
    """
    try:
        certainty = None if record.certainty is None else Certainty.from_dict(record.certainty)
    except ValueError as problem:
        raise InputError(
            f"what run {record.run_id} tells of its model's certainty cannot be read ({problem})",
            expected="the record of this version",
            remedy="run `deltavlm run` again with this --output",
        ) from None
    return ModelIdentity(
        model_id=record.model["model_id"],
        weight_hash=record.model["weight_hash"],
        path="",
        mask_labels=tuple(record.mask_labels),
        certainty=certainty,
    )


def restore_pair(record: RunRecord) -> ScenePair:
    """Give the scenes and the grid of a recorded run."""
    return ScenePair(
        before=Scene.from_dict(record.inputs["before"]),
        after=Scene.from_dict(record.inputs["after"]),
        grid=Grid.from_dict(record.grid),
        resampling=record.config["tiles"]["resampling"],
        stretch=Stretch.from_dict(record.inputs["stretch"]),
        registration=Registration.from_dict(found) if (found := record.inputs.get("registration")) else None,
        content_key=record.content_key,
    )


def write_record(record: RunRecord, *, folder: RunFolder) -> None:
    """Put ``run.json``, or put the former one back if it tells the same result: it has the times of the real work."""
    with suppress(InputError):
        former = recall_record(folder)
        if former.is_same_result(record):
            record = former
    folder.put(RECORD_NAME, record.to_json())
    folder.delete([PENDING_NAME])


def withdraw_record(folder: RunFolder) -> None:
    """Take ``run.json`` away before the first file that it speaks of changes, without losing what it tells."""
    with suppress(FileNotFoundError):
        folder.put(PENDING_NAME, folder.read(RECORD_NAME))
    folder.delete([RECORD_NAME])


def read_record(folder: RunFolder) -> RunRecord:
    """Read ``run.json``.

    Raises:
        InputError: the run has not ended, its report is being made anew, or the file is damaged.
    """
    try:
        return _read_named(folder, RECORD_NAME)
    except FileNotFoundError:
        if folder.has(PENDING_NAME):
            raise InputError(
                f"the report of {folder.uri} is being made anew, or that was stopped half-way",
                expected=f"a run whose report is whole, with its {RECORD_NAME}",
                remedy=f"let it end, or make the report again with `deltavlm report {folder.uri}`",
            ) from None
        raise InputError(
            f"{folder.uri} has no {RECORD_NAME}",
            expected="the folder of a run that has ended",
            remedy="run `deltavlm run` with this --output to its end first",
        ) from None


def recall_record(folder: RunFolder) -> RunRecord:
    """Read ``run.json``, or what it told before its report began to be made anew: for those who end that work.

    Raises:
        InputError: the run has not ended, or the file is damaged.
    """
    for name in (RECORD_NAME, PENDING_NAME):
        with suppress(FileNotFoundError):
            return _read_named(folder, name)
    # Neither is there, which is told as to everyone.
    return read_record(folder)


def _read_named(folder: RunFolder, name: str) -> RunRecord:
    return RunRecord.from_json(folder.read(name), source=folder.join(name))


def discard_record(folder: RunFolder, *, run_id: str, shard_size_tiles: int) -> None:
    """Remove a record whose files are about to change: of another run, of one with failures, or a damaged one."""
    try:
        former = recall_record(folder)
        # Equal runs may lay out their stores differently, and the store is made anew then.
        is_kept = (former.run_id, former.config["tiles"]["shard_size_tiles"]) == (run_id, shard_size_tiles)
        is_kept = is_kept and not former.failures and not former.failed_shards
    except (InputError, KeyError, TypeError):
        is_kept = False
    if not is_kept:
        folder.delete([PENDING_NAME, RECORD_NAME])


def recall_dtype(folder: RunFolder, *, name_run: Callable[[str], str]) -> str:
    """Give the precision of the finished run that a folder holds, if with it that run is the one in question.

    Args:
        folder: Folder of the run.
        name_run: Gives the id that the run in question would have with a precision.

    Returns:
        A precision, or ``auto``: nothing there tells.
    """
    try:
        former = recall_record(folder)
        dtype = str(former.config["model"]["dtype"])
    except (InputError, KeyError, TypeError):
        return "auto"
    return dtype if name_run(dtype) == former.run_id else "auto"


def recall_notes(folder: RunFolder, *, run_id: str) -> Sequence[str]:
    """Give the notes that a folder's record has of a run; none where it holds another run, or none that has ended."""
    with suppress(InputError):
        former = recall_record(folder)
        return former.notes if former.run_id == run_id else ()
    return ()


def restore_store(record: RunRecord, *, folder: RunFolder) -> TileStore:
    """Give the tile store of a recorded run."""
    return TileStore(
        folder=folder,
        grid=Grid.from_dict(record.grid),
        content_key=record.content_key,
        shard_size_tiles=int(record.config["tiles"]["shard_size_tiles"]),
        failed_shards={(row, col): why for row, col, why in record.failed_shards},
    )


def restore_answers(record: RunRecord, *, folder: RunFolder) -> AnswerParts:
    """Give the answers of a recorded run."""
    names, outline_names = (
        tuple(sorted(name for name in record.files if name.startswith(prefix))) for prefix in ("answers/", "outlines/")
    )
    return AnswerParts(folder=folder, names=names, outline_names=outline_names, failures=record.failures)

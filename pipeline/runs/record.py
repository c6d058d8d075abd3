"""``run.json``: what a run was made of and what it holds. Written last, so a run that has it is complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from model.errors import InputError
from model.home import ModelFit
from model.interface import ENGINE_VERSION, ModelIdentity
from model.redaction import redact_values
from model.sealing import seal, unseal
from pipeline.answers.contexts import Dates
from pipeline.answers.outlines import OUTLINE_VERSION, choose_outline_kinds
from pipeline.answers.parts import AnswerParts
from pipeline.answers.screening import find_screen
from pipeline.config.run import RunConfig, describe_settings, list_report_settings
from pipeline.findings.coverage import Coverage
from pipeline.report.result import Report
from pipeline.runs.record_form import check_record
from pipeline.runs.versions import list_versions
from pipeline.scenes.pair import ScenePair
from pipeline.summary import StageSummary
from pipeline.tiles.select import SELECTION_VERSION
from pipeline.tiles.store import TileStore

RECORD_NAME = "run.json"

FORMAT_VERSION = 1
"""Raised when a field of the record changes its meaning or goes away."""


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
    """Versions of Python and of the packages that shape the result, and under code a hash of this program."""
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
    zone_counts: Mapping[str, int] = field(default_factory=dict)
    """Zones per status; empty without zones."""
    reviews: Mapping[str, Any] | None = None
    """How far people have reviewed the report, as `ReviewSummary.to_dict` gives it; None: not at all."""
    failed_shards: Sequence[tuple[int, int, str]]
    """Row and column of shards of the tile store that could not be written, and why."""
    gaps: Sequence[tuple[int, int, str]] = ()
    """Row and column of shards that are made without a scene that could not be read there, and which and why."""
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
        """Tell whether two records, both read from JSON, differ at most in what their stages had left to do."""
        return replace(self, stages=()) == replace(other, stages=())

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
            check_record(values)
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
        config.model.precision,
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
        versions=list_versions(),
        status_counts=dict(report.status_counts),
        reason_counts={status: dict(counts) for status, counts in report.reason_counts.items()},
        ground_m2=dict(report.coverage.ground_m2),
        seen_fraction=round(report.coverage.seen_fraction, 6),
        notes=list(report.notes),
        changed_tile_count=report.changed_tile_count,
        change_counts=dict(report.change_counts),
        left_out_counts=dict(report.left_out_counts),
        thing_counts=dict(report.thing_counts),
        zone_counts=dict(report.zone_counts),
        reviews=report.reviews.to_dict() if report.reviews is not None else None,
        failed_shards=[(row, col, why) for (row, col), why in sorted(store.failed_shards.items())],
        gaps=[(row, col, why) for (row, col), why in sorted(store.gaps.items())],
        failures=dict(answers.failures),
        files={**report.files, **answers.describe()},
        stages=[stage.to_dict() for stage in stages],
    )

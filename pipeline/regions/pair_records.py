"""What a region's folder keeps of its pairs: a record beside each run, from which everything else is found again.

``pairs/<pair_id>/`` is an ordinary run folder, ``blocks/<block_id>/pairs/<pair_id>/`` is one in a region of several
blocks. ``plans/<pair_id>.json`` is written before the run begins and tells
which scenes are meant; it is written again when the pair has failed, or when its folder is let go of.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from model.errors import InputError
from model.sealing import seal, unseal
from pipeline.config.loading import RECORDED
from pipeline.config.run import RunConfig
from pipeline.config.scene import list_uris
from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.dates import DatedScene
from pipeline.regions.pairs import RegionPair
from pipeline.runs.record import RECORD_NAME, RunRecord
from pipeline.runs.record_files import PENDING_NAME
from pipeline.scenes.pair import make_block
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import ObjectFacts, describe_bytes
from pipeline.storage.opening import find_folder

PAIRS_FOLDER = "pairs"
BLOCKS_FOLDER = "blocks"
PLANS_FOLDER = "plans"
_LISTERS = 16
FORMAT_VERSION = 1
"""Raised when a field of a pair's record changes its meaning or goes away."""


class PairStatus(StrEnum):
    """What became of a pair."""

    PLANNED = "planned"
    """It was begun and did not end: the next pass goes on with it."""
    DONE = "done"
    """It has a report."""
    PARTLY_FAILED = "partly_failed"
    """It has a report in which some tiles failed, or one of its scenes had lost a part."""
    FAILED = "failed"
    """It has no report."""


@dataclass(frozen=True, kw_only=True)
class PairRecord:
    """The content of ``plans/<pair_id>.json``."""

    pair: RegionPair
    """The scenes."""
    cell: str
    """Key of the place: area of interest and grid."""
    settings: str
    """Key of the settings that shape the answers."""
    planned_at: str
    """When the pair was first planned, ISO 8601, UTC; of several pairs of the same scenes the latest counts."""
    attempts: int = 0
    """Passes that have tried it."""
    reason: str | None = None
    """Why the last of them failed; None: none did."""
    figures: Mapping[str, Any] | None = None
    """What the run's record told, kept once the folder is let go of; None while the folder is there."""
    block: LatticeBlock | None = None
    """The block that it is of; None in a region that is a single one."""

    def to_json(self) -> bytes:
        """Give the file's content."""
        values = {"format_version": FORMAT_VERSION, **asdict(self), "pair": self.pair.to_dict()}
        if self.block is None:
            del values["block"]
        return json.dumps(seal(values), indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, source: str) -> Self:
        """Read a record.

        Raises:
            InputError: this is none, or one of another version.
        """
        try:
            values = unseal(data)
            version = values.pop("format_version")
            if version != FORMAT_VERSION:
                raise ValueError(f"format_version {version}")
            block = LatticeBlock.from_dict(values["block"]) if "block" in values else None
            return cls(**{**values, "pair": RegionPair.from_dict(values["pair"]), "block": block})
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise InputError(
                f"{source} cannot be read ({problem})",
                expected=f"the record of a pair, of format_version {FORMAT_VERSION}",
                remedy="delete it: the next pass plans the pair again and uses what its folder holds",
            ) from None

    @property
    def name(self) -> str:
        """Name of the file in the region's folder."""
        return f"{PLANS_FOLDER}/{self.pair.pair_id}.json"

    @property
    def run_name(self) -> str:
        """Name of the run's folder in the region's folder."""
        return f"{name_pairs_folder(self.block)}/{self.pair.pair_id}"

    @property
    def key(self) -> tuple[object, ...]:
        """Which scenes of which block these are, however they were processed and whatever was asked."""
        return self.block_id, *self.pair.key

    @property
    def block_id(self) -> str | None:
        """Name of the block; None in a region that is a single one."""
        return None if self.block is None else self.block.block_id


def name_pairs_folder(block: LatticeBlock | None) -> str:
    """Name the folder of a block's runs in the region's folder; that of a region that is a single block has no id."""
    return PAIRS_FOLDER if block is None else f"{BLOCKS_FOLDER}/{block.block_id}/{PAIRS_FOLDER}"


@dataclass(frozen=True, kw_only=True)
class PairState:
    """A pair as the region's folder shows it."""

    record: PairRecord
    """What was planned."""
    status: PairStatus
    """What became of it."""
    reason: str | None
    """Why it failed, failed in part, or has no whole report for now; None: none of these."""
    figures: Mapping[str, Any] | None
    """What its run's record tells as `find_figures` takes it; None without a result."""
    has_folder: bool
    """Whether the run's report is there, rather than let go of."""
    files: Mapping[str, ObjectFacts] = field(default_factory=dict)
    """Size and sha256 of the run's files by name in its folder, as its record tells."""

    @property
    def pair_id(self) -> str:
        """Name of the pair."""
        return self.record.pair.pair_id

    @property
    def has_result(self) -> bool:
        """Whether it has told of changes."""
        return self.status in (PairStatus.DONE, PairStatus.PARTLY_FAILED)

    def needs_work(self, *, max_attempts: int) -> bool:
        """Tell whether a pass has something to do on it."""
        if self.status is PairStatus.DONE or (self.has_result and not self.has_folder):
            return False
        return self.record.attempts < max_attempts


def read_states(folder: RunFolder) -> list[PairState]:
    """Find all pairs of a region, from its folder alone, in the order of their names.

    Raises:
        InputError: a record cannot be read.
    """
    names = [name for name in folder.list_names(PLANS_FOLDER) if name.endswith(".json")]
    records = [
        PairRecord.from_json(data, source=folder.join(name))
        for name, data in zip(names, folder.read_many(names), strict=True)
        if data is not None
    ]
    records += _restore_records(folder, known={record.pair.pair_id for record in records})
    records.sort(key=lambda record: record.pair.pair_id)
    runs = folder.read_many(f"{record.run_name}/{RECORD_NAME}" for record in records)
    states = (_read_state(record, run=run) for record, run in zip(records, runs, strict=True))
    return [_explain_pending(state, folder=folder) for state in states]


def _restore_records(folder: RunFolder, *, known: Set[str]) -> Iterator[PairRecord]:
    """Make records of finished runs that have lost theirs, out of what the run's own record tells."""
    places = [PAIRS_FOLDER]
    places += [f"{BLOCKS_FOLDER}/{block_id}/{PAIRS_FOLDER}" for block_id in sorted(_list_below(folder, BLOCKS_FOLDER))]
    with ThreadPoolExecutor(_LISTERS, thread_name_prefix="list") as listers:
        # A store tells of one folder at a time, and a country has a thousand blocks.
        found = list(listers.map(lambda place: _list_below(folder, place), places))
    for place, names in zip(places, found, strict=True):
        yield from _restore_lost(folder, place=place, pair_ids=sorted(names - known))


def _list_below(folder: RunFolder, name: str) -> Set[str]:
    """Name what lies directly in a folder of the region; nothing where it is not there."""
    folder.check_plain(name)
    below = find_folder(folder.join(name), retry_timeout_s=folder.retry_timeout_s)
    return below.list_top() if below.is_remote or Path(below.uri).is_dir() else frozenset()


def _restore_lost(folder: RunFolder, *, place: str, pair_ids: Sequence[str]) -> Iterator[PairRecord]:
    pairs = find_folder(folder.join(place), retry_timeout_s=folder.retry_timeout_s)
    for pair_id in pair_ids:
        try:
            run = RunRecord.from_json(pairs.read(f"{pair_id}/{RECORD_NAME}"), source=pairs.join(pair_id))
            block = _restore_block(run)
            scenes = {date: _restore_scene(run, date=date) for date in ("before", "after")}
        except (FileNotFoundError, InputError, KeyError, TypeError, ValueError):
            # One that did not end: if its scenes are still wanted, the pass plans it again.
            continue
        if name_pairs_folder(block) != place:
            continue
        # Cell and settings are in the hash of the name alone: none that are asked for are equal to these.
        pair = RegionPair(pair_id=pair_id, **scenes)
        yield PairRecord(pair=pair, cell="", settings="", planned_at="", attempts=1, block=block)


def _restore_block(run: RunRecord) -> LatticeBlock | None:
    if run.config.get("block") is None:
        return None
    return make_block(RunConfig.model_validate(run.config, context=RECORDED))


def _restore_scene(run: RunRecord, *, date: str) -> DatedScene:
    told, stac = run.inputs[date], run.config[date]["stac"] or {}
    pieces = stac.get("ids") or [Path(uri).name for uri in list_uris(run.config[date]["uri"])]
    moments = told.get("composite", {}).get("dates", [])
    return DatedScene(
        scene_id=_name_pieces(pieces),
        start=dt.datetime.fromisoformat(told["datetime"]),
        piece_ids=tuple(sorted(pieces)),
        version="",
        collection=next(iter(stac.get("collections") or ()), None),
        dates=tuple(
            DatedScene(
                scene_id=each["scene_id"],
                start=dt.datetime.fromisoformat(each["datetime"]),
                piece_ids=(each["scene_id"],),
                version="",
            )
            for each in moments
        ),
    )


def _name_pieces(pieces: Sequence[str]) -> str:
    return min(pieces) + (f" and {len(pieces) - 1} more" if pieces[1:] else "")


def open_pair_folder(region: RunFolder, record: PairRecord) -> RunFolder:
    """Give the folder of a pair's run, whether it is there or not.

    Raises:
        FolderError: it is a link, or lies behind one.
    """
    region.check_plain(record.run_name)
    return find_folder(region.join(record.run_name), retry_timeout_s=region.retry_timeout_s)


def read_report_file(state: PairState, name: str, *, folder: RunFolder) -> bytes:
    """Read a file of the report of a pair's run.

    Args:
        state: The pair, whose run is there.
        name: Name in the run's folder.
        folder: Folder of the region.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is not what the run has written.
    """
    data = folder.read(f"{state.record.run_name}/{name}")
    if name in state.files and describe_bytes(data) != state.files[name]:
        run = folder.join(state.record.run_name)
        raise InputError(
            f"{run}/{name} is not what was written there: its sha256 is not that in {RECORD_NAME}",
            expected="a report that is whole",
            remedy=f"make it again with `deltavlm report {run}`, then the same pass again",
        )
    return data


def write_record(record: PairRecord, *, folder: RunFolder) -> None:
    """Put the record of a pair."""
    folder.put(record.name, record.to_json())


def take_current(states: Sequence[PairState]) -> Iterator[PairState]:
    """Give of the pairs of the same scenes the one that counts: with a result, and of these the latest planned."""
    best: dict[object, PairState] = {}
    for state in sorted(states, key=_rank_state):
        best[state.record.key] = state
    yield from sorted(best.values(), key=lambda state: _rank_time(state.record.pair))


def _rank_state(state: PairState) -> tuple[bool, str, str]:
    return state.has_result, state.record.planned_at, state.pair_id


def _rank_time(pair: RegionPair) -> tuple[object, ...]:
    return pair.after.start, pair.before.start, pair.pair_id


def _read_state(record: PairRecord, *, run: bytes | None) -> PairState:
    figures, reason = record.figures, record.reason
    files: Mapping[str, ObjectFacts] = {}
    if run is not None:
        try:
            told = RunRecord.from_json(run, source=f"{record.run_name}/{RECORD_NAME}")
        except InputError as problem:
            return PairState(
                record=record, status=PairStatus.FAILED, reason=str(problem), figures=None, has_folder=False
            )
        figures, files = find_figures(told), {name: dict(facts) for name, facts in told.files.items()}
        reason = reason or _find_gap(record.pair, told) or _find_failure(told)
    if figures is None:
        status = PairStatus.FAILED if record.reason is not None else PairStatus.PLANNED
    else:
        status = PairStatus.DONE if reason is None else PairStatus.PARTLY_FAILED
    return PairState(
        record=record, status=status, reason=reason, figures=figures, has_folder=run is not None, files=files
    )


def _explain_pending(state: PairState, *, folder: RunFolder) -> PairState:
    """Tell of a pair that had a result why it has none now, if its report was being made anew when that stopped."""
    is_told = state.figures is not None or state.reason is not None
    if is_told or not folder.has(f"{state.record.run_name}/{PENDING_NAME}"):
        return state
    words = "its report is being made anew, or that was stopped half-way"
    # Named within the region: its tables do not depend on where it lies.
    return replace(state, reason=f"{words}; `deltavlm report` on {state.record.run_name} makes it again")


def find_figures(run: RunRecord) -> dict[str, Any]:
    """Give what a region's time line takes from the record of a run."""
    return {
        "status_counts": dict(run.status_counts),
        "ground_m2": dict(run.ground_m2),
        "changed_tile_count": run.changed_tile_count,
        "withheld_counts": dict(run.withheld_counts),
        "notes": list(run.notes),
        "thing_counts": dict(run.thing_counts),
    }


def _find_gap(pair: RegionPair, run: RunRecord) -> str | None:
    """Tell which date was read from fewer pieces than planned: some vanish in between, some while they are read."""
    for date, scene in (("before", pair.before), ("after", pair.after)):
        n_read = len(run.inputs[date]["parts"])
        if n_read < len(scene.piece_ids):
            return f"{date}: only {n_read} of {len(scene.piece_ids)} parts of {scene.scene_id} were there to be read"
    if run.gaps:
        return f"{len(run.gaps)} shards lack a scene that could not be read there; the first {run.gaps[0][2]}"
    return None


def _find_failure(run: RunRecord) -> str | None:
    n_failed = run.status_counts.get("failed", 0)
    return f"{n_failed} tiles failed; the run's report says why" if n_failed else None


def retire(record: PairRecord, *, state: PairState) -> PairRecord:
    """Give the record that stands for a pair whose folder goes."""
    return replace(record, figures=dict(state.figures or {}), reason=state.reason)

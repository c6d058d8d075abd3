"""Makes pairs with masks of what people have settled in runs and regions: to learn from, and to measure by."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from model.errors import InputError, refuse_unwritable
from model.pairs.facts import measure_mask
from model.pairs.told_facts import FACTS_NAME
from pipeline.regions.event_words import read_event_words
from pipeline.regions.pair_records import open_pair_folder, read_states, take_current
from pipeline.regions.record import REGION_NAME
from pipeline.runs.record_files import read_record
from pipeline.runs.reviewed_tiles import RunTruth, read_run_truth
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import find_run_folder
from pipeline.training_data.reviewed_tiles import SettledTile, draw_settled, find_seen_ground
from pipeline.training_data.scenes import make_folder
from pipeline.training_data.sides import Side, bring_to_squares, choose_sides
from pipeline.training_data.truth_tiles import write_png

ORIGIN_NAME = "origin.json"
"""File that tells what the pairs were made of."""
FORMAT_VERSION = 1
"""Raised when a field of `ORIGIN_NAME` changes its meaning or goes away."""
SQUARE_TILES = 4
"""Side of a square in tiles, where it is not given."""

_PARTS = ("A", "B", "label")
ProgressCallback = Callable[[int, int], None]
"""Is told how many tiles are written, of how many."""


@dataclass(frozen=True, kw_only=True)
class ReviewedPairsSettings:
    """How reviews become pairs."""

    square_m: float | None = None
    """Side of the squares that the ground is parted by, in metres; None: `SQUARE_TILES` tiles."""
    val_fraction: float = 0.2
    """Part of the squares that is held out."""
    seed: int = 0
    """Another one holds out other squares."""
    drawn_kind: str = "building"
    """What was drawn without a word about its kind is: building or road."""


@dataclass(frozen=True, kw_only=True)
class ReviewedPairs:
    """What was written."""

    n_train: int
    """Pairs to learn from."""
    n_train_changed: int
    """Those of them that hold a change."""
    n_val: int
    """Pairs that are held out."""
    n_val_changed: int
    n_gap: int
    """Tiles beside the held out squares, which share ground with what is held out."""
    n_left_out: int
    """Tiles that people have touched and that are open."""
    left_out: dict[str, int]
    """Why, most first."""
    square_m: float
    """Side of a square in metres."""
    notes: list[str]
    """What there is to know about the reviews."""


def write_reviewed_pairs(
    places: Sequence[str],
    folder: Path,
    *,
    settings: ReviewedPairsSettings,
    on_tile: ProgressCallback | None = None,
) -> ReviewedPairs:
    """Write what people have settled as ``{train,val}/{A,B,label}``, whole or not at all.

    Args:
        places: Folders of finished runs and of regions, on disk or in a bucket.
        folder: Where the pairs go; there is nothing yet.
        settings: How reviews become pairs.
        on_tile: Is told how far it is.

    Raises:
        InputError: there are no reviews, or none that settle a tile; the folder exists, or cannot be written to.
    """
    _check_new(folder)
    truths = _read_truths(places, drawn_kind=settings.drawn_kind)
    return write_truths(truths, folder, settings=settings, on_tile=on_tile)


def write_truths(
    truths: Sequence[RunTruth],
    folder: Path,
    *,
    settings: ReviewedPairsSettings,
    on_tile: ProgressCallback | None = None,
) -> ReviewedPairs:
    """Write the settled tiles of some runs likewise.

    Raises:
        InputError: all lie in one place, pixels are gone, or the folder cannot be written to.
    """
    square_m = settings.square_m or SQUARE_TILES * max(
        truth.store.grid.tile_size_px * truth.store.grid.ground_resolution_m for truth in truths
    )
    grounds = [ground for truth in truths for ground in _bring_grounds(truth)]
    sides = choose_sides(grounds, square_m=square_m, val_fraction=settings.val_fraction, seed=settings.seed)
    made = _count(truths, sides=sides, square_m=square_m)
    origin = {
        "format_version": FORMAT_VERSION,
        "runs": [{"run_id": truth.run_id, "n_tiles": len(truth.tiles)} for truth in truths],
        **asdict(settings),
        **asdict(made),
    }
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".from-reviews-") as name:
        draft = Path(name) / "pairs"
        _write_pairs(truths, sides=sides, folder=draft, on_tile=on_tile)
        with refuse_unwritable(folder):
            (draft / ORIGIN_NAME).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
            draft.replace(folder)
    return made


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is there already",
            expected="a folder that is new or empty: pairs of two takings of reviews would be on both sides",
            remedy="give another --output, or take it away",
        )


def _read_truths(places: Sequence[str], *, drawn_kind: str) -> list[RunTruth]:
    """Read what was settled of all runs.

    Raises:
        InputError: a place has no reviews that hold, a run comes twice, or no tile is settled.
    """
    truths: dict[str, RunTruth] = {}
    for place in places:
        for truth in _read_place(place, drawn_kind=drawn_kind):
            if truth.run_id in truths:
                raise InputError(
                    f"run {truth.run_id} comes twice, the second time by {place}",
                    expected="each run once",
                    remedy="name a region or the folders of its pairs, and no folder twice",
                )
            truths[truth.run_id] = truth
    if not any(truth.tiles for truth in truths.values()):
        left_out = _add_reasons(truths.values())
        why = "; ".join(f"{n} tiles: {reason}" for reason, n in left_out.most_common(3)) or "they speak of no tile"
        raise InputError(
            f"the reviews of {', '.join(places)} settle no tile ({why})",
            expected="tiles in which every change was found right or wrong, or drawn",
            remedy="review on with `deltavlm explore`; docs/review.md tells which tiles are taken",
        )
    return list(truths.values())


def _read_place(place: str, *, drawn_kind: str) -> list[RunTruth]:
    folder = find_run_folder(place)
    if folder.has(REGION_NAME):
        found = list(_read_region(folder, drawn_kind=drawn_kind))
    else:
        found = [(read_run_truth(read_record(folder), folder=folder, drawn_kind=drawn_kind), 0)]
    n_reviews = sum(truth.n_reviews + n_of_events for truth, n_of_events in found)
    if not n_reviews:
        notes = "; ".join(sorted({note for truth, _ in found for note in truth.notes}))
        raise InputError(
            f"{place} has no reviews" + (f" that speak of it ({notes})" if notes else ""),
            expected="a run or a region that people have reviewed",
            remedy=f"review it with `deltavlm explore {place}`",
        )
    return [truth for truth, _ in found]


def _read_region(folder: RunFolder, *, drawn_kind: str) -> Iterator[tuple[RunTruth, int]]:
    """Give what was settled of each pair whose run is there, and how many of its changes by reviews of events."""
    states = [state for state in take_current(read_states(folder)) if state.has_result and state.has_folder]
    words = read_event_words(folder, states=states)
    for state in states:
        run = open_pair_folder(folder, state.record)
        own = words.of_pairs[state.pair_id]
        truth = read_run_truth(read_record(run), folder=run, drawn_kind=drawn_kind, others=own)
        yield replace(truth, notes=[*truth.notes, *words.notes]), len(own.settled) + len(own.missed)


def _bring_grounds(truth: RunTruth) -> list[shapely.Geometry]:
    grid = truth.store.grid
    return bring_to_squares([find_seen_ground(grid, row=t.row, col=t.col) for t in truth.tiles], crs=grid.crs)


def _count(truths: Sequence[RunTruth], *, sides: Sequence[Side], square_m: float) -> ReviewedPairs:
    changed = [bool(tile.shapes) for truth in truths for tile in truth.tiles]
    numbers = Counter(zip(sides, changed, strict=True))
    left_out = _add_reasons(truths)
    return ReviewedPairs(
        n_train=sum(numbers[Side.TRAIN, is_changed] for is_changed in (False, True)),
        n_train_changed=numbers[Side.TRAIN, True],
        n_val=sum(numbers[Side.VAL, is_changed] for is_changed in (False, True)),
        n_val_changed=numbers[Side.VAL, True],
        n_gap=sum(numbers[Side.GAP, is_changed] for is_changed in (False, True)),
        n_left_out=left_out.total(),
        left_out=dict(left_out.most_common()),
        square_m=square_m,
        notes=sorted({note for truth in truths for note in truth.notes}),
    )


def _add_reasons(truths: Iterable[RunTruth]) -> Counter[str]:
    return sum((truth.left_out for truth in truths), Counter[str]())


def _write_pairs(
    truths: Sequence[RunTruth], *, sides: Sequence[Side], folder: Path, on_tile: ProgressCallback | None
) -> None:
    facts: dict[Side, list[str]] = {Side.TRAIN: [], Side.VAL: []}
    for side in facts:
        for part in _PARTS:
            make_folder(folder / side / part)
    for at, (side, (name, truth, tile, pixels)) in enumerate(zip(sides, _read_all(truths), strict=True)):
        if side in facts:
            facts[side].append(_write_pair(tile, pixels, truth=truth, name=name, folder=folder / side))
        if on_tile is not None:
            on_tile(at + 1, len(sides))
    for side, lines in facts.items():
        with refuse_unwritable(folder):
            (folder / side / FACTS_NAME).write_text("".join(lines), encoding="utf-8")


def _read_all(truths: Sequence[RunTruth]) -> Iterator[tuple[str, RunTruth, SettledTile, npt.NDArray[np.uint8]]]:
    for truth in truths:
        try:
            for tile, pixels in truth.read():
                yield f"{truth.run_id}_{tile.tile_id}", truth, tile, pixels
        except FileNotFoundError:
            raise InputError(
                f"the pixels of run {truth.run_id} are gone",
                expected="the tile store that the run has left",
                remedy="run `deltavlm run` again with its --output: it writes what is missing",
            ) from None


def _write_pair(tile: SettledTile, pixels: npt.NDArray[np.uint8], *, truth: RunTruth, name: str, folder: Path) -> str:
    """Write the pictures and the mask of a tile; gives its line of facts."""
    mask = draw_settled(tile, grid=truth.store.grid)
    # Where a date shows nothing, both are black, and nothing is to be learned there.
    mask[~pixels.any(axis=(0, 1))] = 0
    before, after = (np.ascontiguousarray(np.moveaxis(date, 0, -1)) for date in pixels)
    for part, image in zip(_PARTS, (before, after, mask), strict=True):
        write_png(image, folder / part / f"{name}.png")
    measured = measure_mask(mask, has_road_truth=tile.has_road_truth, is_removal=tile.is_removal)
    return json.dumps({"name": name, "has_road_truth": tile.has_road_truth, **asdict(measured)}) + "\n"

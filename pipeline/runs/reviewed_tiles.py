"""What people have settled of a run, tile by tile, as `pipeline.training_data.reviewed_tiles` decides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from pipeline.accuracy.agreement import settle_tile
from pipeline.accuracy.assess import sort_reviews
from pipeline.reviews.review import Review, Subject, Verdict
from pipeline.reviews.settle import Settled, settle_reviews
from pipeline.reviews.store import read_reviews
from pipeline.runs.read import read_table
from pipeline.runs.record import RunRecord
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.training_data.reviewed_tiles import ReviewedLook, SettledTile, TileWord, TrueShape, settle_tiles

_TILES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class OtherWords:
    """What people have said elsewhere that holds for a run, too: of the events of its region."""

    settled: Mapping[str, Settled] = field(default_factory=dict)
    """By ``change_id``."""
    missed: Sequence[shapely.Geometry] = ()
    """What they have drawn on the run's pictures, in longitude and latitude."""
    unclear: Sequence[shapely.Geometry] = ()
    """What they have drawn on others' pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTruth:
    """The tiles of a run that people have settled, and their pixels."""

    run_id: str
    store: TileStore
    tiles: Sequence[SettledTile]
    left_out: Counter[str]
    """Tiles that people have touched and that are open, by why."""
    n_reviews: int
    """Reviews that speak of the run."""
    notes: Sequence[str]
    """What there is to know about its reviews."""

    def read(self) -> Iterator[tuple[SettledTile, npt.NDArray[np.uint8]]]:
        """Give each tile with the pixels that its model saw, uint8 (date=2, band=3, y, x).

        Raises:
            FileNotFoundError: there is no tile store.
            FolderError: it cannot be read.
        """
        for start in range(0, len(self.tiles), _TILES_AT_ONCE):
            some = self.tiles[start : start + _TILES_AT_ONCE]
            asked = [
                Tile(row=each.row, col=each.col, tile_id=each.tile_id, valid_fraction=1.0, status=None, reason="")
                for each in some
            ]
            yield from zip(some, self.store.read_pairs(asked), strict=True)


def read_run_truth(
    record: RunRecord, *, folder: RunFolder, drawn_kind: str, others: OtherWords | None = None
) -> RunTruth:
    """Read what people have settled of a finished run.

    Args:
        record: Its record.
        folder: Its folder.
        drawn_kind: What was drawn without a word about its kind is: building or road.
        others: What was said of its region's events.

    Raises:
        InputError: its report cannot be read.
    """
    others = others or OtherWords()
    store = restore_store(record, folder=folder)
    tiles, changes = read_table(folder, TILES_NAME), read_table(folder, CHANGES_NAME)
    known = {Subject.TILE: set(tiles["tile_id"]), Subject.CHANGE: set(changes["change_id"])}
    reviews, notes = sort_reviews(read_reviews(folder), run_id=record.run_id, known=known)
    crs = store.grid.crs
    look = ReviewedLook(
        grid=store.grid,
        tiles=tiles[["tile_id", "row", "col", "is_changed"]],
        changes=changes.to_crs(crs),
        # The region's word comes later: it was said by whoever saw all dates.
        settled={**settle_reviews(reviews, subject=Subject.CHANGE), **others.settled},
        words=_settle_words(reviews),
        drawn=_join_drawn([*_list_drawn(reviews, kind=drawn_kind), *((drawn_kind, s) for s in others.missed)], crs=crs),
        unclear=_bring(others.unclear, crs=crs),
    )
    settled, left_out = settle_tiles(look)
    return RunTruth(
        run_id=record.run_id,
        store=store,
        tiles=settled,
        left_out=left_out,
        n_reviews=len(reviews),
        notes=notes,
    )


def _settle_words(reviews: Sequence[Review]) -> dict[str, TileWord]:
    """Give what holds of whole tiles; who gives a verdict on one without saying whether it changed tells nothing."""
    by_tile: dict[str, list[Review]] = {}
    for review in reviews:
        is_told = review.is_changed is not None or review.verdict is Verdict.UNSURE
        if review.subject is Subject.TILE and is_told:
            by_tile.setdefault(review.subject_id, []).append(review)
    truths = {tile_id: settle_tile(said) for tile_id, said in by_tile.items()}
    return {
        tile_id: TileWord(
            is_changed=truth.is_changed,
            counts={kind: count for kind, count in truth.counts.items() if count is not None},
        )
        for tile_id, truth in truths.items()
    }


def _list_drawn(reviews: Sequence[Review], *, kind: str) -> Iterator[tuple[str, shapely.Geometry]]:
    """Give what was drawn as missed with its kind: that of which alone something was counted in the tile, if any."""
    for review in reviews:
        if review.missed is not None:
            counted = [name for name, count in review.counts.items() if count]
            yield (counted[0] if len(counted) == 1 else kind), review.missed


def _join_drawn(drawn: Sequence[tuple[str, shapely.Geometry]], *, crs: str) -> list[TrueShape]:
    """Give each thing that was drawn once, whoever has drawn it."""
    joined = []
    for kind in sorted({kind for kind, _ in drawn}):
        shape = shapely.union_all([shape for one, shape in drawn if one == kind])
        parts = _bring(shapely.get_parts(shape), crs=crs)
        joined += [TrueShape(kind=kind, direction=None, geometry=part) for part in parts]
    return joined


def _bring(shapes: Sequence[shapely.Geometry], *, crs: str) -> list[shapely.Geometry]:
    moved: list[shapely.Geometry] = gpd.GeoSeries(list(shapes), crs="OGC:CRS84").to_crs(crs).tolist()
    return moved

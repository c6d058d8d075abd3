"""What there is to review of a run: its changes with their pictures, and its sample's tiles without the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from model.errors import InputError
from pipeline.accuracy.kept import read_sample
from pipeline.findings.changes import rank_changes
from pipeline.grid.window import Window
from pipeline.report.page.map import MapFrame, frame_close_up
from pipeline.report.page.pictures import PicturePair, find_visible, read_pictures
from pipeline.reviews.review import Review, Subject, Verdict
from pipeline.runs.read import read_table
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.tiles.store import TileStore

MAX_REVIEWED_CHANGES = 20_000
"""Changes that are offered for review; of more, the largest."""
MAX_PICTURE_PX = 1_024
"""Longest side of a picture for review."""

ItemKey = tuple[Subject, str]
"""What a thing is, and which."""
Rings = Sequence[Sequence[tuple[float, float]]]
"""Corners of polygons as columns and rows, counted in the grid's pixels from the upper left of a window."""

_TOLD = ("kind", "area_m2", "confidence", "description")


@dataclass(frozen=True, kw_only=True)
class ReviewHome:
    """Where the reviews of something are kept, and what they speak of."""

    folder: RunFolder
    """Folder of the run or the region."""
    run_id: str
    """The run, or the region's name."""
    model_id: str
    """Model that answered."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewGround:
    """The pixels of a run, to be looked at."""

    store: TileStore
    """Its tile store."""
    is_visible: npt.NDArray[np.bool_]
    """What `find_visible` gave."""

    @classmethod
    def open(cls, record: RunRecord, *, folder: RunFolder, tiles: pd.DataFrame) -> Self:
        """Find the pixels of a run.

        Args:
            record: Its record.
            folder: Its folder.
            tiles: Columns ``row``, ``col`` and ``valid_fraction`` of its tiles.
        """
        store = restore_store(record, folder=folder)
        return cls(store=store, is_visible=find_visible(tiles, grid=store.grid))

    def read(self, window: Window) -> PicturePair:
        """Read a part of it at both dates.

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read.
        """
        return read_pictures(self.store, is_visible=self.is_visible, window=window, max_size_px=MAX_PICTURE_PX)

    def locate(self, rings: Rings, *, window: Window) -> shapely.Geometry:
        """Give what was drawn on a picture in longitude and latitude.

        Raises:
            InputError: a corner lies beyond the picture.
        """
        polygons = []
        for ring in rings:
            corners = np.asarray(ring, dtype=np.float64)
            if not ((corners >= 0) & (corners <= (window.width, window.height))).all():
                raise InputError(
                    "a shape reaches beyond the picture",
                    expected=f"columns from 0 to {window.width} and rows from 0 to {window.height}",
                    remedy="draw it again",
                )
            a, b, c, d, e, f = self.store.grid.move(window.top, window.left).transform[:6]
            cols, rows = corners.T
            xs, ys = a * cols + b * rows + c, d * cols + e * rows + f
            polygons.append(shapely.Polygon(np.column_stack(self._find_way("OGC:CRS84").transform(xs, ys))))
        # Boxes over each other are one place, and a line that crosses itself is a shape as well.
        return shapely.union_all(shapely.make_valid(polygons, method="structure", keep_collapsed=False))

    def place(self, shape: shapely.Geometry, *, window: Window) -> list[list[tuple[float, float]]]:
        """Give the outlines of a shape in longitude and latitude as they lie on a picture."""
        way, frame = self._find_way("OGC:CRS84"), MapFrame(grid=self.store.grid)
        rings = []
        for part in shapely.get_parts(shape):
            lons, lats = shapely.get_coordinates(part.exterior).T
            cols, rows = frame.to_pixel(*way.transform(lons, lats, direction="INVERSE"))
            rings.append(list(zip((cols - window.left).tolist(), (rows - window.top).tolist(), strict=True)))
        return rings

    def _find_way(self, target: str) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(self.store.grid.crs, target, always_xy=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewItem:
    """One thing that people look at."""

    home: ReviewHome
    """Where its reviews go."""
    subject: Subject
    """What it is."""
    subject_id: str
    """Which."""
    ground: ReviewGround
    """Pixels that show it."""
    window: Window
    """Part of them that is shown."""
    shape: shapely.Geometry | None = None
    """Its outline in the grid's CRS; None: none is shown, as of tiles of a sample."""
    told: Mapping[str, Any]
    """What is told of it; nothing, of a tile of a sample."""
    is_changed: bool | None = None
    """What the model says of a tile of a sample, which is shown to nobody."""

    @property
    def key(self) -> ItemKey:
        """What it is, and which."""
        return self.subject, self.subject_id

    @property
    def is_blind(self) -> bool:
        """Whether people look at it without the model's answer."""
        return self.subject is Subject.TILE

    @property
    def is_whole(self) -> bool:
        """Whether the picture shows all of it."""
        if self.shape is None:
            return True
        frame = MapFrame(grid=self.ground.store.grid)
        left, bottom, right, top = self.shape.bounds
        (first_col, last_col), (first_row, last_row) = frame.to_pixel(np.array([left, right]), np.array([top, bottom]))
        window = self.window
        is_wide = first_col < window.left - 1 or last_col > window.left + window.width + 1
        return not (is_wide or first_row < window.top - 1 or last_row > window.top + window.height + 1)

    def draw(self) -> str:
        """Give its outline as an SVG path in the pixels of the grid; empty where none is shown."""
        if self.shape is None:
            return ""
        return MapFrame(grid=self.ground.store.grid).draw([self.shape], tolerance_m=0)

    def judge(self, verdict: Verdict | None, *, is_changed: bool | None) -> Verdict:
        """Give the verdict of a person: as told, or of a tile of a sample by what the model says of it.

        Raises:
            InputError: a verdict is told of what is shown without an answer, or none of what is shown with one.
        """
        if self.is_blind == (verdict is not None) or (not self.is_blind and is_changed is not None):
            raise InputError(
                f"{self.subject} {self.subject_id} is judged by {'a verdict' if self.is_blind else 'no verdict'}",
                expected="of a tile whether it changed, of a change or an event a verdict",
                remedy="load the page again",
            )
        if verdict is not None:
            return verdict
        if is_changed is None:
            return Verdict.UNSURE
        return Verdict.RIGHT if is_changed == self.is_changed else Verdict.WRONG


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewBook:
    """All that there is to review of a run or a region."""

    title: str
    """The run's id, or the region's name."""
    items: Mapping[ItemKey, ReviewItem]
    """Changes or events, the largest first, and then the tiles of a sample in its own order."""
    n_left_out: int = 0
    """Things that are not offered: smaller than those that are, or without pixels."""

    def find(self, subject: str, subject_id: str) -> ReviewItem:
        """Find a thing.

        Raises:
            InputError: there is none.
        """
        try:
            return self.items[Subject(subject), subject_id]
        except (KeyError, ValueError):
            raise InputError(
                f"no {subject[:20]!r} {subject_id[:100]!r} to review in {self.title}",
                expected="a change, an event or a tile of the sample of this report",
                remedy="load the page again: the report may have been made anew",
            ) from None

    def list_homes(self) -> list[ReviewHome]:
        """Give the places where reviews of these things are kept, each once."""
        return list({item.home.folder.uri: item.home for item in self.items.values()}.values())

    def choose_own(self, reviews: Sequence[Review], *, home: ReviewHome) -> list[Review]:
        """Give the reviews of a place that speak of these things; of a tile of a sample those that knew no answer."""
        return [
            review
            for review in reviews
            if (item := self.items.get((review.subject, review.subject_id))) is not None
            and item.home.folder.uri == home.folder.uri
            and review.run_id == home.run_id
            and review.is_blind == item.is_blind
        ]


def open_run_book(folder: RunFolder) -> ReviewBook:
    """List what there is to review of a finished run.

    Raises:
        InputError: the folder holds none, or its report cannot be read.
    """
    record = read_record(folder)
    home = ReviewHome(folder=folder, run_id=record.run_id, model_id=record.model["model_id"])
    tiles = read_table(folder, TILES_NAME)
    changes = rank_changes(read_table(folder, CHANGES_NAME))
    ground = ReviewGround.open(record, folder=folder, tiles=tiles)
    items = [*_list_changes(changes.head(MAX_REVIEWED_CHANGES), home=home, ground=ground)]
    items += list_sample(home, ground=ground, tiles=tiles)
    return ReviewBook(
        title=record.run_id,
        items={item.key: item for item in items},
        n_left_out=max(0, len(changes) - MAX_REVIEWED_CHANGES),
    )


def _list_changes(changes: gpd.GeoDataFrame, *, home: ReviewHome, ground: ReviewGround) -> Iterator[ReviewItem]:
    for row in changes.to_dict("records"):
        yield ReviewItem(
            home=home,
            subject=Subject.CHANGE,
            subject_id=row["change_id"],
            ground=ground,
            window=frame_close_up(row["geometry"], grid=ground.store.grid),
            shape=row["geometry"],
            told=describe_told(row),
        )


def describe_told(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Give what is told of a change: kind, area, confidence, words, and the day of its first sighting."""
    told = {name: None if pd.isna(row[name]) else row[name] for name in _TOLD}
    seen = row["first_seen"]
    return told | {
        "confidence": None if told["confidence"] is None else round(float(told["confidence"]), 3),
        "first_seen": None if pd.isna(seen) else seen.date().isoformat(),
    }


def list_sample(home: ReviewHome, *, ground: ReviewGround, tiles: pd.DataFrame) -> Iterator[ReviewItem]:
    """Give the tiles of a run's sample, in its order, which tells nothing; none where none was drawn of this run.

    Raises:
        InputError: the sample is damaged.
    """
    sample = read_sample(home.folder)
    if sample is None or sample.run_id != home.run_id:
        return
    rows: dict[Any, dict[Any, Any]] = tiles.set_index("tile_id")[["row", "col", "is_changed"]].to_dict("index")
    for tile_id in sample.tiles:
        tile = rows.get(tile_id)
        if tile is None or pd.isna(tile["is_changed"]):
            continue
        yield ReviewItem(
            home=home,
            subject=Subject.TILE,
            subject_id=tile_id,
            ground=ground,
            window=ground.store.grid.owned_window(int(tile["row"]), int(tile["col"])),
            told={},
            is_changed=bool(tile["is_changed"]),
        )

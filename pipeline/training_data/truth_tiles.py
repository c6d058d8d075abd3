"""Cuts a georeferenced pair into tiles with change masks, drawn from polygons of what changed.

The tiles are those that a run would look at: the same grid, the same warp. They are written as pictures in the folders
of LEVIR-MCI, ``{split}/{A,B,label}/NAME_r0000_c0000.png``, for people to learn from them what a run should answer.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image
from rasterio.features import rasterize
from rasterio.transform import Affine

from model.errors import InputError, refuse_unwritable
from model.images import CHANGED_VALUE, ROAD_VALUE
from model.whole_files import write_whole
from pipeline.config.run import RunConfig
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.polygons.files import has_shape, read_polygons
from pipeline.scenes.pair import DATES, ScenePair, find_pair
from pipeline.training_data.scenes import make_folder

KIND_COLUMN = "kind"
"""Column of the polygons that tells buildings and roads apart, where there is one of this name."""
MASK_VALUES = {"building": CHANGED_VALUE, "road": ROAD_VALUE}
"""What is drawn for a changed building and a changed road."""
_BEFORE_COLUMN, _AFTER_COLUMN = "is_in_before", "is_in_after"
# ^ of `deltavlm data synthesize`: whether a thing is there on each date
_EDGE_CUTS = 64

ProgressCallback = Callable[[int, int], None]
"""Is told how many tiles are done, of how many."""


@dataclass(frozen=True, kw_only=True)
class TruthPolygons:
    """Polygons of what changed, in the CRS of a grid."""

    trees: Mapping[str, shapely.STRtree]
    """By kind, ``building`` and ``road``; a kind that is absent is one the file does not tell of."""
    n_ignored: int
    """Features of other kinds."""


@dataclass(frozen=True, kw_only=True)
class TruthTiles:
    """What was written for one pair."""

    n_written: int
    has_road_truth: bool
    """Whether the polygons tell of roads; if not, the masks say nothing about them."""
    n_ignored: int
    """Features of other kinds than building and road."""
    skipped: Mapping[str, str]
    """Tiles that were left out, by name, and why."""


def write_truth_tiles(
    config: RunConfig,
    *,
    truth: Path,
    folder: Path,
    name: str,
    kind_column: str | None = None,
    kinds: Mapping[str, str] | None = None,
    on_progress: ProgressCallback | None = None,
) -> TruthTiles:
    """Warp both dates onto the grid of a run, draw the polygons onto it and write every tile.

    A pixel changed where its centre lies in a polygon and both dates show something; buildings cover roads.

    Args:
        config: The two scenes, the grid, and how much of a tile must be seen.
        truth: Polygons of what changed, in any vector file; of a file of `deltavlm data synthesize` what is there on
            one date alone.
        folder: Holds ``A/``, ``B/`` and ``label/``; made where they are not there.
        name: What the tiles' names begin with.
        kind_column: Column that tells buildings and roads apart; left out, `KIND_COLUMN` where there is one, else all
            are buildings.
        kinds: What the column's values stand for, such as ``{"house": "building"}``; left out, the words themselves.
        on_progress: Is told how far it is.

    Raises:
        InputError: the scenes make no pair, the polygons cannot be used, or the folder cannot be written to.
    """
    pair, _ = find_pair(config)
    polygons = read_truth(truth, grid=pair.grid, kind_column=kind_column, kinds=kinds)
    for part in ("A", "B", "label"):
        make_folder(folder / part)
    skipped: dict[str, str] = {}
    n_tiles = pair.grid.n_rows * pair.grid.n_cols
    for index in range(n_tiles):
        row, col = divmod(index, pair.grid.n_cols)
        tile_name = f"{name}_{pair.grid.tile_id(row, col)}"
        before, after, is_valid = _read_tile(pair, row=row, col=col)
        if is_valid.mean() < config.tiles.min_valid_fraction:
            skipped[tile_name] = f"{is_valid.mean():.0%} of it is seen on both dates"
        else:
            mask = draw_mask(polygons, grid=pair.grid, row=row, col=col)
            mask[~is_valid] = 0
            for part, pixels in (("A", before), ("B", after), ("label", mask)):
                write_png(pixels, folder / part / f"{tile_name}.png")
        if on_progress is not None:
            on_progress(index + 1, n_tiles)
    return TruthTiles(
        n_written=n_tiles - len(skipped),
        has_road_truth="road" in polygons.trees,
        n_ignored=polygons.n_ignored,
        skipped=skipped,
    )


def read_truth(
    path: Path, *, grid: Grid, kind_column: str | None = None, kinds: Mapping[str, str] | None = None
) -> TruthPolygons:
    """Read polygons of what changed and bring them into the CRS of a grid.

    Raises:
        InputError: the file cannot be read, has no CRS or no polygons, lacks the column, or names no known kind.
    """
    frame = read_polygons(str(path), key="truth", may_be_none=True)
    frame = frame[has_shape(frame.geometry)]
    named = _name_kinds(frame, path=path, kind_column=kind_column, kinds=kinds)
    told = set(named) or {"building"}
    # ^ No feature at all: polygons of what changed, and nothing did.
    is_change = np.ones(len(frame), bool)
    if {_BEFORE_COLUMN, _AFTER_COLUMN} <= set(frame.columns):
        is_change = (frame[_BEFORE_COLUMN] != frame[_AFTER_COLUMN]).to_numpy(bool)
    shapes = frame.geometry.force_2d().make_valid(method="structure", keep_collapsed=False)
    span = max(*(shapes.total_bounds[2:] - shapes.total_bounds[:2]), 0.0) if len(shapes) else 0.0
    # A long straight edge is a curve in another CRS.
    moved = (shapes.segmentize(span / _EDGE_CUTS) if span > 0 else shapes).to_crs(grid.crs)
    changes = [(name, shape) for name, shape, is_kept in zip(named, moved, is_change, strict=True) if is_kept]
    trees = {
        kind: shapely.STRtree([shape for name, shape in changes if name == kind])
        for kind in MASK_VALUES
        if kind in told
    }
    return TruthPolygons(trees=trees, n_ignored=sum(name not in MASK_VALUES for name, _ in changes))


def draw_mask(polygons: TruthPolygons, *, grid: Grid, row: int, col: int) -> npt.NDArray[np.uint8]:
    """Draw the change mask of one tile: uint8 of shape (y, x); 0, 128 road, 255 building."""
    side = grid.stride_px
    transform = grid.transform @ Affine.translation(col * side, row * side)
    bounds = shapely.box(*grid.tile_bounds(row, col))
    # Later ones are drawn over earlier ones.
    shapes = [
        (shape, MASK_VALUES[kind])
        for kind in ("road", "building")
        if kind in polygons.trees
        for shape in polygons.trees[kind].geometries[polygons.trees[kind].query(bounds, predicate="intersects")]
    ]
    if not shapes:
        return np.zeros((side, side), np.uint8)
    return np.asarray(rasterize(shapes, out_shape=(side, side), transform=transform, dtype="uint8"), np.uint8)


def remove_tiles(images: Path) -> None:
    """Remove the tiles that an earlier call wrote below a folder, and the folders that this leaves empty."""
    for folder in [found for part in ("A", "B", "label") for found in images.glob(f"*/{part}")]:
        for file in folder.glob("*_r[0-9]*_c[0-9]*.png"):
            file.unlink()
        for emptied in (folder, folder.parent):
            if not any(emptied.iterdir()):
                emptied.rmdir()


def _read_tile(
    pair: ScenePair, *, row: int, col: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    side = pair.grid.stride_px
    window = Window(row * side, col * side, side, side)
    blocks = [pair.read_block(date, window=window) for date in DATES]
    before, after = (np.moveaxis(block.pixels, 0, -1) for block in blocks)
    return before, after, blocks[0].is_valid & blocks[1].is_valid


def _name_kinds(
    frame: gpd.GeoDataFrame, *, path: Path, kind_column: str | None, kinds: Mapping[str, str] | None
) -> list[str]:
    """Give each feature ``building``, ``road`` or the word that the file has for it."""
    if kind_column is not None and kind_column not in frame.columns:
        raise InputError(
            f"{path} has no column {kind_column!r}",
            expected=f"one of {', '.join(sorted(set(frame.columns) - {frame.geometry.name})) or 'its columns'}",
            remedy="name the column that tells buildings and roads apart, or none",
        )
    column = kind_column or KIND_COLUMN
    if column not in frame.columns:
        return ["building"] * len(frame)
    words = [str(value).strip().lower() for value in frame[column]]
    named = [dict(kinds).get(word, word) if kinds is not None else word for word in words]
    if named and not set(named) & set(MASK_VALUES):
        found = ", ".join(f"{word} ({count})" for word, count in Counter(words).most_common(5))
        raise InputError(
            f"{path} has the kinds {found} in its column {column!r}",
            expected="building, road or both",
            remedy="say what the kinds stand for, such as --class-values building=house,road=lane",
        )
    return named


def write_png(pixels: npt.NDArray[np.uint8], file: Path) -> None:
    """Write a picture that appears whole under its name or not at all.

    Raises:
        InputError: the place cannot be written to.
    """
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    with refuse_unwritable(file):
        write_whole(file, sink.getvalue())

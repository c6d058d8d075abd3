"""Outlines of tiles become changes: pieces that are one over the seams between tiles are put together, on the map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from model.certainty import Certainty, describe_outlines
from model.instances import name_direction
from pipeline.answers.meaning import may_have_changed
from pipeline.answers.parts import OUTLINES_SCHEMA
from pipeline.findings.joining import label_meeting
from pipeline.findings.reaching import find_meetings, find_reached, unite_reaching
from pipeline.findings.shares import Claims, select_claims, sum_up_shares
from pipeline.grid.cells import BoolArray, FloatArray, IntArray
from pipeline.grid.grid import Grid
from pipeline.grid.projections import compute_area_scale
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus

_ObjectArray = npt.NDArray[np.object_]

_POLYGONS_AT_ONCE = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class OutlinedTiles:
    """The outlines that count: those of tiles whose answers leave a change of that kind open."""

    pieces: pa.Table
    """Columns of `OUTLINES_SCHEMA`, and tile, the place of the tile in the findings; in any order."""

    def find_tiles(self, kind: str, *, findings: pd.DataFrame) -> BoolArray:
        """Tell which tiles have a mask of this kind; all of it may lie on ground of their neighbours."""
        is_outlined = np.zeros(len(findings), dtype=np.bool_)
        is_outlined[self.pieces.filter(pc.field("kind") == kind)["tile"].to_numpy()] = True
        return is_outlined


def gather_outlines(tables: Iterable[pa.Table], *, findings: pd.DataFrame, grid: Grid) -> OutlinedTiles:
    """Take from all outlines those that count.

    Args:
        tables: Tables with the columns of `OUTLINES_SCHEMA`.
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        grid: The grid.
    """
    schema = OUTLINES_SCHEMA.remove_metadata().append(pa.field("tile", pa.int64()))
    kept = [schema.empty_table()]
    place_of_tile: IntArray | None = None
    is_open: dict[str, BoolArray] = {}
    for table in tables:
        if place_of_tile is None:
            # Not before there is any: most of a large region has none, or the whole region.
            place_of_tile, is_open = _place_tiles(findings, grid=grid), _find_open(findings)
        rows, cols = (table[f"first_{axis}_px"].to_numpy() // grid.stride_px for axis in ("row", "col"))
        places, kinds = place_of_tile[rows, cols], table["kind"].to_numpy(zero_copy_only=False)
        is_kept = np.zeros(len(places), dtype=np.bool_)
        for kind, flags in is_open.items():
            is_kept |= (kinds == kind) & (places >= 0) & flags[places]
        placed = table.replace_schema_metadata().append_column("tile", pa.array(places))
        kept.append(placed.cast(schema).filter(pa.array(is_kept)))
    return OutlinedTiles(pieces=pa.concat_tables(kept))


def _place_tiles(findings: pd.DataFrame, *, grid: Grid) -> IntArray:
    """Give the place of each tile in the findings by its row and column; -1 for one that they do not hold."""
    places = np.full((grid.n_rows, grid.n_cols), -1, dtype=np.int64)
    places[findings["row"].to_numpy(dtype=np.int64), findings["col"].to_numpy(dtype=np.int64)] = np.arange(
        len(findings)
    )
    return places


def _find_open(findings: pd.DataFrame) -> dict[str, BoolArray]:
    """Tell per kind of which tiles the answers leave open that something changed."""
    was_seen = findings["status"].isin([TileStatus.ANALYSED.value, TileStatus.UNREADABLE.value]).to_numpy(dtype=bool)
    is_denied = findings["is_changed"].eq(other=False).fillna(value=False).to_numpy(dtype=bool)
    return {
        kind: was_seen
        & may_have_changed(
            is_denied=is_denied,
            cells=pa.array(findings[f"{kind}_cells"], pa.string(), from_pandas=True),
            counts=pa.array(findings[f"{kind}_count"], pa.int32(), from_pandas=True),
        )
        for kind in CHANGE_KINDS
    }


def dissolve_outlines(
    outlined: OutlinedTiles, findings: pd.DataFrame, *, kind: str, grid: Grid, certainty: Certainty | None = None
) -> tuple[dict[str, list[Any]], _ObjectArray]:
    """Join the outlines of one kind over the borders of tiles.

    Args:
        outlined: The outlines that count.
        findings: Rows of `FINDINGS_SCHEMA` that `outlined` was gathered for.
        kind: What changed.
        grid: The grid.
        certainty: What was measured of the model; None: nothing was.

    Returns:
        Columns of `DISSOLVED_SCHEMA`, and the polygons in the grid's CRS, row-major by the tile and the first pixel of
        each change.
    """
    is_wanted = (pc.field("kind") == kind) & (pc.field("n_pixels") > 0)
    names = ("first_row_px", "first_col_px", "n_pixels", "n_seen_pixels", "probability", "peak_probability", "tile")
    table = outlined.pieces.filter(is_wanted)
    rows, cols, sizes, seen, probabilities, peaks, places = (table[name].to_numpy() for name in names)
    is_instance, removed = table["is_instance"].to_numpy(), table["removed_probability"].to_numpy()
    order = np.lexsort((cols, rows, cols // grid.stride_px, rows // grid.stride_px))
    rows, cols, sizes, seen, places = (column[order].astype(np.int64) for column in (rows, cols, sizes, seen, places))
    polygons = _read_polygons(table["geometry"], order=order)
    beyond = _read_polygons(table["beyond"], order=order)
    del table
    meetings = find_meetings(polygons, beyond)
    reached = find_reached(meetings, beyond, is_instance=is_instance[order])
    labels = label_meeting(polygons, grid=grid, is_instance=is_instance[order], reached=reached)
    _, first_pieces = np.unique(labels, return_index=True)
    tile_of_piece, distinct_places = (np.asarray(found, dtype=np.int64) for found in pd.factorize(places))
    tiles = select_claims(findings.iloc[distinct_places], kind=kind)
    seen_of_tile = np.zeros(len(tiles), dtype=np.int64)
    seen_of_tile[tile_of_piece] = seen
    claims = Claims(tiles=tiles, tile_of_part=tile_of_piece, owned=sizes, weights=sizes, seen_of_tile=seen_of_tile)
    corners = zip(rows[first_pieces] % grid.stride_px, cols[first_pieces] % grid.stride_px, strict=True)
    ids = tiles["tile_id"].iloc[tile_of_piece[first_pieces]]
    areas = measure_polygons(polygons, grid=grid)
    united = unite_groups(polygons, labels=labels)
    growth = unite_reaching(united, beyond, meetings=meetings, labels=labels)
    del polygons, beyond, meetings
    sums = sum_up_shares(claims, labels=labels)
    highest = np.zeros(len(first_pieces))
    np.maximum.at(highest, labels, peaks[order].astype(np.float64))
    confidences = _estimate(
        certainty, kind=kind, peaks=highest, n_pixels=np.bincount(labels, weights=sizes), yes=sums.pop("yes"), grid=grid
    )
    columns = {
        "change_id": [f"{kind}_{tile}_y{y:04d}_x{x:04d}" for tile, (y, x) in zip(ids, corners, strict=True)],
        "kind": [kind] * len(first_pieces),
        "change": _name_directions(removed[order], labels=labels, sizes=sizes),
        "area_m2": (np.bincount(labels, weights=areas) * growth).tolist(),
        "cell_count": [None] * len(first_pieces),
        "mask_probability": (
            np.bincount(labels, weights=sizes * probabilities[order].astype(np.float64))
            / np.bincount(labels, weights=sizes)
        ).tolist(),
        "geometry_source": ["outline"] * len(first_pieces),
        "confidence": confidences,
        **sums,
    }
    return columns, place_polygons(united, grid=grid)


def _name_directions(removed: FloatArray, *, labels: IntArray, sizes: IntArray) -> list[str | None]:
    """Tell what became of the ground of each change, by the mean over its pixels; None where a piece does not tell."""
    means = np.bincount(labels, weights=sizes * removed.astype(np.float64)) / np.bincount(labels, weights=sizes)
    return [None if np.isnan(mean) else name_direction(mean).value for mean in means.tolist()]


def _estimate(
    certainty: Certainty | None,
    *,
    kind: str,
    peaks: FloatArray,
    n_pixels: IntArray | FloatArray,
    yes: list[float],
    grid: Grid,
) -> list[float]:
    """Give how probable each change is; NaN where that was not measured.

    What is joined over the borders of tiles is judged as one: by its highest pixel, by all of its area, and by what its
    tiles say, each by its part of that.
    """
    fit = None if certainty is None else certainty.find_outlines(kind)
    if fit is None:
        return [np.nan] * len(peaks)
    features = describe_outlines(peaks=peaks, tile_shares=n_pixels / grid.tile_size_px**2, yes=yes)
    estimated: list[float] = fit.estimate(features).tolist()
    return estimated


def _read_polygons(column: pa.ChunkedArray, *, order: IntArray) -> _ObjectArray:
    polygons = np.empty(len(order), dtype=np.object_)
    for start in range(0, len(order), _POLYGONS_AT_ONCE):
        some = slice(start, start + _POLYGONS_AT_ONCE)
        polygons[some] = shapely.from_wkb(column.take(pa.array(order[some])).to_numpy(zero_copy_only=False))
    return polygons


def unite_groups(polygons: _ObjectArray, *, labels: IntArray) -> _ObjectArray:
    """Unite each group of pieces into one polygon, with corners only where it turns.

    Args:
        polygons: Pieces in pixels of the grid.
        labels: Group of each, as `label_meeting` numbers them.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    united = np.empty(len(sizes), dtype=np.object_)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        groups = polygons[order[starts[members][:, np.newaxis] + np.arange(size)]]
        # Corners are whole numbers, and pieces meet on borders only, which run along an axis: nothing is rounded.
        if size == 1:
            united[members] = groups[:, 0]
        else:
            united[members] = shapely.simplify(shapely.normalize(shapely.union_all(groups, axis=1)), 0)
    return united


def place_polygons(polygons: _ObjectArray, *, grid: Grid) -> _ObjectArray:
    """Turn polygons in pixels of the grid into ones in its CRS, in place of the former."""

    def place(corners: FloatArray) -> FloatArray:
        xs, ys = np.rint(corners).T
        return np.column_stack([grid.origin_x + xs * grid.resolution_m, grid.origin_y - ys * grid.resolution_m])

    # Some at a time: all of a large region's polygons twice would be what takes most room.
    for start in range(0, len(polygons), _POLYGONS_AT_ONCE):
        some = slice(start, start + _POLYGONS_AT_ONCE)
        polygons[some] = shapely.transform(polygons[some], place)
    return polygons


def measure_polygons(polygons: _ObjectArray, *, grid: Grid) -> FloatArray:
    """Give the areas on the ellipsoid, in square metres, of pieces no larger than a tile."""
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    xs = grid.origin_x + (bounds[:, 0] + bounds[:, 2]) / 2 * grid.resolution_m
    ys = grid.origin_y - (bounds[:, 1] + bounds[:, 3]) / 2 * grid.resolution_m
    scale = compute_area_scale(grid.crs, xs=xs, ys=ys)
    return np.asarray(shapely.area(polygons) * grid.resolution_m**2 / scale, dtype=np.float64)

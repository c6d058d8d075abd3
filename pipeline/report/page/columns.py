"""What the script of a page reads: columns of plain numbers and words, packed so that a browser unpacks them fast.

A page of a hundred thousand tiles has no room for a hundred thousand elements, nor for their rows as JSON. Each column
is one typed array, compressed, in base64; the script makes typed arrays of them and draws from those.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import markupsafe
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from model.redaction import shorten_text
from model.safe_text import clean_values
from pipeline.grid.grid import Grid
from pipeline.report.page.map import MAX_MAP_SIZE_PX, MapFrame
from pipeline.report.words import MAX_TEXT_LENGTH, list_directions
from pipeline.tables.schemas import TileStatus

MAX_LISTED_CHANGES = 20_000
"""Changes that a page's script knows; of more, the largest."""
MAX_MAP_SIDE_TILES = 8192
"""Most tiles in a row or column that the script's map draws: browsers limit the size of a picture."""
NOT_TOLD = 255
"""What stands for a confidence, or for what became of the ground, where there is none."""

_STATUSES = [status.value for status in TileStatus]
_ARRAY_TYPES = {"uint8": "u8", "int32": "i32", "float32": "f32", "float64": "f64"}
_UNKNOWN_VERDICT = 2

_MAY_BE_UNCLEAN = re.compile(r"\\[bfru]")
"""Found in JSON of plain ASCII whose texts are not all as `clean_text` leaves them, and sometimes elsewhere."""

Packed = tuple[str, str]
"""Type and content: ``u8``, ``i32``, ``f32``, ``f64`` or ``json``, and gzip in base64."""


def pack_column(values: npt.NDArray[Any] | Sequence[Any]) -> Packed:
    """Pack an array of one of the types a browser has, or a list of plain values; equal values give equal text."""
    if isinstance(values, np.ndarray):
        kind, data = _ARRAY_TYPES[values.dtype.name], values.astype(values.dtype.newbyteorder("<")).tobytes()
    else:
        kind, data = "json", json.dumps(clean_values(values), ensure_ascii=False, separators=(",", ":")).encode()
    return kind, base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode("ascii")


def write_json(values: Any) -> markupsafe.Markup:
    """Write plain values as JSON that can stand in a script element or a script file: nothing in it ends one."""
    text = _dump(values)
    if _MAY_BE_UNCLEAN.search(text):
        text = _dump(clean_values(values))
    for sign in "<>&'":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return markupsafe.Markup(text)


def _dump(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def list_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Give rows as plain values by column, None for what is null."""
    plain = frame.astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def describe_frame(frame: MapFrame) -> dict[str, Any]:
    """Give the frame of the map and where on Earth it lies."""
    window = frame.window
    return {
        "left": window.left,
        "top": window.top,
        "width": window.width,
        "height": window.height,
        "resolution": frame.grid.ground_resolution_m,
        "pictureScale": min(1.0, MAX_MAP_SIZE_PX / max(window.width, window.height)),
        "lattice": {name: pack_column(values) for name, values in frame.sample_lattice().items()},
    }


def describe_tiles(findings: gpd.GeoDataFrame, *, grid: Grid, told: npt.NDArray[np.uint8]) -> dict[str, Any] | None:
    """Give what the map shows of every tile, row-major; None for a grid too long to draw.

    Args:
        findings: One row per tile of the grid.
        grid: The grid.
        told: Per row of the findings: 0, 1 if a file has the tile's answers, 2 if its pictures as well.
    """
    if max(grid.n_rows, grid.n_cols) > MAX_MAP_SIDE_TILES:
        return None
    places = findings["row"].to_numpy(np.int64) * grid.n_cols + findings["col"].to_numpy(np.int64)
    statuses = pd.Categorical(findings["status"], categories=_STATUSES).codes
    verdicts = findings["is_changed"].to_numpy(np.float32, na_value=_UNKNOWN_VERDICT)
    columns = {
        "states": (statuses * 4 + verdicts).astype(np.uint8),
        "confidences": encode_confidences(findings["change_confidence"]),
        "told": told,
    }
    ordered = {name: np.empty(len(findings), dtype=np.uint8) for name in columns}
    for name, values in columns.items():
        ordered[name][places] = values
    return {
        "rows": grid.n_rows,
        "cols": grid.n_cols,
        "stride": grid.stride_px,
        "margin": grid.overlap_px // 2,
        "size": grid.tile_size_px,
        "statuses": _STATUSES,
    } | {name: pack_column(values) for name, values in ordered.items()}


def encode_confidences(confidences: pd.Series[Any]) -> npt.NDArray[np.uint8]:
    """Give confidences in half percents, `NOT_TOLD` for none; what is not nothing and not all stays so."""
    values = confidences.to_numpy(np.float32, na_value=np.nan)
    codes = np.floor(np.nan_to_num(values, nan=0.0) * 200 + 1e-3)
    codes = np.where((values > 0) & (codes < 1), 1, np.where((values > 0.99) & (values < 1), 199, codes))
    return np.where(np.isnan(values), NOT_TOLD, np.clip(codes, 0, 200)).astype(np.uint8)


def describe_changes(
    ranked: gpd.GeoDataFrame, *, frame: MapFrame, kinds: Sequence[str], runs: npt.NDArray[np.int32] | None = None
) -> dict[str, Any]:
    """Give the changes as columns, their outlines in whole pixels of the map.

    Args:
        ranked: Changes, the most important first; `MAX_LISTED_CHANGES` of them are taken.
        frame: The map.
        kinds: Names of kinds, in the order of their codes.
        runs: Per change the index of the run that found it; none where there is one run.
    """
    listed = ranked.head(MAX_LISTED_CHANGES)
    codes, texts = pd.factorize(listed["description"])
    days = (listed["after_datetime"].dt.floor("D") - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(days=1)
    columns: dict[str, npt.NDArray[Any] | list[Any]] = {
        "ids": listed["change_id"].tolist(),
        "kinds": np.array([kinds.index(kind) for kind in listed["kind"]], dtype=np.uint8),
        "areas": listed["area_m2"].to_numpy(np.float32),
        "confidences": encode_confidences(listed["confidence"]),
        "words": codes.astype(np.int32),
        "texts": [shorten_text(str(text), max_length=MAX_TEXT_LENGTH) for text in texts],
        "tiles": listed["tile_ids"].tolist(),
        "days": days.astype("Float64").to_numpy(np.float64, na_value=-1).astype(np.int32),
        **_outline(listed.geometry.to_numpy(), frame=frame),
    }
    if directions := list_directions(ranked):
        codes = pd.Categorical(listed["change"], categories=directions).codes
        columns["directions"] = np.where(codes < 0, NOT_TOLD, codes).astype(np.uint8)
    if "review" in listed:
        columns["reviews"] = [None if pd.isna(verdict) else verdict for verdict in listed["review"]]
    if runs is not None:
        columns["runs"] = runs[: len(listed)]
        columns["news"] = listed["is_new"].fillna(value=False).to_numpy(np.uint8)
        columns["times"] = listed["times_seen"].fillna(1).to_numpy(np.int32)
        columns["statuses"] = listed["event_status"].str.replace("_", " ").tolist()
        columns["firsts"] = [_write_date(moment) for moment in listed["first_seen"]]
        columns["lasts"] = [_write_date(moment) for moment in listed["last_seen"]]
    return {"total": len(ranked)} | {name: pack_column(values) for name, values in columns.items()}


def _write_date(moment: pd.Timestamp) -> str | None:
    return None if pd.isna(moment) else moment.date().isoformat()


def _outline(geometries: npt.NDArray[np.object_], *, frame: MapFrame) -> Mapping[str, npt.NDArray[np.int32]]:
    """Give rings as steps from corner to corner, and where the rings of each geometry and the corners of each end."""
    parts, change_of_part = shapely.get_parts(geometries, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    corners = shapely.get_coordinates(rings)
    steps = [np.diff(np.rint(values), prepend=0).astype(np.int32) for values in frame.to_pixel(*corners.T)]
    n_rings = np.bincount(change_of_part[part_of_ring], minlength=len(geometries))
    anchors = frame.to_pixel(*shapely.get_coordinates(shapely.point_on_surface(geometries)).T)
    return {
        "ringEnds": np.cumsum(n_rings).astype(np.int32),
        "cornerEnds": np.cumsum(shapely.get_num_coordinates(rings)).astype(np.int32),
        "xSteps": steps[0],
        "ySteps": steps[1],
        "anchorXs": np.rint(anchors[0]).astype(np.int32),
        "anchorYs": np.rint(anchors[1]).astype(np.int32),
    }


def note_shapes(sources: pd.Series[Any], *, cell: str | None) -> str:
    """Say what the shapes on the map are, and whether some of them are left out.

    Args:
        sources: Where the geometry of each change comes from, `outline` or `cells`.
        cell: Width of a cell in words; None where cells of several grids are shown.
    """
    found = set(sources)
    notes = []
    if "outline" in found:
        notes.append("Outlines are drawn by the model: rough at their edges, and neighbours may grow together.")
    if "cells" in found:
        shapes = "The other shapes" if notes else "The shapes"
        notes.append(
            f"{shapes} are made of cells{f' {cell} wide' if cell else ''}: they show where to look, not outlines of "
            "buildings and roads, and their area is larger than what changed in them."
        )
    if len(sources) > MAX_LISTED_CHANGES:
        notes.append(f"The map and the list have the {MAX_LISTED_CHANGES:,} largest of {len(sources):,} changes.")
    return " ".join(notes)

"""The files beside the report's page: answers and pictures of tiles, a few in each, read when somebody looks at one.

A page opened from a file may not read other files, but it may run scripts that lie beside it. So each file is a script
of one call, whose argument is plain JSON.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from model.interface import Prompt, PromptKind
from pipeline.grid import name_tile
from pipeline.report_columns import write_json
from pipeline.thumbnails import shrink_pair
from pipeline.tile_store import TileStore
from pipeline.tile_table import Tile, TileStatus

FOLDER_NAME = "report/page"
MAX_TOLD_TILES = 20_000
"""Tiles whose answers lie beside the page; of more, those that changed or need a look come first."""
MAX_PICTURED_TILES = 8_000
"""Tiles whose pictures lie beside the page: each takes some milliseconds and about 30 kB."""
BLOCK_SIDE_TILES = 4
"""Tiles in a row and column of one file."""
MAX_PICTURE_PX = 256

_JPEG_QUALITY = 75
_TROUBLES = (TileStatus.UNREADABLE.value, TileStatus.FAILED.value)


def choose_told(findings: gpd.GeoDataFrame) -> npt.NDArray[np.uint8]:
    """Choose the tiles that the files beside the page tell of.

    Args:
        findings: One row per tile.

    Returns:
        Per row 0; 1 for tiles whose answers are told; 2 for those that are shown as well.
    """
    is_changed = findings["is_changed"].fillna(value=False).to_numpy(np.bool_)
    is_trouble = findings["status"].isin(_TROUBLES).to_numpy()
    rank = np.where(is_changed, 0, np.where(is_trouble, 1, 2))
    confidences = findings["change_confidence"].to_numpy(np.float32, na_value=0.0)
    rows, cols = findings["row"].to_numpy(np.int32), findings["col"].to_numpy(np.int32)
    order = np.lexsort((cols, rows, -confidences * (rank == 0), rank))
    has_answers = findings["status"].isin([TileStatus.ANALYSED.value, *_TROUBLES]).to_numpy()
    is_visible = findings["valid_fraction"].to_numpy() > 0
    told = np.zeros(len(findings), dtype=np.uint8)
    told[order[(has_answers | is_visible)[order]][:MAX_TOLD_TILES]] = 1
    told[order[is_visible[order]][: min(MAX_PICTURED_TILES, MAX_TOLD_TILES)]] = 2
    return told


def make_tile_files(
    findings: gpd.GeoDataFrame, *, store: TileStore, prompts: Sequence[Prompt]
) -> Iterator[tuple[str, bytes]]:
    """Make the files one by one, so that no more than one is in memory; equal findings give equal files.

    Args:
        findings: One row per tile of the grid.
        store: The tile store, for the pictures.
        prompts: The questions of the run.

    Yields:
        Name in the folder of the run, and content.
    """
    told = choose_told(findings)
    chosen = np.flatnonzero(told)
    blocks = [findings[name].to_numpy(np.int64)[chosen] // BLOCK_SIDE_TILES for name in ("row", "col")]
    order = np.lexsort((findings["tile_id"].to_numpy(object)[chosen], blocks[1], blocks[0]))
    ends = np.flatnonzero(np.diff(blocks[0][order]) | np.diff(blocks[1][order])) + 1
    for members in np.split(order, ends) if len(order) else []:
        name = name_tile(int(blocks[0][members[0]]), int(blocks[1][members[0]]))
        rows = findings.iloc[chosen[members]]
        tiles = describe_answers(rows, prompts=prompts)
        for tile_id, pictures in _read_pictures(rows[told[chosen[members]] == 2], store=store):
            tiles[tile_id] |= pictures
        yield f"{FOLDER_NAME}/tiles_{name}.js", f"deltavlmTiles({write_json(tiles)});\n".encode("ascii")


def describe_answers(findings: gpd.GeoDataFrame, *, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
    """Give what is known about tiles in plain values, by their ids.

    Args:
        findings: Rows of some tiles.
        prompts: The questions of the run.
    """
    plain = pd.DataFrame(findings.drop(columns=["geometry"])).astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return {
        row["tile_id"]: {
            "reason": row["reason"],
            "valid": float(row["valid_fraction"]),
            "cloud": row["cloud_fraction"],
            "answers": [[prompt.name, prompt.text.strip(), word_answer(row, prompt=prompt)] for prompt in prompts],
            "cells": {kind: row[f"{kind}_cells"] or "" for kind in ("building", "road")},
        }
        for row in ({str(name): value for name, value in row.items()} for row in records)
    }


def word_answer(row: Mapping[str, Any], *, prompt: Prompt) -> str | None:
    """Put an answer into words; None where there is none that could be read.

    Args:
        row: Columns of a tile's findings; None where nothing is told.
        prompt: The question.
    """
    words: str | None
    match prompt.kind:
        case PromptKind.DESCRIBE:
            words = row["description"]
        case PromptKind.CLASSIFY:
            words = None if row["is_changed"] is None else ("yes" if row["is_changed"] else "no")
        case PromptKind.COUNT:
            words = _word_both(row["building_count"], row["road_count"], nothing=0)
        case PromptKind.LOCATE:
            buildings, roads = (
                None if cells is None else cells.replace(";", ", ").replace("-", " ")
                for cells in (row["building_cells"], row["road_cells"])
            )
            words = _word_both(buildings, roads, nothing="")
        case _:
            words = row.get(prompt.name)
    return words


def _word_both(buildings: int | str | None, roads: int | str | None, *, nothing: int | str) -> str | None:
    if buildings is None and roads is None:
        return None
    words = [
        "not told" if value is None else "none" if value == nothing else str(value) for value in (buildings, roads)
    ]
    return f"buildings: {words[0]}; roads: {words[1]}"


def _read_pictures(findings: gpd.GeoDataFrame, *, store: TileStore) -> Iterator[tuple[str, dict[str, str]]]:
    tiles = [
        Tile(row=row, col=col, tile_id=name_tile(row, col), valid_fraction=1.0, status=None, reason="")
        for row, col in zip(findings["row"].tolist(), findings["col"].tolist(), strict=True)
    ]
    if not tiles:
        return
    side_px = min(store.grid.tile_size_px, MAX_PICTURE_PX)
    for tile, pair in zip(tiles, store.read_pairs(tiles), strict=True):
        before, after = shrink_pair(pair, shape_px=(side_px, side_px))
        yield tile.tile_id, {"before": _encode_picture(before), "after": _encode_picture(after)}


def _encode_picture(image: npt.NDArray[np.uint8]) -> str:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(sink.getvalue()).decode("ascii")

"""The files beside the report's page: answers and pictures of tiles, a few in each, read when somebody looks at one.

A page opened from a file may not read other files, but it may run scripts that lie beside it. So each file is a script
of one call, whose argument is plain JSON.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from model.interface import Prompt, PromptKind
from model.redaction import shorten_text
from pipeline.grid.grid import name_tile
from pipeline.report.page.columns import list_records, write_json
from pipeline.report.words import write_day
from pipeline.storage.names import PAGE_FILES_FOLDER
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.tiles.thumbnails import UNSEEN_COLOUR, shrink_pair

MAX_TOLD_TILES = 20_000
"""Tiles whose answers lie beside the page; of more, those that changed or need a look come first."""
MAX_PICTURED_TILES = 4_096
"""Tiles whose pictures lie beside the page: reading and writing those of one takes 3 to 6 ms, and 30 kB."""
BLOCK_SIDE_TILES = 4
"""Tiles in a row and column of one file."""
MAX_PICTURE_PX = 256
SHOWN = 2
"""What `choose_told` gives of a tile with pictures."""
MAX_ANSWER_LENGTH = 4_000
"""Characters of an answer that a page shows; the table has all of it."""

_JPEG_QUALITY = 75
_BLOCKS_AT_ONCE = 64
_MAX_READ_BYTES = 32 * 2**20
_TOLD_COLUMNS = (
    *("tile_id", "reason", "valid_fraction", "cloud_fraction", "model_fit", "familiarity"),
    *("description", "is_changed"),
    *(f"{kind}_{column}" for kind in CHANGE_KINDS for column in ("cells", "count", "count_low", "count_high")),
)
_TROUBLES = (TileStatus.UNREADABLE.value, TileStatus.FAILED.value)


def choose_told(findings: gpd.GeoDataFrame) -> npt.NDArray[np.uint8]:
    """Choose the tiles that the files beside the page tell of.

    Args:
        findings: One row per tile.

    Returns:
        Per row 0; 1 for tiles whose answers are told; `SHOWN` for those that have pictures as well.
    """
    is_changed = findings["is_changed"].fillna(value=False).to_numpy(np.bool_)
    is_trouble = findings["status"].isin(_TROUBLES).to_numpy() & ~is_changed
    is_visible = findings["valid_fraction"].to_numpy() > 0
    has_answers = findings["status"].isin([TileStatus.ANALYSED.value, *_TROUBLES]).to_numpy()
    is_told = has_answers | is_visible
    places = findings["row"].to_numpy(np.int64) * (int(findings["col"].max()) + 1) + findings["col"].to_numpy(np.int64)
    order = np.concatenate(
        [
            _order_by_confidence(findings, np.flatnonzero(is_told & is_changed), places=places),
            *(
                chosen[np.argsort(places[chosen])]
                for chosen in (
                    np.flatnonzero(is_told & is_trouble),
                    np.flatnonzero(is_told & ~is_changed & ~is_trouble),
                )
            ),
        ]
    )
    told = np.zeros(len(findings), dtype=np.uint8)
    told[order[:MAX_TOLD_TILES]] = 1
    told[order[is_visible[order]][: min(MAX_PICTURED_TILES, MAX_TOLD_TILES)]] = SHOWN
    return told


def _order_by_confidence(
    findings: gpd.GeoDataFrame, chosen: npt.NDArray[np.int64], *, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    confidences = findings["change_confidence"].to_numpy(np.float32, na_value=0.0)[chosen]
    return np.asarray(chosen[np.lexsort((places[chosen], -confidences))])


class TilePictures:
    """Pictures of the tiles that are shown, made of pixels that were read for something else, where there were any."""

    def __init__(self, findings: gpd.GeoDataFrame, *, told: npt.NDArray[np.uint8]) -> None:
        """Begin without any.

        Args:
            findings: One row per tile of the grid.
            told: What `choose_told` gave.
        """
        shown = np.flatnonzero(told == SHOWN)
        rows, cols = (findings[name].to_numpy(np.int64)[shown].tolist() for name in ("row", "col"))
        self._wanted = set(map(name_tile, rows, cols))
        self._made: dict[str, dict[str, str]] = {}

    def add(self, tile: Tile, pair: npt.NDArray[np.uint8]) -> None:
        """Keep the pictures of a tile, if it is shown; about 30 kB.

        Args:
            tile: The tile.
            pair: Its pixels, (date=2, band=3, y, x).
        """
        if tile.tile_id in self._wanted:
            before, after = paint_pair(pair)
            self._made[tile.tile_id] = {"before": _encode_picture(before), "after": _encode_picture(after)}

    def read(self, tiles: Sequence[Tile], *, store: TileStore) -> None:
        """Make those that are missing of some tiles, reading a few tiles at a time."""
        missing = [tile for tile in tiles if tile.tile_id not in self._made]
        step = max(1, _MAX_READ_BYTES // (2 * 3 * store.grid.tile_size_px**2))
        for start in range(0, len(missing), step):
            together = missing[start : start + step]
            for tile, pair in zip(together, store.read_pairs(together), strict=True):
                self.add(tile, pair)

    def take(self, tile_id: str) -> dict[str, str]:
        """Give the pictures of a tile, and keep them no longer."""
        return self._made.pop(tile_id)


def make_tile_files(
    findings: gpd.GeoDataFrame,
    *,
    store: TileStore,
    prompts: Sequence[Prompt],
    told: npt.NDArray[np.uint8],
    pictures: TilePictures | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Make the files one by one, so that no more than one is in memory; equal findings give equal files.

    Args:
        findings: One row per tile of the grid.
        store: The tile store, for the pictures.
        prompts: The questions of the run.
        told: What `choose_told` gave.
        pictures: Those that were made before; what is missing is read.

    Yields:
        Name in the folder of the run, and content.
    """
    pictures = pictures or TilePictures(findings, told=told)
    chosen = np.flatnonzero(told)
    rows, cols = (findings[name].to_numpy(np.int64)[chosen] for name in ("row", "col"))
    block_rows, block_cols = rows // BLOCK_SIDE_TILES, cols // BLOCK_SIDE_TILES
    order = np.lexsort((cols, rows, block_cols, block_rows))
    ends = np.flatnonzero(np.diff(block_rows[order]) | np.diff(block_cols[order])) + 1
    blocks = iter(np.split(order, ends) if len(order) else [])
    while batch := list(islice(blocks, _BLOCKS_AT_ONCE)):
        # A frame of few rows takes as long to walk through as one of many, and so does a store that is opened.
        together = np.concatenate(batch)
        answers = describe_answers(findings.iloc[chosen[together]], prompts=prompts)
        shown = together[told[chosen[together]] == SHOWN]
        named = [_name_place(row, col) for row, col in zip(rows[shown].tolist(), cols[shown].tolist(), strict=True)]
        pictures.read(named, store=store)
        has_pictures = {tile.tile_id for tile in named}
        for members in batch:
            name = name_tile(int(block_rows[members[0]]), int(block_cols[members[0]]))
            ids = map(name_tile, rows[members], cols[members])
            tiles = {
                tile_id: answers[tile_id] | (pictures.take(tile_id) if tile_id in has_pictures else {})
                for tile_id in ids
            }
            yield f"{PAGE_FILES_FOLDER}/tiles_{name}.js", f"deltavlmTiles({write_json(tiles)});\n".encode("ascii")


def describe_answers(findings: gpd.GeoDataFrame, *, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
    """Give what is known about tiles in plain values, by their ids.

    Args:
        findings: Rows of some tiles.
        prompts: The questions of the run.
    """
    names = {*_TOLD_COLUMNS, *(prompt.name for prompt in prompts)}
    columns = [name for name in findings.columns if name in names]
    return {
        row["tile_id"]: {
            "reason": _cut(row["reason"]),
            "valid": float(row["valid_fraction"]),
            "cloud": row["cloud_fraction"],
            **({"dates": describe_tile_dates(row)} if row.get("n_scenes") else {}),
            "fit": row["model_fit"],
            "familiarity": None if row["familiarity"] is None else round(float(row["familiarity"]), 4),
            "answers": [
                [prompt.name, prompt.text.strip(), _cut(word_answer(row, prompt=prompt))] for prompt in prompts
            ],
            "cells": {kind: row[f"{kind}_cells"] or "" for kind in ("building", "road")},
        }
        for row in list_records(pd.DataFrame(findings[columns]))
    }


def describe_tile_dates(row: Mapping[str, Any]) -> str:
    """Say which days a tile of composites is made of."""
    words = []
    for date in ("before", "after"):
        days = [write_day(row[f"{date}_{end}"]) for end in ("from", "to")]
        words.append(f"{date} of {' to '.join(dict.fromkeys(day for day in days if day)) or 'no date'}")
    return f"Made of {row['n_scenes']} dates: {', '.join(words)}"


def _cut(text: str | None) -> str | None:
    return None if text is None else shorten_text(text, max_length=MAX_ANSWER_LENGTH)


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
            words = _word_both(*(_word_count(row, kind=kind) for kind in CHANGE_KINDS), nothing="0")
        case PromptKind.LOCATE:
            buildings, roads = (
                None if cells is None else cells.replace(";", ", ").replace("-", " ")
                for cells in (row["building_cells"], row["road_cells"])
            )
            words = _word_both(buildings, roads, nothing="")
        case _:
            words = row.get(prompt.name)
    return words


def _word_count(row: Mapping[str, Any], *, kind: str) -> str | None:
    """Put a count into words, with its interval where one was measured."""
    count, low, high = (row[f"{kind}_count{end}"] for end in ("", "_low", "_high"))
    if count is None or low is None:
        return None if count is None else str(count)
    return f"{count or 'none'} (80 %: {low} to {high})"


def _word_both(buildings: str | None, roads: str | None, *, nothing: str) -> str | None:
    if buildings is None and roads is None:
        return None
    words = ["not told" if value is None else "none" if value == nothing else value for value in (buildings, roads)]
    return f"buildings: {words[0]}; roads: {words[1]}"


def _name_place(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=name_tile(row, col), valid_fraction=1.0, status=None, reason="")


def paint_pair(pair: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give a pair (date=2, band=3, y, x) as pictures (date=2, y, x, band=3) of at most `MAX_PICTURE_PX` a side."""
    side_px = pair.shape[-1]
    if side_px > MAX_PICTURE_PX:
        return shrink_pair(pair, shape_px=(MAX_PICTURE_PX, MAX_PICTURE_PX))
    # Several times faster than a copy of the array with its axes in another order.
    pictures = np.stack([cv2.merge(list(bands)) for bands in pair])
    pictures[:, ~pair.any(axis=(0, 1))] = UNSEEN_COLOUR
    return pictures


def _encode_picture(image: npt.NDArray[np.uint8]) -> str:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(sink.getvalue()).decode("ascii")

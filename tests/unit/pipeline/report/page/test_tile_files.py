from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import pipeline.report.page.tile_files
from model.interface import Prompt, PromptKind
from pipeline.findings.columns import make_findings_schema
from pipeline.grid.grid import Grid
from pipeline.report.page.tile_files import choose_told, make_tile_files, paint_pair, word_answer
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import make_frame
from pipeline.tiles.store import TileStore
from pipeline.tiles.thumbnails import UNSEEN_COLOUR

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=16,
    n_rows=5,
    n_cols=6,
    width_px=96,
    height_px=80,
)
PROMPTS = [
    Prompt(name="words", kind=PromptKind.DESCRIBE, text="Describe."),
    Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?"),
]
HOSTILE = "</script><script>alert(1)</script>\u2028'\"><img src=x onerror=alert(2)>"


@dataclass(frozen=True, kw_only=True)
class RowStore(TileStore):
    """A store that paints every tile in the grey of its row before, and of its column after."""

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        size = self.grid.tile_size_px
        pairs = np.empty((len(tiles), 2, 3, size, size), dtype=np.uint8)
        for pair, tile in zip(pairs, tiles, strict=True):
            pair[0], pair[1] = 20 + 40 * tile.row, 20 + 40 * tile.col
        return pairs


def make_findings(tiles: dict[tuple[int, int], dict[str, Any]]) -> Any:
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": False, "model_id": "m@0", "run_id": "abc"}
    schema = make_findings_schema(PROMPTS)
    places = [(row, col) for row in range(GRID.n_rows) for col in range(GRID.n_cols)]
    rows = [
        plain | {"tile_id": GRID.tile_id(*place), "row": place[0], "col": place[1]} | tiles.get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in schema.names if name != "geometry"}
    geometry = np.array([GRID.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=schema, geometry=geometry, crs=GRID.crs)


def make_files(findings: Any) -> dict[str, dict[str, Any]]:
    store = RowStore(folder=RunFolder("unused"), grid=GRID, content_key="key", shard_size_tiles=2)
    files = {}
    for name, content in make_tile_files(findings, store=store, prompts=PROMPTS, told=choose_told(findings)):
        text = content.decode("ascii")
        assert text.startswith("deltavlmTiles({")
        files[name] = json.loads(text.removeprefix("deltavlmTiles(").removesuffix(");\n"))
    return files


def test_each_file_has_the_tiles_of_its_square() -> None:
    files = make_files(make_findings({}))

    assert list(files) == [f"report/page/tiles_r000{row}_c000{col}.js" for row in (0, 1) for col in (0, 1)]
    assert sorted(files["report/page/tiles_r0001_c0001.js"]) == ["r0004_c0004", "r0004_c0005"]
    assert sum(map(len, files.values())) == 30


def test_a_tile_comes_with_its_answers_and_both_dates() -> None:
    told = {
        "description": "a house .",
        "trees": HOSTILE,
        "building_cells": "top-left",
        "reason": "odd",
        "valid_fraction": 0.5,
    }

    tile = make_files(make_findings({(2, 1): told}))["report/page/tiles_r0000_c0000.js"]["r0002_c0001"]

    assert tile["answers"] == [["words", "Describe.", "a house ."], ["trees", "Were trees felled?", HOSTILE]]
    assert tile["cells"] == {"building": "top-left", "road": ""}
    assert (tile["reason"], tile["valid"], tile["cloud"]) == ("odd", 0.5, None)
    greys = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(tile[date])))).mean().round() for date in ("before", "after")
    ]
    assert greys == pytest.approx([100, 60], abs=2)


def test_words_of_a_model_end_no_script(tmp_path: Path) -> None:
    store = RowStore(folder=RunFolder("unused"), grid=GRID, content_key="key", shard_size_tiles=2)
    findings = make_findings({(0, 0): {"description": HOSTILE}})

    (_, content), *_ = make_tile_files(findings, store=store, prompts=PROMPTS, told=choose_told(findings))

    assert b"<" not in content
    assert content.isascii()


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x7f", "\b", "\u202e", "\ufeff"])
def test_words_of_a_model_are_cleaned(sign: str) -> None:
    files = make_files(make_findings({(0, 0): {"reason": f"red{sign} roof\n"}}))

    assert files["report/page/tiles_r0000_c0000.js"]["r0000_c0000"]["reason"] == "red roof\n"


def test_of_too_many_tiles_those_come_first_that_changed_or_need_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.report.page.tile_files, "MAX_TOLD_TILES", 4)
    monkeypatch.setattr(pipeline.report.page.tile_files, "MAX_PICTURED_TILES", 2)
    findings = make_findings(
        {
            (0, 0): {"status": "no_data", "is_changed": None, "valid_fraction": 0.0},
            (1, 0): {"is_changed": True, "change_confidence": 0.6},
            (4, 5): {"is_changed": True, "change_confidence": 0.9},
            (3, 3): {"status": "failed", "is_changed": None},
        }
    )

    told = choose_told(findings).reshape(GRID.n_rows, GRID.n_cols)

    assert {place: told[place] for place in zip(*(axis.tolist() for axis in np.nonzero(told)), strict=True)} == {
        (4, 5): 2,
        (1, 0): 2,
        (3, 3): 1,
        (0, 1): 1,
    }


@pytest.mark.parametrize("side_px", [16, 512])
def test_ground_that_was_not_seen_is_blank(side_px: int) -> None:
    pair = np.full((2, 3, side_px, side_px), 100, dtype=np.uint8)
    pair[..., : side_px // 2] = 0

    pictures = paint_pair(pair)

    assert pictures.shape == (2, min(side_px, 256), min(side_px, 256), 3)
    assert tuple(pictures[1, 3, 3]) == UNSEEN_COLOUR
    assert tuple(pictures[0, 3, -3]) == (100, 100, 100)


ROW = {
    "description": None,
    "is_changed": True,
    "building_count": 0,
    "building_count_low": None,
    "building_count_high": None,
    "road_count": None,
    "road_count_low": None,
    "road_count_high": None,
    "building_cells": "",
    "road_cells": "top-left;center-right",
    "dialogue": "I see.",
}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (PromptKind.DESCRIBE, None),
        (PromptKind.CLASSIFY, "yes"),
        (PromptKind.COUNT, "buildings: none; roads: not told"),
        (PromptKind.LOCATE, "buildings: none; roads: top left, center right"),
        (PromptKind.DIALOGUE, "I see."),
    ],
)
def test_answers_are_put_into_words(kind: PromptKind, words: str | None) -> None:
    assert word_answer(ROW, prompt=Prompt(name="dialogue", kind=kind, text="?")) == words


def test_a_count_has_its_interval_where_it_was_measured() -> None:
    row = ROW | {"building_count": 3, "building_count_low": 1, "building_count_high": 5, "road_count": 2}
    prompt = Prompt(name="count", kind=PromptKind.COUNT, text="?")

    assert word_answer(row, prompt=prompt) == "buildings: 3 (80 %: 1 to 5); roads: 2"
    assert word_answer(row | {"building_count": 0}, prompt=prompt) == "buildings: none (80 %: 1 to 5); roads: 2"

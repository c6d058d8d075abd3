from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageColor

from flows.artifacts.markdown import escape_markdown, make_link
from flows.artifacts.run_page import (
    MAX_ARTIFACT_BYTES,
    N_LARGEST_CHANGES,
    RunFacts,
    tabulate_coverage,
    write_summary,
)
from pipeline.findings.changes import dissolve_changes, rank_changes
from pipeline.findings.seen_ground import measure_coverage
from pipeline.grid.grid import Grid
from pipeline.report.colours import KIND_COLOURS
from pipeline.report.result import Report
from pipeline.report.words import count_reasons
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, PAGE_NAME, TILES_NAME
from pipeline.storage.object_facts import describe_bytes
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS, FINDINGS_SCHEMA, TileStatus
from pipeline.tiles.store import TileStore

HOSTILE = "<script>alert(1)</script> | ![x](javascript:alert(2)) www.evil.example https://evil.example `x` **b**"
_PICTURE = re.compile(r"!\[([^\]]*)\]\(data:image/jpeg;base64,([^)]+)\)")


@dataclass(frozen=True, kw_only=True)
class NoisyStore(TileStore):
    """A store of nothing but noise, which compresses worst of all."""

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        size = self.grid.tile_size_px
        return np.random.default_rng(len(tiles)).integers(0, 256, (len(tiles), 2, 3, size, size), dtype=np.uint8)


def make_facts(
    tiles: Mapping[tuple[int, int], Mapping[str, Any]], *, n_rows: int = 4, n_cols: int = 6, tile_size_px: int = 48
) -> RunFacts:
    grid = Grid(
        crs="EPSG:32614",
        resolution_m=1.0,
        origin_x=621_000.0,
        origin_y=3_362_000.0,
        tile_size_px=tile_size_px,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=n_cols * tile_size_px,
        height_px=n_rows * tile_size_px,
    )
    places = [(row, col) for row in range(n_rows) for col in range(n_cols)]
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": False, "model_id": "m@0", "run_id": "abc"}
    rows = [
        plain | {"tile_id": grid.tile_id(*place), "row": place[0], "col": place[1]} | dict(tiles.get(place, {}))
        for place in places
    ]
    findings = make_frame(
        {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"},
        schema=FINDINGS_SCHEMA,
        geometry=np.array([grid.tile_polygon(*place) for place in places]),
        crs=grid.crs,
    )
    changes = rank_changes(dissolve_changes(findings, grid=grid))
    report = Report(
        folder=RunFolder("/data/run"),
        files={name: describe_bytes(b"") for name in (TILES_NAME, CHANGES_NAME, PAGE_NAME)},
        coverage=measure_coverage(findings, tiles=None, grid=grid),
        reason_counts=count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True)),
        changed_tile_count=int(findings["is_changed"].fillna(value=False).sum()),
        change_counts={kind: int((changes["kind"] == kind).sum()) for kind in CHANGE_KINDS},
    )
    return RunFacts(
        run_id="abc",
        report=report,
        findings=findings,
        largest=changes,
        grid=grid,
        before_name="before <b>.tif",
        after_name="after",
    )


def write(facts: RunFacts) -> str:
    store = NoisyStore(folder=RunFolder("unused"), grid=facts.grid, content_key="key", shard_size_tiles=2)
    return write_summary(facts, store=store)


def changed(cells: str, *, description: str = "two houses appear .", **more: Any) -> dict[str, Any]:
    return {"is_changed": True, "building_cells": cells, "description": description, "change_confidence": 0.75} | more


def test_the_summary_names_what_changed_in_order_of_size() -> None:
    facts = make_facts({(0, 0): changed("top-left"), (2, 2): changed("top-left;top-center")})

    text = write(facts)

    assert text.startswith("# 2 of 24 tiles changed\n")
    assert "**2** of kind building (7" in text
    # Two cells of 16 m on the ellipsoid, then one.
    order = [int(area) for area in re.findall(r"\*\*\d\.\*\* building, (\d+) m²", text)]
    assert order == pytest.approx([512, 256], rel=0.01)
    assert "> Two houses appear." in text
    assert "before &lt;b&gt;.tif" in text


def test_how_many_changes_are_left_out_is_told() -> None:
    facts = make_facts({(0, 0): changed("top-left")})
    told = replace(facts, report=replace(facts.report, left_out_counts={"building": 1_200, "road": 0}))

    assert "1,200 more left out, as their confidence is below `report.min_confidence`." in write(told)
    assert "left out" not in write(facts)


def test_what_became_of_the_ground_is_told_where_the_model_tells_it() -> None:
    facts = make_facts({(0, 0): changed("top-left"), (2, 2): changed("top-left;top-center")})

    text = write(replace(facts, largest=facts.largest.assign(change=["removed", "built"])))

    assert re.search(r"\*\*2\*\* of kind building \(\d+ m², 1 built, 1 removed\)", text)
    assert "**1.** building removed, 512 m²" in text


def test_what_is_to_be_known_of_all_of_it_comes_first() -> None:
    facts = make_facts({})

    text = write(replace(facts, report=replace(facts.report, notes=("tiles are *too* large",))))

    assert "\n> **Note:** tiles are \\*too\\* large.\n" in text.partition("Between")[0]
    assert "Note:" not in write(facts)


def test_the_map_shows_the_outline_of_a_change() -> None:
    text = write(make_facts({(1, 1): changed("top-left;top-center;top-right")}))

    shown = {name: Image.open(io.BytesIO(base64.b64decode(data))) for name, data in _PICTURE.findall(text)}

    assert list(shown) == ["Map of the later date with the changes outlined", "Change 1, before and after"]
    pixels = np.asarray(next(iter(shown.values())).convert("RGB"), dtype=int)
    # The tile's top row of cells begins a quarter down and a sixth in.
    near = pixels[pixels.shape[0] // 4 - 2 : pixels.shape[0] // 4 + 3, pixels.shape[1] // 6 : pixels.shape[1] // 3]
    assert (np.abs(near - ImageColor.getrgb(KIND_COLOURS["building"])).sum(axis=2) < 120).any(axis=0).mean() > 0.8


@pytest.mark.parametrize("tile_size_px", [48, 240])
def test_a_hostile_and_noisy_report_stays_small_and_harmless(tile_size_px: int) -> None:
    every_second = {
        (row, col): changed("top-left", description=HOSTILE * 200, reason=HOSTILE * 20)
        for row in range(0, 12)
        for col in range(row % 2, 12, 2)
    }
    facts = make_facts(every_second, n_rows=12, n_cols=12, tile_size_px=tile_size_px)

    text, rows = write(facts), tabulate_coverage(facts.report)

    assert len(json.dumps(text).encode()) <= MAX_ARTIFACT_BYTES
    assert len(json.dumps(rows).encode()) < 10_000
    assert len(_PICTURE.findall(text)) == 1 + N_LARGEST_CHANGES
    words = _PICTURE.sub("", text)
    assert "<script" not in words
    assert "](javascript" not in words
    assert not re.search(r"(?<!\\)`", words)
    assert not re.search(r"https?://|www\.", words)
    assert "The report has 67 more." in text


def test_nothing_found_says_where_it_was_looked_for() -> None:
    facts = make_facts({(0, 0): {"status": "failed", "reason": "out of memory", "is_changed": None}})

    text = write(facts)

    assert "No change was found where the model looked." in text
    # One of 24 tiles of 48 m x 48 m, a little more on the ground than in the CRS.
    assert "Seen: 96 % of the ground; nothing is known about 2305 m². **Partly failed:**" in text


def test_coverage_names_every_status_and_why() -> None:
    facts = make_facts(
        {(0, 0): {"status": "failed", "reason": "cannot read https://me:pw@host/a.tif", "is_changed": None}}
    )

    rows = {row["status"]: row for row in tabulate_coverage(facts.report)}

    assert len(rows) == len(TileStatus) + 2
    assert rows["analysed"] == {"status": "analysed", "tiles": 23, "share": "96 %", "area": "5.3 ha", "reasons": ""}
    assert rows["failed"]["reasons"] == "cannot read https://***@host/a.tif (1)"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/my run/report/index.html", "file:///data/my%20run/report/index.html"),
        ("s3://bucket/run/report/index.html", "s3://bucket/run/report/index.html"),
        ("run/index.html", (Path.cwd() / "run/index.html").as_uri()),
    ],
)
def test_links_are_uris(path: str, expected: str) -> None:
    assert make_link(path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two houses", "two houses"),
        ("a | b\n# c", "a \\| b \\# c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert\\(1\\)&lt;/script&gt;"),
        ("[here](javascript:x)", "\\[here\\]\\(javascript:x\\)"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("back\\slash `code` *b* _i_", "back\\\\slash \\`code\\` \\*b\\* \\_i\\_"),
        ("see https://a.b or www.a.b", "see https:\u2060//a.b or www\u2060.a.b"),
        ("me@a.b", "me@\u2060a.b"),
    ],
)
def test_model_text_is_harmless_in_markdown(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import shapely
from PIL import Image

from model.interface import CELL_NAMES, Prompt, PromptKind
from pipeline.findings.changes import dissolve_changes
from pipeline.findings.seen_ground import measure_coverage
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.report.page.columns import note_shapes
from pipeline.report.page.map import MapFrame, choose_scale_bar, frame_close_up
from pipeline.report.page.page import MAX_CARDS, render_page
from pipeline.report.page.pictures import read_pictures
from pipeline.report.page.tile_files import choose_told
from pipeline.report.plot_figures import PlotText
from pipeline.report.words import MAX_TEXT_LENGTH, format_area, format_percent, format_position, tidy_text
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.store import TileStore
from pipeline.tiles.thumbnails import UNSEEN_COLOUR, shrink_pair

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
ARRAY_TYPES = {"u8": "u1", "i32": "<i4", "f32": "<f4", "f64": "<f8"}
PROMPT = Prompt(name="changed", kind=PromptKind.CLASSIFY, text=f"Changed? {HOSTILE}")


@dataclass(frozen=True, kw_only=True)
class PaintedStore(TileStore):
    """A store that paints every tile in one colour, and counts what is read of it."""

    n_read: list[int] = field(default_factory=list)

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        size = self.grid.tile_size_px
        self.n_read.append(len(tiles))
        pairs = np.empty((len(tiles), 2, 3, size, size), dtype=np.uint8)
        for pair, tile in zip(pairs, tiles, strict=True):
            pair[0], pair[1] = 20 + 40 * (tile.row % 5), 20 + 40 * (tile.col % 5)
        return pairs


def make_grid(*, n_rows: int = 3, n_cols: int = 4, tile_size_px: int = 16) -> Grid:
    return Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_000.0,
        origin_y=3_300_000.0,
        tile_size_px=tile_size_px,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=n_cols * tile_size_px,
        height_px=n_rows * tile_size_px,
    )


def make_findings(grid: Grid, tiles: dict[tuple[int, int], dict[str, Any]], **everywhere: Any) -> gpd.GeoDataFrame:
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": False, "model_id": "m@0", "run_id": "abc"}
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    rows = [
        plain | {"tile_id": grid.tile_id(*place), "row": place[0], "col": place[1]} | everywhere | tiles.get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    geometry = np.array([grid.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=grid.crs)


def render(
    grid: Grid,
    tiles: dict[tuple[int, int], dict[str, Any]],
    *,
    notes: Sequence[str] = (),
    n_left_out: int = 0,
    **everywhere: Any,
) -> str:
    findings = make_findings(grid, tiles, **everywhere)
    return render_page(
        findings,
        changes=dissolve_changes(findings, grid=grid),
        coverage=measure_coverage(findings, tiles=None, grid=grid),
        store=PaintedStore(folder=RunFolder("unused"), grid=grid, content_key="key", shard_size_tiles=2),
        prompts=[PROMPT],
        told=choose_told(findings),
        before_name=f"old {HOSTILE}",
        after_name="new",
        notes=notes,
        n_left_out=n_left_out,
        min_confidence=0.5,
    )


def test_how_many_places_are_left_out_is_told_where_some_are() -> None:
    assert "3 further places are left out, as their confidence is below 50 %" in render(make_grid(), {}, n_left_out=3)
    assert "left out" not in render(make_grid(), {})


def test_what_is_to_be_known_of_all_of_it_stands_at_the_head() -> None:
    html = render(make_grid(), {}, notes=[f"tiles are too large {HOSTILE}"])

    before, _, after = html.partition('<p class="warning">')
    assert after.startswith("<b>Note:</b> tiles are too large ")
    assert HOSTILE not in html
    assert 'class="lead"' not in before
    assert '<p class="warning">' not in render(make_grid(), {})


def read_data(html: str) -> dict[str, Any]:
    """Read what the page holds for its script, as the script does."""

    def unpack(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: unpack(part) for name, part in value.items()}
        if not (isinstance(value, list) and len(value) == 2 and value[0] in ["json", *ARRAY_TYPES]):
            return value
        content = gzip.decompress(base64.b64decode(value[1]))
        return json.loads(content) if value[0] == "json" else np.frombuffer(content, ARRAY_TYPES[value[0]])

    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return {name: unpack(value) for name, value in json.loads(found[1]).items()}


class Page(HTMLParser):
    """What a browser would make of the page: tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        names = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.tags if name == tag and names.items() <= found.items()]


def test_model_text_is_shown_and_never_run() -> None:
    tiles = {
        (0, 0): {"is_changed": True, "building_cells": "top-left", "description": HOSTILE},
        (1, 1): {"status": "unreadable", "is_changed": None, "reason": f"count: {HOSTILE}"},
    }

    html = render(make_grid(), tiles, model_id=HOSTILE, run_id=HOSTILE)
    page = Page(html)

    assert [script.get("type") for script in page.find("script")] == ["application/json", None, "module"]
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.find("img"))
    assert read_data(html)["changes"]["texts"] == [HOSTILE]
    # As title, date, date on the map, close-up, trouble, prompt, scene name, model and run.
    assert page.text.count(HOSTILE) >= 7


def test_the_page_needs_nothing_from_elsewhere_and_allows_only_its_own_scripts_and_style() -> None:
    html = render(make_grid(), {(0, 0): {"is_changed": True, "road_cells": "top-left"}})
    page = Page(html)

    links = [value for _, found in page.tags for name, value in found.items() if name in {"src", "href"} and value]
    assert all(link.startswith(("data:", "#")) or link in {"tiles.parquet", "changes.parquet"} for link in links)
    scripts = re.findall(r"<script(?: type=\"module\")?>(.*?)</script>", html, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"https?://|@import|url\((?!#)", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    library, own, styled = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (*scripts, style)
    )
    (policy,) = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == (
        f"default-src 'none'; img-src data: 'self' file:; style-src 'sha256-{styled}'; script-src 'sha256-{library}' "
        f"'sha256-{own}' 'self' file:; base-uri 'none'; form-action 'none'"
    )
    # Such a policy lets no attribute style anything.
    assert not [name for _, found in page.tags for name in found if name == "style" or name.startswith("on")]


def test_changes_lie_on_the_map_in_pixels_of_the_grid() -> None:
    grid = make_grid(tile_size_px=48)
    tiles = {(1, 2): {"is_changed": True, "road_cells": "top-left;top-center", "building_cells": ""}}

    page = Page(render(grid, tiles))

    (road,) = page.find("path", class_="shape road")
    assert sorted(re.findall(r"\d+ \d+", road["d"] or "")) == sorted(["96 48", "128 48", "128 64", "96 64"])
    assert {still["viewbox"] for still in page.find("svg", class_="still-map")} == {"0 0 192 144"}


def test_what_was_not_seen_is_told_and_drawn() -> None:
    tiles = {
        (0, 0): {"status": "no_data", "is_changed": None, "valid_fraction": 0.0, "reason": "nothing valid"},
        (0, 1): {"status": "failed", "is_changed": None, "reason": "worker lost"},
        (0, 2): {"status": "identical"},
    }

    page = Page(render(make_grid(), tiles))

    assert "Nothing is known about 128 m² of the ground: not seen does not mean not changed." in page.text
    assert "The model looked at 9 of 12 tiles and found 0 changed ." in page.text
    assert "worker lost" in page.text
    assert len(page.find("path", class_="shape unseen")) == len(page.find("path", class_="shape unknown")) == 1
    for status in ("analysed", "no data", "failed", "identical"):
        assert f" {status} " in page.text
    assert " cloudy " not in page.text


def test_a_run_without_changes_says_so() -> None:
    page = Page(render(make_grid(), {}))

    assert "The model placed no change of a building or a road." in page.text
    assert not page.find("article")


def test_changed_tiles_without_a_place_are_told() -> None:
    page = Page(render(make_grid(), {(0, 0): {"is_changed": True}}))

    assert "changed, place not told" in page.text


def test_page_and_reads_are_bounded() -> None:
    grid = make_grid(n_rows=8, n_cols=8)
    corners = ";".join(CELL_NAMES[i] for i in (0, 2, 4, 6, 8))
    tiles = {
        (row, col): {"is_changed": True, "building_cells": corners, "description": "house " * 1000}
        for row in range(8)
        for col in range(8)
    }

    page = Page(render(grid, tiles))

    assert len(page.find("article")) == MAX_CARDS
    assert "smaller changes are in changes.parquet" in page.text
    assert "house " * (MAX_TEXT_LENGTH // 6 - 1) in page.text
    assert "house " * (MAX_TEXT_LENGTH // 6 + 1) not in page.text


def test_the_script_gets_every_change_and_tile() -> None:
    tiles = {
        (0, 1): {"is_changed": True, "change_confidence": 0.9, "building_cells": "top-left", "description": HOSTILE},
        (2, 3): {"status": "no_data", "is_changed": None, "valid_fraction": 0.0},
    }

    data = read_data(render(make_grid(tile_size_px=48), tiles))

    changes = data["changes"]
    assert (changes["ids"], changes["texts"]) == (["building_r0000_c0001_top-left"], [HOSTILE])
    corners = np.cumsum(changes["xSteps"]), np.cumsum(changes["ySteps"])
    assert {*zip(*(values.tolist() for values in corners), strict=True)} == {(48, 0), (64, 0), (64, 16), (48, 16)}
    states = data["tiles"]["states"].reshape(3, 4)
    statuses = data["tiles"]["statuses"]
    assert [statuses[states[place] >> 2] for place in ((0, 0), (0, 1), (2, 3))] == ["analysed", "analysed", "no_data"]
    assert [states[place] & 3 for place in ((0, 0), (0, 1), (2, 3))] == [0, 1, 2]
    assert data["tiles"]["confidences"].reshape(3, 4)[0, 1] == 180


def test_longitude_and_latitude_come_with_the_map() -> None:
    frame = MapFrame(grid=make_grid())

    lattice = frame.sample_lattice()

    middle = len(lattice["columns"]) // 2
    at = middle * len(lattice["columns"]) + middle
    expected = format_position(600_000 + 16, 3_300_000 - 12, crs="EPSG:32614")
    assert expected == f"{lattice['lats'][at]:.4f}° N, {-lattice['lons'][at]:.4f}° W"


def decode(uri: str) -> npt.NDArray[np.int16]:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.int16)


def show(grid: Grid, *places: tuple[int, int]) -> npt.NDArray[np.bool_]:
    is_visible = np.zeros((grid.n_rows, grid.n_cols), dtype=bool)
    is_visible[tuple(zip(*places, strict=True)) if places else ()] = True
    return is_visible


def test_pictures_show_every_tile_in_its_place_whatever_the_scale() -> None:
    grid = make_grid(n_rows=3, n_cols=4, tile_size_px=64)
    store = PaintedStore(folder=RunFolder("unused"), grid=grid, content_key="key", shard_size_tiles=2)
    window = Window(top=64, left=32, height=128, width=224)

    pictures = read_pictures(store, is_visible=show(grid), window=window, max_size_px=112)

    before, after = decode(pictures.before_uri), decode(pictures.after_uri)
    assert before.shape == after.shape == (64, 112, 3)
    expected_before = np.repeat([60, 100], 32)[:, None]
    expected_after = np.repeat([20, 60, 100, 140], [16, 32, 32, 32])[None, :]
    assert np.abs(before[..., 0] - expected_before)[4:28].max() <= 6
    assert np.abs(after[..., 0] - expected_after)[:, 20:44].max() <= 6
    assert sum(store.n_read) == 8


def test_ground_that_was_not_seen_is_blank_and_darkens_nothing() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile_size_px=64)
    store = PaintedStore(folder=RunFolder("unused"), grid=grid, content_key="key", shard_size_tiles=2)
    window = Window(top=0, left=0, height=64, width=128)

    pictures = read_pictures(store, is_visible=show(grid, (0, 0)), window=window, max_size_px=1200)
    pair = np.full((2, 3, 8, 8), 200, dtype=np.uint8)
    pair[..., 4:] = 0

    assert np.abs(decode(pictures.before_uri)[:, 96:] - np.array(UNSEEN_COLOUR)).max() <= 3
    assert np.array_equal(shrink_pair(pair, shape_px=(1, 1)), np.full((2, 1, 1, 3), 200))
    assert tuple(shrink_pair(pair, shape_px=(4, 4))[0, 0, 3]) == UNSEEN_COLOUR


def test_pictures_of_more_tiles_than_pixels_stay_small() -> None:
    grid = make_grid(n_rows=3, n_cols=50)
    store = PaintedStore(folder=RunFolder("unused"), grid=grid, content_key="key", shard_size_tiles=2)

    pictures = read_pictures(store, is_visible=~show(grid), window=MapFrame(grid=grid).window, max_size_px=20)

    assert decode(pictures.before_uri).shape == (1, 20, 3)


@pytest.mark.parametrize("place", [(0, 0, 8, 8), (0, 0, 400, 30), (150, 90, 158, 98)])
def test_close_ups_are_square_lie_on_the_map_and_show_the_change(place: tuple[int, int, int, int]) -> None:
    grid = make_grid(n_rows=30, n_cols=60)
    left, top, right, bottom = place
    change = shapely.box(600_000 + left, 3_300_000 - bottom, 600_000 + right, 3_300_000 - top)

    window = frame_close_up(change, grid=grid)

    assert window.height == window.width
    assert 16 <= window.width <= 5 * 16
    assert 0 <= window.left <= grid.width_px - window.width
    assert 0 <= window.top <= grid.height_px - window.height
    shown = shapely.box(
        600_000 + window.left / 2,
        3_300_000 - (window.top + window.height) / 2,
        600_000 + (window.left + window.width) / 2,
        3_300_000 - window.top / 2,
    )
    assert shown.intersection(change).area > 0


@pytest.mark.parametrize(
    ("width_m", "label", "percent"),
    [(1064, "200 m", 18.797), (25, "5 m", 20.0), (3, "0.5 m", 16.667), (48_000, "5 km", 10.417)],
)
def test_scale_bars_are_round_and_true(width_m: float, label: str, percent: float) -> None:
    assert choose_scale_bar(width_m) == {"label": label, "percent": percent}


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "0 %"), (0.002, "< 1 %"), (0.5, "50 %"), (0.998, "> 99 %"), (1, "100 %")]
)
def test_shares_never_round_to_nothing_or_all(fraction: float, text: str) -> None:
    assert format_percent(fraction) == text


@pytest.mark.parametrize(("area_m2", "text"), [(1820.4, "1820 m²"), (42_000, "4.2 ha"), (2.5e6, "2.50 km²")])
def test_areas_have_a_fitting_unit(area_m2: float, text: str) -> None:
    assert format_area(area_m2) == text


def test_positions_are_written_for_people() -> None:
    assert format_position(500_000, 0, crs="EPSG:32614") == "0.0000° N, 99.0000° W"
    assert format_position(500_000, 10_000_000 - 110_000, crs="EPSG:32754").endswith("S, 141.0000° E")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("many houses are built , and a road appears .", "Many houses are built, and a road appears."),
        ("Two houses.", "Two houses."),
        ("", ""),
        ("x" * 500, "X" + "x" * (MAX_TEXT_LENGTH - 2) + "…"),
    ],
)
def test_words_are_set_as_a_sentence(words, shown):
    assert tidy_text(words) == shown


def test_plots_are_shown_with_their_figures_in_words() -> None:
    grid = make_grid()
    findings = make_findings(grid, {})

    html = render_page(
        findings,
        changes=dissolve_changes(findings, grid=grid),
        coverage=measure_coverage(findings, tiles=None, grid=grid),
        store=PaintedStore(folder=RunFolder("unused"), grid=grid, content_key="key", shard_size_tiles=2),
        prompts=[PROMPT],
        told=choose_told(findings),
        before_name="old",
        after_name="new",
        plots={"coverage.png": PlotText(title="Coverage", alt=f"12 tiles {HOSTILE}")},
    )

    (image,) = Page(html).find("img", src="plots/coverage.png")
    assert image["alt"] == f"12 tiles {HOSTILE}"
    assert "<h2>Plots</h2>" not in render(grid, {})


@pytest.mark.parametrize(
    ("sources", "said", "unsaid"),
    [
        ([], "", "shapes"),
        (["cells"], "The shapes are made of cells 43 m wide", "Outlines"),
        (["outline"], "Outlines are drawn by the model", "cells"),
        (["outline", "cells"], "The other shapes are made of cells 43 m wide", "The shapes are"),
        (["outline"] * 20_001, "the 20,000 largest of 20,001 changes", "cells"),
    ],
)
def test_the_note_says_what_the_shapes_are(sources: list[str], said: str, unsaid: str) -> None:
    note = note_shapes(pd.Series(sources, dtype=str), cell="43 m")

    assert said in note
    assert unsaid not in note


def test_a_page_of_tiles_that_are_too_coarse_calls_no_place_unchanged() -> None:
    html = render(make_grid(), {}, model_fit="coarse", is_changed=None)
    words = " ".join(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL).split())

    assert "too coarse to tell" in words
    assert "It was not made to see any on ground as coarse." in words
    assert "unchanged" not in re.sub(r"<[^>]*>", "", words)

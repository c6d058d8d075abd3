from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from skimage.color import rgb2lab

from pipeline.grid.grid import Grid
from pipeline.report.colours import KIND_COLOURS
from pipeline.report.plot_drawing import CLASS_COLOURS
from pipeline.report.plot_figures import (
    COVERAGE_CLASSES,
    MAX_MAP_SIDE,
    summarise_confidences,
    summarise_coverage_map,
    summarise_run,
    summarise_sizes,
    summarise_timeline,
)
from pipeline.report.plots import describe_plots, draw_plots

NO_CHANGES = pd.DataFrame({"kind": pd.Series([], dtype="str"), "area_m2": pd.Series([], dtype="float64")})


def make_grid(n_rows: int, n_cols: int) -> Grid:
    return Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_000.0,
        origin_y=3_300_000.0,
        tile_size_px=256,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=n_cols * 256,
        height_px=n_rows * 256,
    )


def make_findings(grid: Grid, tiles: dict[tuple[int, int], dict[str, Any]] | None = None) -> Any:
    """Unchanged tiles of confidence 0.9, but for those named."""
    n_tiles = grid.n_rows * grid.n_cols
    rows, cols = np.divmod(np.arange(n_tiles), grid.n_cols)
    findings = pd.DataFrame(
        {
            "row": pd.array(rows, dtype="Int32"),
            "col": pd.array(cols, dtype="Int32"),
            "status": pd.Series(["analysed"] * n_tiles, dtype="str"),
            "is_changed": pd.array([False] * n_tiles, dtype="boolean"),
            "change_confidence": pd.array([0.9] * n_tiles, dtype="Float32"),
            "model_fit": pd.Series([None] * n_tiles, dtype="str"),
        }
    )
    for (row, col), values in (tiles or {}).items():
        for name, value in values.items():
            findings.loc[row * grid.n_cols + col, name] = value
    return findings


UNSEEN: dict[str, Any] = {"is_changed": pd.NA, "change_confidence": pd.NA}
MIXED: dict[tuple[int, int], dict[str, Any]] = {
    (0, 0): {"is_changed": True, "change_confidence": 0.6},
    (0, 1): {"is_changed": True, "change_confidence": pd.NA},
    (0, 2): {"status": "cloudy"} | UNSEEN,
    (1, 0): {"status": "no_data"} | UNSEEN,
    (1, 1): {"status": "outside"} | UNSEEN,
    (1, 2): {"status": "failed"} | UNSEEN,
    (2, 0): {"status": "unreadable"} | UNSEEN,
    (2, 1): {"status": "identical", "change_confidence": pd.NA},
    (2, 2): {"model_fit": "coarse"} | UNSEEN,
}
CHANGES = pd.DataFrame(
    {"kind": ["building", "building", "road", "building"], "area_m2": [500.0, 1_000.0, 25_000.0, 2e6]}
)


def make_timeline(*rows: dict[str, Any]) -> pd.DataFrame:
    plain = {
        "status": "done",
        "analysed_fraction": 1.0,
        "building_count": 0,
        "road_count": 0,
        "building_area_m2": 0.0,
        "road_area_m2": 0.0,
    }
    names = ["pair_id", "after_datetime", *plain]
    frame = pd.DataFrame([plain | {"pair_id": f"p{number}"} | row for number, row in enumerate(rows)], columns=names)
    frame["after_datetime"] = pd.to_datetime(frame["after_datetime"], utc=True)
    return frame.astype({"building_count": "Int32", "road_count": "Int32"})


TIMELINE = make_timeline(
    {"after_datetime": "2025-03-01", "building_count": 7, "building_area_m2": 20_000.0},
    {"after_datetime": "2025-01-01", "building_count": 3, "road_count": 2, "analysed_fraction": 0.5},
    {"after_datetime": "2025-02-01", "status": "failed"}
    | dict.fromkeys(("building_count", "road_count", "building_area_m2", "road_area_m2", "analysed_fraction"), None),
)


def decode(png: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count_colour(png: bytes, colour: str) -> int:
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((decode(png) == wanted).all(axis=2).sum())


def list_chunks(png: bytes) -> Iterator[str]:
    position = 8
    while position < len(png):
        length, name = struct.unpack(">I4s", png[position : position + 8])
        checksum = struct.unpack(">I", png[position + 8 + length : position + 12 + length])[0]
        assert checksum == zlib.crc32(png[position + 4 : position + 8 + length])
        yield name.decode()
        position += 12 + length


def test_every_tile_has_its_class_in_its_place() -> None:
    grid = make_grid(3, 3)

    coverage = summarise_coverage_map(make_findings(grid, MIXED), grid=grid)

    assert [[COVERAGE_CLASSES[code] for code in row] for row in coverage.squares.tolist()] == [
        ["changed", "changed", "cloudy"],
        ["no data", "outside", "answer missing"],
        ["answer missing", "not changed", "too coarse"],
    ]
    assert sum(coverage.counts.values()) == 9
    assert "changed 2" in coverage.text.alt
    assert "answer missing 2, too coarse 1" in coverage.text.alt


def test_a_square_of_many_tiles_hides_neither_a_change_nor_a_gap() -> None:
    grid = make_grid(1000, 1000)
    tiles = {(0, 0): {"is_changed": True}, (500, 998): {"status": "cloudy"} | UNSEEN}

    coverage = summarise_coverage_map(make_findings(grid, tiles), grid=grid)

    assert coverage.tiles_per_square == 3
    assert max(coverage.squares.shape) <= MAX_MAP_SIDE
    places = {tuple(place): coverage.squares[tuple(place)] for place in np.argwhere(coverage.squares != 6).tolist()}
    assert {place: COVERAGE_CLASSES[code] for place, code in places.items()} == {
        (0, 0): "changed",
        (166, 332): "cloudy",
    }


def test_confidences_are_those_of_tiles_with_a_verdict() -> None:
    confidences = summarise_confidences(make_findings(make_grid(3, 3), MIXED))

    assert confidences.changed == pytest.approx([0.6])
    assert len(confidences.unchanged) == 0
    assert confidences.n_untold == 2
    assert confidences.text.alt.endswith("1 tile called changed, median 0.60. 2 have none.")


def test_changes_are_sorted_by_area() -> None:
    sizes = summarise_sizes(CHANGES)

    assert sizes.counts == {"building": (1, 1, 0, 0, 0, 1), "road": (0, 0, 0, 1, 0, 0)}
    assert sizes.text.alt == "Changes by area: 3 of kind building with 200.2 ha; 1 of kind road with 2.5 ha."


def test_a_time_line_is_put_in_order_and_a_failed_pair_leaves_a_gap() -> None:
    series = summarise_timeline(TIMELINE)

    assert series["counts.png"].moments.astype("datetime64[D]").astype(str).tolist() == [
        "2025-01-01",
        "2025-02-01",
        "2025-03-01",
    ]
    np.testing.assert_array_equal(series["counts.png"].values["buildings"], [3, np.nan, 7])
    np.testing.assert_array_equal(series["area.png"].values["buildings"], [0, np.nan, 2])
    np.testing.assert_array_equal(series["seen.png"].values["analysed"], [50, np.nan, 100])
    assert series["counts.png"].is_failed.tolist() == [False, True, False]
    assert series["counts.png"].text.alt == (
        "Changed objects over time, 3 pairs between 2025-01-01 and 2025-03-01: "
        "buildings 3 to 7 counted, lately 7; roads 0 to 2 counted, lately 0. 1 failed."
    )


@pytest.mark.parametrize(
    ("shape", "tiles", "changes"),
    [
        ((3, 3), MIXED, CHANGES),
        ((1, 1), {}, NO_CHANGES),
        ((1, 1), {(0, 0): {"status": "failed"} | UNSEEN}, NO_CHANGES),
        ((1, 500), {}, CHANGES.head(1)),
        ((500, 1), {}, CHANGES),
    ],
)
def test_a_run_of_any_shape_is_drawn(
    shape: tuple[int, int], tiles: dict[tuple[int, int], dict[str, Any]], changes: pd.DataFrame
) -> None:
    grid = make_grid(*shape)
    findings = make_findings(grid, tiles)

    figures = summarise_run(findings, changes, grid=grid)

    plots, texts = draw_plots(figures), describe_plots(figures)

    assert list(plots) == list(texts) == ["coverage.png", "confidence.png", "sizes.png"]
    for name, png in plots.items():
        height, width = decode(png).shape[:2]
        assert width == 979
        assert 300 < height < 900
        assert texts[name].alt.endswith(".")
    for kind, colour in KIND_COLOURS.items():
        # A bar, or but the swatch of the legend.
        assert (count_colour(plots["sizes.png"], colour) > 1500) == (kind in set(changes["kind"]))


def test_colours_on_the_map_are_in_proportion_to_the_tiles() -> None:
    grid = make_grid(4, 4)
    findings = make_findings(grid, {(row, col): {"is_changed": True} for row in range(4) for col in range(1)})

    png = draw_plots(summarise_run(findings, NO_CHANGES, grid=grid))["coverage.png"]

    changed, unchanged = (count_colour(png, CLASS_COLOURS[name]) for name in ("changed", "not changed"))
    # Besides the map, only the legend has these colours, and the letters the darker one.
    assert changed / (changed + unchanged) == pytest.approx(0.25, abs=0.02)
    assert count_colour(png, CLASS_COLOURS["cloudy"]) == 0


@pytest.mark.parametrize(
    "timeline",
    [
        TIMELINE,
        TIMELINE.head(0),
        TIMELINE.head(1),
        TIMELINE.assign(after_datetime=pd.NaT),
        TIMELINE.assign(after_datetime=TIMELINE["after_datetime"].iloc[0]),
        TIMELINE[TIMELINE["status"].eq("failed")],
    ],
    ids=["ordinary", "empty", "one date", "no dates", "equal dates", "all failed"],
)
def test_a_time_line_of_any_length_is_drawn(timeline: pd.DataFrame) -> None:
    figures = summarise_timeline(timeline)

    plots, texts = draw_plots(figures), describe_plots(figures)

    assert list(plots) == list(texts) == ["counts.png", "area.png", "seen.png"]
    assert all(decode(png).shape == (576, 979, 3) for png in plots.values())
    assert ("no pair was analysed yet" in texts["counts.png"].alt) == timeline.empty


def test_equal_figures_give_equal_bytes_that_tell_of_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    grid = make_grid(3, 3)
    findings = make_findings(grid, MIXED)
    first = draw_plots(summarise_run(findings, CHANGES, grid=grid) | summarise_timeline(TIMELINE))
    # What a user may have in a matplotlibrc.
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 22.0)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.facecolor", "black")

    mixed = findings.sample(frac=1, random_state=1)
    second = draw_plots(summarise_run(mixed, CHANGES, grid=grid) | summarise_timeline(TIMELINE))

    assert second == first
    assert {name for png in first.values() for name in list_chunks(png)} == {"IHDR", "pHYs", "IDAT", "IEND"}
    assert matplotlib.rcParams["font.size"] == 22.0


SIGHTS = {
    "all colours": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, severity 1.0.
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("colours", [CLASS_COLOURS, KIND_COLOURS], ids=["classes", "kinds"])
def test_colours_stay_apart_for_everyone(sight: str, colours: dict[str, str]) -> None:
    def see(colour: str) -> npt.NDArray[np.float64]:
        given = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
        light = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
        seen = np.clip(SIGHTS[sight] @ light, 0, 1)
        shown = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab: npt.NDArray[np.float64] = rgb2lab(shown[None, None])[0, 0]
        return lab

    for one, other in combinations(colours, 2):
        # A difference of 2 can just be seen, of 10 at a glance.
        assert np.linalg.norm(see(colours[one]) - see(colours[other])) > 14, (one, other)

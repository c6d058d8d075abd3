"""Masks of tiles become outlines that meet: what is cut into tiles is put together again, to the pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from made_outlines import make_findings, make_grid, make_table, make_tile
from scipy import ndimage

from model.certainty import Certainty, OutlineFit, describe_outlines
from model.interface import Answer, ChangeMasks, Prompt, PromptKind
from pipeline.answers import outlines as module
from pipeline.answers.meaning import find_claims
from pipeline.answers.outlines import Outline, answer_with_outlines, choose_outline_kinds, trace_mask
from pipeline.answers.parts import OUTLINES_SCHEMA, decode_outlines, encode_outlines, is_whole_outline_part
from pipeline.findings.changes import dissolve_changes
from pipeline.findings.outline_changes import label_meeting
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import DISSOLVED_SCHEMA

CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
LOCATE = Prompt(name="where", kind=PromptKind.LOCATE, text="Where?")


def cut_tiles(mask: np.ndarray, *, grid: Grid, kind: str = "building") -> list[Outline]:
    """Trace a mask of the whole grid tile by tile, each with the margin that a model would see of it."""
    padded = np.pad(mask.astype(np.float32), grid.overlap_px)
    outlines = []
    for row in range(grid.n_rows):
        for col in range(grid.n_cols):
            top, left, height, width = (
                value + grid.overlap_px * (i < 2) for i, value in enumerate(grid.tile_window(row, col))
            )
            seen = padded[top : top + height, left : left + width]
            outlines += trace_mask(seen * 0.8 + 0.1, kind=kind, tile=make_tile(grid, row, col), grid=grid)
    return outlines


def draw_as_rasterio_does(mask: np.ndarray, *, grid: Grid) -> list[shapely.Polygon]:
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4, transform=grid.transform)
    return [shapely.geometry.shape(shape) for shape, _ in shapes]


BY_EACH = OutlineFit(
    kind="building", means=(0, 0, 0), scales=(1, 1, 1), weights=(0.3, 0.2, 0.7), bias=0.1, n_outlines=100
)
"""Tells each of its three features."""

MASKS = st.tuples(st.integers(0, 2**32 - 1), st.floats(0.35, 0.65), st.sampled_from([2, 4, 8]))


def paint_mask(grid: Grid, seed: int, level: float, grain: int) -> np.ndarray:
    """Paint blobs of about so many pixels, with holes, pixels that touch by corners, and much along every border."""
    height, width = grid.shape_px
    noise = np.random.default_rng(seed).random((height // grain + 1, width // grain + 1))
    mask = np.asarray(ndimage.zoom(noise, grain, order=1)[:height, :width] > level)
    is_covered = np.zeros_like(mask)
    is_covered[grid.top_px : grid.top_px + grid.height_px, grid.left_px : grid.left_px + grid.width_px] = True
    return mask & is_covered


@settings(max_examples=12, deadline=None)
@given(MASKS, st.sampled_from([0, 4, 8]))
def test_tiles_put_together_are_what_rasterio_draws_of_the_whole_mask(
    mask_of: tuple[int, float, int], overlap_px: int
) -> None:
    grid = make_grid(overlap_px=overlap_px, width_px=3 * (32 - overlap_px) - 3, height_px=2 * (32 - overlap_px) - 5)
    mask = paint_mask(grid, *mask_of)
    expected = draw_as_rasterio_does(mask, grid=grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TOLERANCE_PX", 0.0)
        table = make_table(cut_tiles(mask, grid=grid))

    changes = dissolve_changes(make_findings(grid), grid=grid, outlines=[table])

    assert list(changes.columns) == DISSOLVED_SCHEMA.names
    assert {shapely.normalize(shape).wkb for shape in expected} == {
        shapely.normalize(shape).wkb for shape in changes.geometry
    }
    assert changes["change_id"].is_unique


@settings(max_examples=12, deadline=None)
@given(MASKS, st.sampled_from([0, 8]))
def test_simplified_outlines_open_no_seam_and_do_not_overlap(mask_of: tuple[int, float, int], overlap_px: int) -> None:
    grid = make_grid(overlap_px=overlap_px)
    mask = paint_mask(grid, *mask_of)
    _, n_expected = ndimage.label(mask)

    changes = dissolve_changes(make_findings(grid), grid=grid, outlines=[make_table(cut_tiles(mask, grid=grid))])

    assert len(changes) == n_expected
    assert changes.geometry.is_valid.all()
    assert (changes.geom_type == "Polygon").all()
    united = changes.union_all()
    assert changes.area.sum() == pytest.approx(united.area, abs=1e-6)
    # On every border between tiles just those pixels are covered that the mask has on both sides of it.
    for col in range(1, grid.n_cols):
        x = col * grid.stride_px
        border = shapely.LineString([grid.transform @ (x, 0), grid.transform @ (x, grid.shape_px[0])])
        both = (mask[:, x - 1] & mask[:, x]).sum()
        inside = shapely.buffer(united, -1e-4, join_style="mitre")
        crossed = shapely.intersection(border, inside).length
        assert crossed == pytest.approx(both * grid.resolution_m, abs=1e-2)
    geod = pyproj.Geod(ellps="WGS84")
    # Its areas of rings have signs.
    on_earth = shapely.orient_polygons(changes.to_crs("EPSG:4326").geometry.to_numpy())
    for area_m2, shape in zip(changes["area_m2"], on_earth, strict=True):
        assert area_m2 == pytest.approx(abs(geod.geometry_area_perimeter(shape)[0]), rel=1e-5, abs=1e-4)


def test_simplified_outlines_have_few_corners_and_keep_a_house() -> None:
    grid = make_grid(n_rows=1, n_cols=1, tile=64)
    ys, xs = np.mgrid[:64, :64]
    slanting = (xs + ys > 40) & (xs + ys < 80) & (np.abs(xs - ys) < 20)
    house = (xs >= 50) & (xs < 62) & (ys >= 3) & (ys < 13)

    (first, second) = cut_tiles(slanting | house, grid=grid)

    assert shapely.equals(first.geometry, shapely.box(50, 3, 62, 13))
    assert len(second.geometry.exterior.coords) < 12
    assert second.geometry.area == pytest.approx(slanting.sum(), rel=0.05)
    assert (second.n_pixels, second.n_seen_pixels) == (slanting.sum(), slanting.sum() + house.sum())
    assert second.probability == pytest.approx(0.9)


def test_a_change_of_outlines_says_what_its_tiles_do() -> None:
    grid = make_grid(n_rows=1, n_cols=2)
    mask = np.zeros(grid.shape_px, bool)
    mask[10:20, 26:42] = True  # 6 columns in the first tile, 10 in the second
    mask[0:10, 0:2] = True  # and a change of the first tile's own: 20 pixels beside 60
    said = {
        (0, 0): {"building_count": 4, "change_confidence": 0.5, "description": "four houses"},
        (0, 1): {"building_count": 3, "change_confidence": 0.75, "description": "three houses"},
    }  # fmt: skip

    table, findings = make_table(cut_tiles(mask, grid=grid)), make_findings(grid, said)
    changes = dissolve_changes(findings, grid=grid, outlines=[table], certainty=Certainty(outlines=(BY_EACH,)))

    own, shared = changes.to_dict("records")
    assert own["change_id"] == "building_r0000_c0000_y0000_x0000"
    assert shared["change_id"] == "building_r0000_c0000_y0010_x0026"
    assert (own["count"], shared["count"]) == (4 * 20 / 80, 4 * 60 / 80 + 3)
    # As one: by its highest pixel, by all of its area, and by what its tiles say, each by its part of that.
    yes = (0.5 * 60 + 0.75 * 100) / 160
    features = describe_outlines(peaks=[0.9], tile_shares=[160 / 32**2], yes=[yes])
    assert shared["confidence"] == pytest.approx(BY_EACH.estimate(features)[0])
    assert dissolve_changes(findings, grid=grid, outlines=[table])["confidence"].isna().all()
    assert shared["mask_probability"] == pytest.approx(0.9)
    assert shared["description"] == "three houses"
    assert (shared["tile_count"], shared["tile_ids"]) == (2, "r0000_c0000;r0000_c0001")
    assert (shared["geometry_source"], pd.isna(shared["cell_count"])) == ("outline", True)
    left, top = 621_000 + 26 * 0.5, 3_362_000 - 10 * 0.5
    assert shapely.equals(shared["geometry"], shapely.box(left, top - 5, left + 8, top))


@pytest.mark.parametrize(
    ("said", "sources"),
    [
        ({"is_changed": False, "building_cells": "top-left"}, []),
        ({"building_cells": ""}, []),
        ({"building_cells": None, "building_count": 0}, []),
        ({"building_cells": None, "building_count": None}, ["outline"]),
        ({"building_cells": "top-left", "building_count": 0}, ["outline"]),
        ({"is_changed": None, "status": "unreadable"}, ["outline"]),
        ({"status": "failed", "is_changed": None}, []),
    ],
)
def test_the_answers_tell_whether_and_the_mask_tells_where(said: dict[str, Any], sources: list[str]) -> None:
    grid = make_grid(n_rows=1, n_cols=1)
    mask = np.zeros(grid.shape_px, bool)
    mask[5:9, 5:9] = True

    table = make_table(cut_tiles(mask, grid=grid))
    changes = dissolve_changes(make_findings(grid, {(0, 0): said}), grid=grid, outlines=[table])

    assert changes["geometry_source"].tolist() == sources


def test_cells_stay_where_there_is_no_mask() -> None:
    grid = make_grid(n_rows=1, n_cols=2)
    mask = np.zeros(grid.shape_px, bool)
    mask[12:20, 24:32] = True
    findings = make_findings(grid, building_cells="center-right;center-left", road_cells="top-left", building_count=2)

    changes = dissolve_changes(findings, grid=grid, outlines=[make_table(cut_tiles(mask, grid=grid))])

    found = list(zip(changes["kind"], changes["geometry_source"], changes["tile_ids"], strict=True))
    assert found == [
        ("building", "cells", "r0000_c0001"),
        ("building", "cells", "r0000_c0001"),
        ("building", "outline", "r0000_c0000"),
        ("road", "cells", "r0000_c0000"),
        ("road", "cells", "r0000_c0001"),
    ]
    assert changes["count"].iloc[:3].tolist() == [1, 1, 2]


def test_what_lies_with_a_neighbour_is_left_to_it() -> None:
    grid = make_grid(n_rows=1, n_cols=2, overlap_px=8)
    mask = np.zeros(grid.shape_px, bool)
    mask[10:14, 24:28] = True  # In the margin of the first tile, on ground of the second.

    first, second = cut_tiles(mask, grid=grid)
    findings = make_findings(grid, building_cells="center-right", building_count=1)
    (change,) = dissolve_changes(findings, grid=grid, outlines=[make_table([first, second])]).to_dict("records")

    assert (first.tile_id, first.n_pixels, first.n_seen_pixels, first.geometry.is_empty) == ("r0000_c0000", 0, 16, True)
    assert (second.tile_id, second.n_pixels) == ("r0000_c0001", 16)
    assert (change["tile_ids"], change["count"], change["geometry_source"]) == ("r0000_c0001", 1, "outline")


def test_pieces_that_touch_by_a_corner_over_a_seam_stay_apart() -> None:
    grid = make_grid(n_rows=2, n_cols=2)
    mask = np.zeros(grid.shape_px, bool)
    mask[20:32, 20:32] = mask[32:40, 32:40] = True

    pieces = np.array([outline.geometry for outline in cut_tiles(mask, grid=grid)])

    assert label_meeting(pieces, grid=grid).tolist() == [0, 1]


def test_a_region_in_two_runs_is_outlined_as_in_one() -> None:
    grid = make_grid(n_rows=2, n_cols=4)
    mask = paint_mask(grid, 3, 0.5, 8)
    outlines = cut_tiles(mask, grid=grid)
    whole = dissolve_changes(make_findings(grid, building_count=3), grid=grid, outlines=[make_table(outlines)])
    is_west = [outline.tile_id.endswith(("c0000", "c0001")) for outline in outlines]
    parts = []
    for flag in (True, False):
        some = [outline for outline, west in zip(outlines, is_west, strict=True) if west == flag]
        parts.append(dissolve_changes(make_findings(grid, building_count=3), grid=grid, outlines=[make_table(some)]))
    two = pd.concat(parts)

    assert whole["area_m2"].sum() == pytest.approx(two["area_m2"].sum(), rel=1e-12)
    assert whole.union_all().symmetric_difference(two.union_all()).area < 1e-6
    assert whole["count"].sum() == pytest.approx(two["count"].sum())


@pytest.mark.parametrize(
    ("setting", "labels", "kinds"),
    [
        ("auto", ("road", "building"), ("building", "road")),
        ("auto", ("building",), ("building",)),
        ("auto", ("change",), ()),
        ("auto", (), ()),
        ("off", ("building", "road"), ()),
    ],
)
def test_kinds_that_are_outlined(setting: Any, labels: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    assert choose_outline_kinds(setting, mask_labels=labels) == kinds


def test_claims_of_answers() -> None:
    texts = {
        "changed": ["No", "Yes", "Yes", "colourless green ideas"],
        "where": ["roads: []. buildings: ['top-left'].", "roads: []. buildings: ['top-left'].", "perhaps", "perhaps"],
    }

    claims = find_claims([CLASSIFY, LOCATE], texts=texts, kinds=["building", "road"], n_tiles=4)

    assert claims.tolist() == [[False, False], [True, False], [True, True], [True, True]]
    assert find_claims([], texts={}, kinds=["building"], n_tiles=2).tolist() == [[True], [True]]


def test_masks_are_asked_for_where_the_answers_leave_a_change_open() -> None:
    asked = []

    class HalvingModel:
        """Answers two pairs at a time, the second of each with yes."""

        def answer_with_masks(self, pairs: Any, *, prompts: Any, choose_masked: Any) -> Any:
            from model.interface import MaskedAnswers

            answers, chosen = [], []
            for start in range(0, len(pairs), 2):
                some = [[Answer(text=text, confidence=1.0) for text in ("No", "Yes")] for _ in prompts]
                asked.append(choose_masked(range(start, start + 2), some).tolist())
                answers, chosen = some, [*chosen, *(start + np.flatnonzero(asked[-1]))]
            masks = ChangeMasks(labels=("building",), probabilities=np.zeros((len(chosen), 1, 4, 4), np.float32))
            return MaskedAnswers(answers=answers, pair_indexes=np.array(chosen), masks=masks)

    _, masks, is_open = answer_with_outlines(
        HalvingModel(),  # type: ignore[arg-type]
        np.zeros((4, 2, 3, 4, 4), np.uint8),
        prompts=[CLASSIFY],
        witnesses=[CLASSIFY, LOCATE],
        known={"where": ["buildings: ['top-left']. roads: []."] * 3 + ["buildings: []. roads: []."]},
        kinds=["building"],
    )

    assert asked == [[False, True], [False, False]]
    assert is_open[:, 0].tolist() == [False, True, False, False]
    assert len(masks.probabilities) == 1


def test_a_part_tells_whether_it_is_whole() -> None:
    grid = make_grid()
    tiles = [make_tile(grid, 0, 0), make_tile(grid, 0, 1)]
    mask = np.zeros(grid.shape_px, bool)
    mask[3:8, 3:9] = True
    data = encode_outlines(cut_tiles(mask, grid=grid), tiles=tiles)

    assert decode_outlines(data).schema.names == OUTLINES_SCHEMA.names
    assert is_whole_outline_part(data, tiles=tiles)
    assert is_whole_outline_part(encode_outlines([], tiles=tiles), tiles=tiles)
    assert not is_whole_outline_part(data, tiles=tiles[:1])
    assert not is_whole_outline_part(data[: len(data) // 2], tiles=tiles)
    assert not is_whole_outline_part(None, tiles=tiles)
    broken = bytearray(data)
    broken[len(data) // 8] ^= 255
    assert not is_whole_outline_part(bytes(broken), tiles=tiles)

"""Polygons whose pixels are known must come out as those masks, tile by tile, on the grid of a run."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from model.errors import InputError
from pipeline.config.run import RunConfig, load_config
from pipeline.scenes.pair import find_pair
from pipeline.training_data.truth_tiles import draw_mask, read_truth, remove_tiles, write_truth_tiles

WEST, NORTH, RESOLUTION_M, SIDE_PX, TILE_PX = 621_000.0, 3_362_000.0, 0.5, 128, 64
CRS = "EPSG:32614"
SQUARES = {"building": (slice(10, 20), slice(70, 90)), "road": (slice(60, 66), slice(0, 128))}
"""Rows and columns of the scene that each kind changed; the road crosses the border of two rows of tiles."""


def to_polygon(rows: slice, cols: slice) -> shapely.Polygon:
    left, right = (WEST + RESOLUTION_M * col for col in (cols.start, cols.stop))
    top, bottom = (NORTH - RESOLUTION_M * row for row in (rows.start, rows.stop))
    return shapely.box(left, bottom, right, top)


@pytest.fixture
def truth() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"kind": list(SQUARES)}, geometry=[to_polygon(*place) for place in SQUARES.values()], crs=CRS
    )


@pytest.fixture
def expected() -> np.ndarray:
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[SQUARES["road"]] = 128
    mask[SQUARES["building"]] = 255
    return mask


@pytest.fixture
def config(tmp_path) -> RunConfig:
    """Two scenes, the later one seen in its right three quarters alone."""
    pixels = np.full((3, SIDE_PX, SIDE_PX), 90, np.uint8)
    pixels[:, :, ::2] = 200
    for name in ("before", "after"):
        if name == "after":
            pixels[:, :, : SIDE_PX // 4] = 0
        transform = from_origin(WEST, NORTH, RESOLUTION_M, RESOLUTION_M)
        size = {"height": SIDE_PX, "width": SIDE_PX, "count": 3, "dtype": "uint8"}
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", crs=CRS, transform=transform, nodata=0, **size
        ) as file:
            file.write(pixels)
    values = {"before": str(tmp_path / "before.tif"), "after": str(tmp_path / "after.tif"), "output": str(tmp_path)}
    grid = {"resolution_m": RESOLUTION_M, "tile_size_px": TILE_PX, "crs": CRS}
    return load_config(None, values=values | {"grid": grid})


def draw_all(frame: gpd.GeoDataFrame, file: Path, *, config: RunConfig, **options) -> np.ndarray:
    """Draw every tile and put them together."""
    frame.to_file(file)
    grid = find_pair(config)[0].grid
    polygons = read_truth(file, grid=grid, **options)
    rows = [[draw_mask(polygons, grid=grid, row=row, col=col) for col in range(grid.n_cols)] for row in range(2)]
    return np.block(rows)


@pytest.mark.parametrize("crs", [CRS, "EPSG:4326", "EPSG:3857"])
def test_polygons_of_any_crs_become_their_pixels(truth, expected, config, tmp_path, crs):
    drawn = draw_all(truth.to_crs(crs), tmp_path / "truth.gpkg", config=config)
    np.testing.assert_array_equal(drawn, expected)


def test_buildings_cover_roads(truth, config, tmp_path):
    both = truth.copy()
    both.geometry = [truth.geometry[0]] * 2
    drawn = draw_all(both, tmp_path / "truth.geojson", config=config)
    assert set(np.unique(drawn)) == {0, 255}


def test_kinds_may_have_other_names_and_columns(truth, expected, config, tmp_path):
    frame = truth.rename(columns={"kind": "class"}).assign(**{"class": ["House", "lane"]})
    drawn = draw_all(
        frame, tmp_path / "t.gpkg", config=config, kind_column="class", kinds={"house": "building", "lane": "road"}
    )
    np.testing.assert_array_equal(drawn, expected)


def test_without_kinds_all_are_buildings(truth, expected, config, tmp_path):
    drawn = draw_all(truth.drop(columns="kind"), tmp_path / "t.gpkg", config=config)
    np.testing.assert_array_equal(drawn, np.where(expected > 0, 255, 0))


def test_what_is_there_on_both_dates_did_not_change(truth, expected, config, tmp_path):
    frame = truth.assign(is_in_before=[False, True], is_in_after=[True, True])
    drawn = draw_all(frame, tmp_path / "t.gpkg", config=config)
    np.testing.assert_array_equal(drawn, np.where(expected == 255, 255, 0))
    # Roads are known all the same: none changed.
    assert set(read_truth(tmp_path / "t.gpkg", grid=find_pair(config)[0].grid).trees) == {"building", "road"}


def test_tiles_are_written_with_what_both_dates_show(truth, expected, config, tmp_path):
    truth.to_file(tmp_path / "t.gpkg")
    steps = []

    made = write_truth_tiles(
        config,
        truth=tmp_path / "t.gpkg",
        folder=tmp_path / "images/val",
        name="town",
        on_progress=lambda done, total: steps.append((done, total)),
    )

    assert (made.n_written, made.has_road_truth, made.n_ignored, made.skipped) == (4, True, 0, {})
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    expected[:, : SIDE_PX // 4] = 0
    for row in range(2):
        for col in range(2):
            name = f"town_r{row:04d}_c{col:04d}.png"
            part = (slice(row * TILE_PX, (row + 1) * TILE_PX), slice(col * TILE_PX, (col + 1) * TILE_PX))
            np.testing.assert_array_equal(Image.open(tmp_path / "images/val/label" / name), expected[part])
            assert np.asarray(Image.open(tmp_path / "images/val/A" / name))[0, :2].tolist() == [[200] * 3, [90] * 3]
    remove_tiles(tmp_path / "images")
    assert not list((tmp_path / "images").iterdir())


def test_tiles_that_show_too_little_are_left_out(truth, config, tmp_path):
    truth.to_file(tmp_path / "t.gpkg")
    strict = config.model_copy(update={"tiles": config.tiles.model_copy(update={"min_valid_fraction": 0.6})})

    made = write_truth_tiles(strict, truth=tmp_path / "t.gpkg", folder=tmp_path / "images", name="town")

    assert made.n_written == 2
    assert dict(made.skipped) == dict.fromkeys(
        ["town_r0000_c0000", "town_r0001_c0000"], "50% of it is seen on both dates"
    )


def write_lines(frame: gpd.GeoDataFrame, file: Path) -> None:
    frame.set_geometry(frame.geometry.boundary).to_file(file)


BAD_TRUTHS = {
    "lines": (write_lines, {}, "holds LineString"),
    "no CRS": (lambda frame, file: frame.set_crs(None, allow_override=True).to_file(file), {}, "no CRS"),
    "no column": (lambda frame, file: frame.to_file(file), {"kind_column": "class"}, "no column 'class'"),
    "other kinds": (lambda frame, file: frame.assign(kind="tree").to_file(file), {}, "the kinds tree (2)"),
    "no vector file": (lambda frame, file: file.write_text("none"), {}, "cannot be read"),
    "no file": (lambda frame, file: None, {}, "cannot be read"),
}


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("case", BAD_TRUTHS)
def test_truth_that_cannot_be_drawn_is_refused(truth, config, tmp_path, case):
    write, options, found = BAD_TRUTHS[case]
    file = tmp_path / "truth.gpkg"
    write(truth, file)

    with pytest.raises(InputError) as problem:
        read_truth(file, grid=find_pair(config)[0].grid, **options)
    assert found in problem.value.found

"""Ground and coverage of a made scene whose truth is known: a fifth of it is blank, and its last tiles are strips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine

from pipeline.config.run import load_config
from pipeline.findings.coverage import Coverage
from pipeline.findings.extract import outline_tiles
from pipeline.findings.seen_ground import measure_coverage
from pipeline.polygons.aoi import GridArea
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.ground import find_extent
from pipeline.tiles.select import select_tiles
from pipeline.tiles.shards import create_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import TileTable, name_statuses

LEFT, TOP = 500_000.0, 3_300_000.0
HEIGHT, WIDTH = 102, 112
"""Three rows and columns of tiles of 32 m, and strips: the last row is 6 m high, the last column 16 m wide."""
M2_PER_PIXEL = 1 / 0.9996**2
"""On the central meridian of a UTM zone, lengths in the CRS are 0.9996 times those on the ground."""


def paint_pair(
    folder: Path,
    write_raster: Callable[..., Path],
    *,
    blank_px: int = 0,
    transform: Affine,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> ScenePair:
    """Give a pair whose later date lacks its first columns."""
    height, width = size
    bands = np.random.default_rng(3).integers(1, 256, (2, 3, height, width), dtype=np.uint8)
    bands[1, :, :, :blank_px] = 0
    scenes = {
        date: str(write_raster(folder / f"{date}.tif", bands=bands[n], nodata=0, transform=transform))
        for n, date in enumerate(("before", "after"))
    }
    assignments = ("grid.resolution_m=1", "grid.tile_size_px=32", "grid.crs=EPSG:32614", "registration.estimate=false")
    return find_pair(load_config(values={**scenes, "output": "never-written"}, assignments=assignments))[0]


def select(pair: ScenePair, folder: Path, *, area: GridArea | None = None) -> tuple[TileTable, Coverage]:
    run = RunFolder(str(folder / "run"))
    create_store(run, pair, shard_size_tiles=2)
    size = [-(-n // 2) for n in (pair.grid.n_rows, pair.grid.n_cols)]
    for shard in np.ndindex(*size):
        write_shard(run, pair, 2, *shard)
    store = TileStore(folder=run, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=2)
    extent = find_extent(pair)
    tiles, _ = select_tiles(store, area=area, min_valid_fraction=0.5, extent=extent)
    statuses = [status or "analysed" for status in name_statuses(tiles.status_codes).to_pylist()]
    columns: dict[str, Any] = {name: [None] * len(tiles) for name in FINDINGS_SCHEMA.names if name != "geometry"}
    columns |= {"row": tiles.rows, "col": tiles.cols, "status": statuses, "valid_fraction": tiles.valid_fractions}
    columns |= {name: [""] * len(tiles) for name in ("tile_id", "model_id", "run_id")}
    geometry = outline_tiles(tiles, grid=pair.grid)
    findings = make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=pair.grid.crs)
    return tiles, measure_coverage(findings, tiles=tiles, grid=pair.grid, area=area, extent=extent)


def box(top: float, left: float, bottom: float, right: float) -> GridArea:
    """Give an area of interest in metres from the corner of the scenes."""
    return GridArea(geometry=shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top), sha256="")


def test_all_of_a_scene_that_is_valid_throughout_is_seen(tmp_path: Path, write_raster: Any) -> None:
    tiles, coverage = select(paint_pair(tmp_path, write_raster, transform=Affine(1, 0, LEFT, 0, -1, TOP)), tmp_path)

    assert tiles.count_statuses() == {None: 16}
    assert coverage.seen_fraction == 1
    assert coverage.ground_m2["analysed"] == pytest.approx(HEIGHT * WIDTH * M2_PER_PIXEL, abs=0.1)
    # Of its last column of tiles the scene has 16 of 32 m, of its last row 6, and all of that is valid.
    assert tiles.ground_fractions[[3, 12, 15]].tolist() == [0.5, 6 / 32, 3 / 32]
    assert tiles.valid_fractions[[3, 12, 15]].tolist() == [0.5, 6 / 32, 3 / 32]


@pytest.mark.parametrize(
    ("area", "seen_px", "unseen_px", "n_analysed"),
    [
        # 22 columns are blank: the first tiles show 10 of 32 m, too little, and the others all.
        (None, HEIGHT * 80, HEIGHT * 32, 12),
        # All of it in a tile that is seen, though the tile is larger.
        (box(5, 40, 15, 50), 100, 0, 1),
        # 10 m of a tile whose rest is blank: what the area does not have is of no account.
        (box(0, 22, 10, 32), 100, 0, 1),
        (box(0, 0, 10, 22), 0, 220, 0),
        # 20 m, of which 10 m are blank.
        (box(0, 12, 10, 32), 100, 100, 1),
        # 21 m of which 11 m are blank, too much, and 32 m that are seen.
        (box(0, 11, 10, 64), 320, 210, 1),
    ],
)
def test_ground_is_seen_by_what_both_dates_show_in_the_area(
    tmp_path: Path, write_raster: Any, area: GridArea | None, seen_px: int, unseen_px: int, n_analysed: int
) -> None:
    pair = paint_pair(tmp_path, write_raster, blank_px=22, transform=Affine(1, 0, LEFT, 0, -1, TOP))

    tiles, coverage = select(pair, tmp_path, area=area)

    assert tiles.count_statuses().get(None, 0) == n_analysed
    assert coverage.seen_m2 == pytest.approx(seen_px * M2_PER_PIXEL, rel=1e-3, abs=0.1)
    assert coverage.total_m2 - coverage.seen_m2 == pytest.approx(unseen_px * M2_PER_PIXEL, rel=1e-3, abs=0.1)
    assert coverage.seen_fraction == pytest.approx(seen_px / (seen_px + unseen_px), rel=1e-4)


def test_an_area_that_reaches_beyond_the_scenes_is_not_seen_there(tmp_path: Path, write_raster: Any) -> None:
    pair = paint_pair(tmp_path, write_raster, transform=Affine(1, 0, LEFT, 0, -1, TOP))

    _, coverage = select(pair, tmp_path, area=box(0, 102, 40, 132))

    assert coverage.seen_fraction == pytest.approx(1 / 3, rel=1e-3)
    assert coverage.ground_m2["off"] == pytest.approx(800 * M2_PER_PIXEL, rel=1e-3)
    assert [share.status for share in coverage.list_shares() if share.is_there] == ["analysed", "outside", "off"]


def test_a_scene_that_lies_askew_has_no_ground_in_the_corners_of_its_grid(tmp_path: Path, write_raster: Any) -> None:
    askew = Affine.translation(LEFT + 100, TOP - 50) @ Affine.rotation(30) @ Affine.scale(1, -1)
    pair = paint_pair(tmp_path, write_raster, transform=askew, size=(120, 160))

    tiles, coverage = select(pair, tmp_path)

    # Half a pixel along its edge may be one way or the other.
    assert coverage.total_m2 == pytest.approx(120 * 160 * M2_PER_PIXEL, rel=0.02)
    assert coverage.seen_fraction > 0.999
    # Tiles that hold no more than a corner of the scene are seen like the others; what is left shows nothing.
    assert {tile.valid_fraction for tile in tiles if tile.status is not None} <= {0.0}

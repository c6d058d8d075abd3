"""Area of interest and zones are what their files held when the run began, whatever becomes of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from made_scenes import LEFT_M, N_COLS, N_ROWS, TILE_PX, TOP_M, make_config, make_scenes

from pipeline.config.run import RunConfig
from pipeline.polygons import aoi, zones
from pipeline.runs.inputs import check_inputs
from pipeline.runs.prepare import Run
from pipeline.runs.run import detect_changes
from pipeline.scenes.pair import find_pair

WHOLE = shapely.box(LEFT_M, TOP_M - N_ROWS * TILE_PX, LEFT_M + N_COLS * TILE_PX, TOP_M)
CORNER = shapely.box(LEFT_M, TOP_M - TILE_PX, LEFT_M + TILE_PX, TOP_M)


def write_polygons(config: RunConfig, *, shape: shapely.Polygon, zone_id: str) -> None:
    frame = gpd.GeoDataFrame({"id": [zone_id]}, geometry=[shape], crs="EPSG:32614")
    for path in (config.aoi, config.zones):
        frame.to_parquet(str(path))


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    scenes = make_scenes(tmp_path / "scenes", changed={})
    files = (f"aoi={tmp_path / 'aoi.parquet'}", f"zones={tmp_path / 'zones.parquet'}")
    config = make_config(scenes, output=tmp_path / "run", assignments=files)
    write_polygons(config, shape=WHOLE, zone_id="first")
    return config


def test_files_that_are_replaced_after_the_check_change_nothing(config: RunConfig) -> None:
    polygons = check_inputs(config)
    write_polygons(config, shape=CORNER, zone_id="second")
    pair, _ = find_pair(config, aoi=polygons.aoi)

    with Run.prepare(config, pair=pair, polygons=polygons) as run:
        assert run.area is not None
        assert run.area.geometry.area == pytest.approx(WHOLE.area)
        assert run.zones is not None
        assert run.zones.zone_ids == ("first",)


class _StoppedError(Exception):
    """Ends a run before its first tile."""


def test_each_file_is_read_once(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(original: Callable[..., Any]) -> Callable[..., Any]:
        def read_polygons(path: str, **settings: Any) -> Any:
            read.append(path)
            return original(path, **settings)

        return read_polygons

    for module in (aoi, zones):
        monkeypatch.setattr(module, "read_polygons", count(module.read_polygons))

    def start() -> Any:
        raise _StoppedError

    with pytest.raises(_StoppedError):
        detect_changes(config, open_cluster=start)

    assert sorted(read) == sorted([str(config.aoi), str(config.zones)])

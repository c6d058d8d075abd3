"""Runs with a model that has masks: outlines in the report, and parts that survive what answer parts survive."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import rasterio.features
import shapely
from distributed import Client
from fork_server import set_environment
from made_scenes import CELL_OFFSETS, CELL_PX, TILE_PX, MadeScenes, make_config, make_scenes
from qgis_drawing import DrawWithQgis
from rio_cogeo import cog_validate
from stand_in_model import HUNGRY_COLOUR

from flows.cluster import open_cluster
from model.errors import InputError
from pipeline.config.run import RunConfig
from pipeline.runs.export import export_report
from pipeline.runs.read import open_tiles
from pipeline.runs.record_files import read_record, write_record
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report
from pipeline.storage.object_facts import describe_bytes
from pipeline.storage.opening import find_run_folder
from pipeline.summary import StageSummary

CHANGED = {
    (0, 0): ["top-left"],
    # Over the border of two tiles, and of two shards.
    (1, 1): ["center-right"],
    (1, 2): ["center-left", "bottom-left"],
    (3, 5): ["bottom-right"],
}
N_BATCHES = 6

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("outlined") / "scenes", changed=CHANGED)


def make_outlining(scenes: MadeScenes, output: Path | str, *assignments: str) -> RunConfig:
    return make_config(scenes, output=output, assignments=("model.name=stand-in-outlining", *assignments))


def read_all(run: Path) -> dict[str, bytes]:
    """Give every file but the record, which tells of places and times."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def read_tables(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "report").glob("*.parquet"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    detect_changes(make_outlining(scenes, run), open_cluster=shared_cluster)
    return run


@pytest.fixture
def whole_run(tmp_path: Path, finished: Path) -> Path:
    """A copy of a finished run, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def draw_cell(row: int, col: int, cell: str) -> shapely.Polygon:
    dy, dx = CELL_OFFSETS[cell]
    left, top = 621_000 + col * TILE_PX + dx * CELL_PX, 3_362_000 - row * TILE_PX - dy * CELL_PX
    return shapely.box(left, top - CELL_PX, left + CELL_PX, top)


def test_outlines_are_what_changed_and_parts_are_made_once(
    whole_run: Path, tmp_path: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    squares = [draw_cell(*place, cell) for place, cells in CHANGED.items() for cell in cells]
    expected = gpd.GeoSeries([shapely.union_all(squares)]).explode().simplify(0)

    changes = gpd.read_parquet(whole_run / "report" / "changes.parquet")

    assert set(changes["geometry_source"]) == {"outline"}
    assert {shapely.normalize(shape).wkb for shape in changes.geometry} == {
        shapely.normalize(shape).wkb for shape in expected
    }
    assert changes["confidence"].isna().all()
    record = read_record(detect_changes(make_outlining(scenes, whole_run), open_cluster=shared_cluster).folder)
    assert record.thing_counts["building"] == len(squares)
    parts = sorted(name for name in record.files if name.startswith("outlines/"))
    assert parts == sorted(str(path.relative_to(whole_run)) for path in (whole_run / "outlines").iterdir())
    assert len(parts) == N_BATCHES

    before = read_all(whole_run)
    rebuild_report(str(whole_run))
    assert read_all(whole_run) == before

    off = make_outlining(scenes, tmp_path / "off", "model.outlines=off")
    without = detect_changes(off, open_cluster=shared_cluster)
    assert read_record(without.folder).run_id != record.run_id
    assert not (tmp_path / "off" / "outlines").exists()
    cells = gpd.read_parquet(tmp_path / "off" / "report" / "changes.parquet")
    assert set(cells["geometry_source"]) == {"cells"}
    assert cells.union_all().equals(changes.union_all())


def test_probabilities_of_change_are_read_back_and_named_in_the_item(
    whole_run: Path, tmp_path: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    (path,) = export_report(str(whole_run), formats=["probability"])

    is_cog, errors, warnings = cog_validate(path)
    assert (is_cog, errors, warnings) == (True, [], [])
    changes, store = gpd.read_parquet(whole_run / "report" / "changes.parquet"), open_tiles(str(whole_run))
    with rasterio.open(path) as raster:
        values = raster.read(1)
        drawn = rasterio.features.rasterize(changes.geometry, out_shape=raster.shape, transform=raster.transform)
        assert (raster.crs, raster.nodata) == (changes.crs, 255)
        assert raster.transform.almost_equals(store.rio.transform())
    # The stand-in's masks are sure of nine tenths wherever they show anything.
    assert set(values[drawn == 1].tolist()) == {225}
    is_valid = store["valid"].to_numpy().all(axis=0)[: values.shape[0], : values.shape[1]]
    np.testing.assert_array_equal(values[drawn == 0], np.where(is_valid, 0, 255)[drawn == 0])

    item = pystac.Item.from_file(str(whole_run / "report" / "item.json"))
    asset = item.assets["change_probability"]
    assert Path(asset.get_absolute_href() or "").resolve() == Path(path).resolve()
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(Path(path).read_bytes()).hexdigest()
    told = read_record(find_run_folder(str(whole_run))).files["report/item.json"]
    assert told["sha256"] == hashlib.sha256((whole_run / "report" / "item.json").read_bytes()).hexdigest()

    off = make_outlining(scenes, tmp_path / "off", "model.outlines=off")
    detect_changes(off, open_cluster=shared_cluster)
    with pytest.raises(InputError, match=r"has no masks: .*model\.outlines was off"):
        export_report(str(tmp_path / "off"), formats=["probability"])


def test_tiles_that_are_not_those_of_the_run_make_no_raster(whole_run: Path, tmp_path: Path) -> None:
    """Its record or its table is a stranger's: a grid of any size could be asked for."""
    place = whole_run / "report" / "tiles.parquet"
    pq.write_table(pq.read_table(place).slice(1), place)
    folder = find_run_folder(str(whole_run))
    record = read_record(folder)
    files = {**record.files, "report/tiles.parquet": dict(describe_bytes(place.read_bytes()))}
    write_record(replace(record, files=files), folder=folder)

    with pytest.raises(InputError, match=r"is not the table of its run \(23 rows for 4 x 6 tiles\)"):
        export_report(str(whole_run), formats=["probability"], output=str(tmp_path))


def test_qgis_has_the_probabilities_as_a_layer(finished: Path, tmp_path: Path, draw_with_qgis: DrawWithQgis) -> None:
    export_report(str(finished), formats=["qgis"], output=str(tmp_path))

    drawn = draw_with_qgis(tmp_path / "qgis" / "report.qgz")

    layer = drawn.told["layers"]["Probability of change"]
    assert (layer["is_valid"], layer["crs"], layer["renderer"]) == (True, "EPSG:32614", "singlebandpseudocolor")
    # It covers what the dates show, so it is there to be chosen.
    assert "Probability of change" not in drawn.told["shown"]


@pytest.mark.parametrize("is_answer_gone", [False, True])
def test_a_damaged_part_alone_is_made_again(
    is_answer_gone: bool, whole_run: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    expected = read_all(whole_run)
    part = max((whole_run / "outlines").iterdir(), key=lambda path: path.stat().st_size)
    part.write_bytes(part.read_bytes()[:-40])
    if is_answer_gone:
        # Then some answers that the outlines depend on are there, and others are asked for again.
        for answers in sorted((whole_run / "answers").iterdir())[::2]:
            answers.unlink()
    parts: list[StageSummary] = []

    detect_changes(make_outlining(scenes, whole_run), open_cluster=shared_cluster, on_progress=parts.append)

    assert read_all(whole_run) == expected
    notes = sum((Counter(part.notes) for part in parts), Counter())
    assert notes == {"a damaged answer part is asked for again": 1}
    if not is_answer_gone:
        assert sum(part.done for part in parts if part.stage == "collect_answers") == 4


def test_killed_workers_and_halved_batches_leave_no_trace(
    tmp_path: Path, whole_run: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    config = make_outlining(scenes, tmp_path / "killed")
    clients: list[Client] = []
    killed: list[int] = []

    @contextmanager
    def open_own_cluster() -> Iterator[Client]:
        with open_cluster(config.cluster) as client:
            clients.append(client)
            yield client

    def kill_one_worker(part: StageSummary) -> None:
        if part.stage == "collect_answers" and part.done and not killed:
            killed.append(min(clients[0].run(os.getpid).values()))
            os.kill(killed[0], signal.SIGKILL)

    with set_environment(STAND_IN_SECONDS_PER_TILE="0.1"):
        detect_changes(config, open_cluster=open_own_cluster, on_progress=kill_one_worker)

    assert killed
    assert read_tables(tmp_path / "killed") == read_tables(whole_run)
    assert read_all(tmp_path / "killed").keys() == read_all(whole_run).keys()

    # A tile that needs all memory for itself: its batch is halved, and the parts are others.
    hungry = make_scenes(tmp_path / "hungry", changed=CHANGED, marked={(1, 0): HUNGRY_COLOUR})
    report = detect_changes(make_outlining(hungry, tmp_path / "halved"), open_cluster=shared_cluster)
    assert report.is_complete
    halved = gpd.read_parquet(tmp_path / "halved" / "report" / "changes.parquet")
    usual = gpd.read_parquet(whole_run / "report" / "changes.parquet")
    assert halved.geometry.tolist() == usual.geometry.tolist()
    assert len(list((tmp_path / "halved" / "outlines").iterdir())) > N_BATCHES

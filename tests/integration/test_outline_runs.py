"""Runs with a model that has masks: outlines in the report, and parts that survive what answer parts survive."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from distributed import Client
from fork_server import set_environment
from made_scenes import CELL_OFFSETS, CELL_PX, TILE_PX, MadeScenes, make_config, make_scenes
from stand_in_model import HUNGRY_COLOUR

from flows.cluster import open_cluster
from pipeline.config.run import RunConfig
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report
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

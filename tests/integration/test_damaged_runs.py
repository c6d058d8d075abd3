"""A disk that is full, files that were cut off: said clearly, noticed, and made good by the next run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from distributed import Client
from made_scenes import TILE_PX, MadeScenes, make_config, make_scenes, read_result, run_arguments
from stand_in_model import MUMBLES_COLOUR, RAISES_COLOUR

from model.errors import FolderError
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.summary import StageSummary

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("damaged") / "scenes", changed=CHANGED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    return run


@pytest.fixture
def whole_run(tmp_path: Path, finished: Path) -> Path:
    """A copy of a finished run, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def read_all(run: Path) -> dict[str, bytes]:
    """Give every file but the record, which tells of places and times."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, to be made larger by `resize`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root and the command mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no small file system can be mounted here ({made.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, size_kb: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_kb}k", str(disk)], check=True)


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    small_disk: Path, scenes: MadeScenes, whole_run: Path, shared_cluster: OpenCluster
) -> None:
    run = small_disk / "run"
    config = make_config(scenes, output=run)
    expected = read_all(whole_run)
    stages: list[str] = []
    reached = []
    for size_kb in range(64, 4096, 48):
        resize(small_disk, size_kb)
        stages.clear()
        try:
            detect_changes(config, open_cluster=shared_cluster, on_progress=lambda part: stages.append(part.stage))
            break
        except FolderError as problem:
            reached.append((stages[-1], str(problem)))
        assert not (run / "run.json").exists()
        assert not (run / "run.lock").exists()
    assert all(f"output {run} is full" in words and "make room and run again" in words for _, words in reached)
    # The disk was full in each of the stages that write.
    assert {"write_tiles", "collect_answers", "extract_findings"} <= {stage for stage, _ in reached}
    assert read_all(run) == expected


def test_a_full_disk_is_told_at_the_command_line(
    small_disk: Path, scenes: MadeScenes, client: Client, run_command
) -> None:
    done = run_command(*run_arguments(scenes, output=small_disk / "run", address=client.scheduler.address))

    assert done.returncode == 2
    assert done.stdout == ""
    assert "is full" in done.stderr
    assert "No space left on device" in done.stderr
    assert "make room and run again" in done.stderr
    assert "Traceback" not in done.stderr


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("pattern", "note"),
    [
        ("answers/*.parquet", "a damaged answer part is asked for again"),
        ("marks/*.json", "a damaged shard or mark is written again"),
        ("tiles.zarr/pixels/c/0/0/*/*", "a damaged shard or mark is written again"),
        ("tiles.zarr/zarr.json", None),
        ("tiles.zarr/pixels/zarr.json", None),
        ("report/tiles.parquet", None),
        ("run.json", None),
    ],
)
def test_what_was_cut_off_is_made_again(
    pattern: str, note: str | None, whole_run: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    expected = read_all(whole_run)
    cut(min(whole_run.glob(pattern)))
    parts: list[StageSummary] = []

    report = detect_changes(
        make_config(scenes, output=whole_run), open_cluster=shared_cluster, on_progress=parts.append
    )

    assert report.is_complete
    assert read_all(whole_run) == expected
    assert json.loads((whole_run / "run.json").read_text())["status_counts"]["analysed"] == 24
    notes = sum((Counter(part.notes) for part in parts), Counter())
    assert notes == ({note: 1} if note else {})


def test_pixels_that_changed_on_the_disk_stop_the_run_and_are_written_again(
    whole_run: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    expected = read_all(whole_run)
    first, second = sorted(whole_run.glob("tiles.zarr/pixels/c/0/0/*/*"))[:2]
    # Of the same size, and a whole shard in itself: that of another place.
    first.write_bytes(second.read_bytes()[: first.stat().st_size].ljust(first.stat().st_size, b"\0"))
    for part in whole_run.glob("answers/*.parquet"):
        part.unlink()
    config = make_config(scenes, output=whole_run)

    with pytest.raises(FolderError, match="is not what was written there"):
        detect_changes(config, open_cluster=shared_cluster)
    detect_changes(config, open_cluster=shared_cluster)

    assert read_all(whole_run) == expected


def test_every_tile_is_counted_by_status_and_reason(tmp_path: Path, client: Client, run_command) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED, marked={(1, 1): MUMBLES_COLOUR, (2, 1): RAISES_COLOUR})
    with rasterio.open(scenes.before, "r+") as file:
        file.nodata = 0
        pixels = file.read()
        pixels[:, 2 * TILE_PX : 3 * TILE_PX, 2 * TILE_PX : 4 * TILE_PX] = 0
        file.write(pixels)
        west, south, east, north = file.bounds
    with rasterio.open(scenes.after, "r+") as file:
        after = file.read()
        after[:, :TILE_PX, TILE_PX : 2 * TILE_PX] = pixels[:, :TILE_PX, TILE_PX : 2 * TILE_PX]
        file.write(after)
    area = gpd.GeoSeries.from_wkt(
        [f"POLYGON(({west} {south}, {west} {north}, {east - 60} {north}, {east - 60} {south}, {west} {south}))"],
        crs="EPSG:32614",
    )
    area.to_file(tmp_path / "area.geojson")

    arguments = run_arguments(scenes, output=tmp_path / "run", address=client.scheduler.address)
    done = run_command(*arguments, "--aoi", str(tmp_path / "area.geojson"))

    assert done.returncode == 1, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    table = gpd.read_parquet(tmp_path / "run" / "report" / "tiles.parquet")
    counts = {"analysed": 15, "unreadable": 1, "no_data": 2, "outside": 4, "identical": 1, "failed": 1, "cloudy": 0}
    assert record["status_counts"] == read_result(done)["status_counts"] == counts
    assert sum(counts.values()) == len(table) == 24
    assert record["reason_counts"] == read_result(done)["reason_counts"]
    for status, reasons in record["reason_counts"].items():
        assert sum(reasons.values()) == table["reason"][table["status"] == status].notna().sum() > 0
    assert record["reason_counts"]["no_data"] == {"too little valid before": 2}
    assert record["reason_counts"]["outside"] == {"outside the area of interest": 4}
    assert record["reason_counts"]["identical"] == {"equal pixels on both dates": 1}
    assert record["reason_counts"]["failed"] == {"ValueError: the model tripped over a tile": 1}
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "too little valid before</bdi>: 2" in page
    assert np.isclose(sum(table.geometry.to_crs("EPSG:32614").area), 24 * TILE_PX**2)

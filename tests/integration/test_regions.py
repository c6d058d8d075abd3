"""Passes over regions: what is new is told once, whatever happens to scenes, passes and folders in between."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import pandas as pd
import pyarrow.dataset as ds
import pytest
from distributed import Client
from s3_server import BUCKET, make_environment, start_s3_server
from stac_material import send, serve_answers
from watched_regions import AREA_OF_CELL_M2, make_region, write_scene

from flows.cluster import open_run_cluster
from flows.region_pass import run_pairs
from pipeline.config import RunConfig
from pipeline.errors import FolderError, InputError
from pipeline.region_config import KeepConfig, RegionConfig, RetentionConfig
from pipeline.regions import Region, RegionReport
from pipeline.run import detect_changes

pytestmark = pytest.mark.timeout(600)

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
HOUSE, BARN = [(0, 0)], [(4, 4)]
SERIES: dict[str, Any] = {"20240601": [], "20250601": HOUSE, "20260601": [*HOUSE, *BARN]}


def run_one(config: RunConfig) -> None:
    detect_changes(config, open_cluster=partial(open_run_cluster, config))


@pytest.fixture
def settings(client: Client) -> tuple[str, ...]:
    return "cluster.kind=address", f"cluster.address={client.scheduler.address}"


def make_pass(config: RegionConfig, *, now: dt.datetime = NOW, run_pair: Any = run_one) -> RegionReport:
    with Region.prepare(config) as region:
        plan = region.plan(now)
        run_pairs(region, plan.to_do, run_pair=run_pair)
        return region.merge(plan, now=now)


def read_changes(config: RegionConfig) -> gpd.GeoDataFrame:
    frame = gpd.read_parquet(Path(config.output) / "report" / "changes")
    return frame.sort_values(["after_datetime", "before_datetime", "change_id"], ignore_index=True)


def read_time_line(config: RegionConfig) -> pd.DataFrame:
    return pd.read_parquet(Path(config.output) / "report" / "timeline.parquet")


def read_report(place: Path | str, *, suffix: str = "") -> dict[str, bytes]:
    folder = Path(place) / "report"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(f"*{suffix}") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A folder with scenes of three dates, and the region after its first pass."""
    folder = tmp_path_factory.mktemp("finished")
    address = ("cluster.kind=address", f"cluster.address={client.scheduler.address}")
    report = make_pass(make_region(folder, SERIES, assignments=address))
    assert (len(report.summary.done), report.summary.n_new_changes, report.is_complete) == (2, 2, True)
    return folder


@pytest.fixture
def watched(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "watched"))


def test_series_of_three_dates_is_told(watched: Path) -> None:
    line = pd.read_parquet(watched / "region" / "report" / "timeline.parquet")

    assert line["status"].tolist() == ["done", "done"]
    assert line["n_changes"].tolist() == line["n_new_changes"].tolist() == [1, 1]
    assert line["building_count"].tolist() == [1.0, 1.0]
    assert line["building_area_m2"].tolist() == pytest.approx([AREA_OF_CELL_M2] * 2, rel=2e-3)
    assert line["analysed_fraction"].tolist() == [1.0, 1.0]
    assert line["after_id"].tolist() == ["scene_20250601.tif", "scene_20260601.tif"]


def test_second_pass_changes_nothing(watched: Path, settings: tuple[str, ...]) -> None:
    config = make_region(watched, {}, assignments=settings)
    told = read_report(config.output)

    report = make_pass(config, now=NOW + dt.timedelta(days=7))

    assert (report.summary.done, report.summary.n_skipped, report.summary.n_new_changes) == ((), 2, 0)
    assert read_report(config.output) == told


def test_changes_of_all_pairs_are_one_data_set_for_every_reader(watched: Path) -> None:
    region = watched / "region"
    folder = region / "report" / "changes"

    frame = gpd.read_parquet(folder)
    table = ds.dataset(folder, partitioning="hive").to_table()
    rows = duckdb.sql(
        f"SELECT kind, first_seen, run FROM read_parquet('{folder}/*/*.parquet', hive_partitioning=true) "
        "WHERE is_new AND after_year = 2026"
    ).fetchall()

    assert sorted(path.name for path in folder.iterdir()) == ["after_year=2025", "after_year=2026"]
    assert len(frame) == table.num_rows == 2
    assert frame.crs == "EPSG:32614"
    assert len(rows) == 1
    assert (region / rows[0][2] / "run.json").is_file()


def test_crash_between_pair_and_merge_is_healed_by_the_next_pass(watched: Path, settings: tuple[str, ...]) -> None:
    told = read_report(watched / "region", suffix=".parquet")
    config = make_region(watched, {}, assignments=settings, output=str(watched / "anew"))

    with Region.prepare(config) as region:
        run_pairs(region, region.plan(NOW).to_do, run_pair=run_one)
    assert not (watched / "anew" / "region.json").exists()
    report = make_pass(config)

    assert report.summary.n_skipped == 2
    assert read_report(watched / "anew", suffix=".parquet") == told


@pytest.mark.parametrize("lost", ["region.json", "plans", "report"])
def test_what_is_lost_is_made_again_from_the_pairs(watched: Path, settings: tuple[str, ...], lost: str) -> None:
    config = make_region(watched, {}, assignments=settings)
    told = read_report(config.output, suffix=".parquet")
    place = watched / "region" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    # Nothing is to be found any more: the pairs are known from the folder alone.
    shutil.rmtree(watched / "scenes")
    (watched / "scenes").mkdir()

    make_pass(config)

    assert read_report(config.output, suffix=".parquet") == told


def test_pairs_at_the_same_time_give_the_same_tables(watched: Path, settings: tuple[str, ...]) -> None:
    output = watched / "together"
    config = make_region(watched, {}, assignments=(*settings, "max_concurrent_pairs=2"), output=str(output))

    make_pass(config)

    assert read_report(output, suffix=".parquet") == read_report(watched / "region", suffix=".parquet")


def test_old_pairs_lose_pixels_then_folders_and_never_what_they_told(watched: Path, settings: tuple[str, ...]) -> None:
    config = make_region(watched, {}, assignments=settings)
    line, changes = read_time_line(config), read_changes(config)
    first, last = (watched / "region" / "pairs" / pair_id for pair_id in line["pair_id"])

    make_pass(config.model_copy(update={"retention": RetentionConfig(pixels=KeepConfig(newest=1))}))
    assert [(run / "tiles.zarr").exists() for run in (first, last)] == [False, True]
    assert (first / "report" / "tiles.parquet").is_file()
    made = [
        make_pass(config.model_copy(update={"retention": RetentionConfig(folders=KeepConfig(days=30))}))
        for _ in range(2)
    ]

    assert [run.exists() for run in (first, last)] == [False, True]
    assert [report.summary.done for report in made] == [(), ()]
    assert read_time_line(config)["run"].isna().tolist() == [True, False]
    assert read_time_line(config).drop(columns="run").equals(line.drop(columns="run"))
    assert read_changes(config).drop(columns="run").equals(changes.drop(columns="run"))


def test_scene_that_was_made_anew_replaces_its_pair(watched: Path, settings: tuple[str, ...]) -> None:
    config = make_region(watched, {}, assignments=settings)
    path = write_scene(watched / "scenes", "20260601", buildings=HOUSE)
    path.write_bytes(path.read_bytes() + b"more")

    report = make_pass(config)

    assert len(report.summary.done) == 1
    assert read_time_line(config)["n_changes"].tolist() == [1, 0]
    assert len(list((watched / "region" / "pairs").iterdir())) == 3


def test_region_in_a_bucket_tells_the_same(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_s3_server() as server:
        for name, value in make_environment(server.port).items():
            monkeypatch.setenv(name, value)
        place = f"s3://{BUCKET}/regions/made"
        config = make_region(watched, {}, assignments=("cluster.n_workers=1",), output=place)

        report = make_pass(config)

        assert len(report.summary.done) == 2
        assert make_pass(config).summary.n_skipped == 2
        for name, data in read_report(watched / "region", suffix=".parquet").items():
            assert report.folder.read(f"report/{name}") == data


def test_api_that_is_down_ends_the_pass_and_loses_nothing(watched: Path, settings: tuple[str, ...]) -> None:
    told = read_report(watched / "region")
    source = {"kind": "stac", "search": {"href": "http://127.0.0.1:1/v1"}}
    config = make_region(watched, {}, assignments=settings, source=source)

    with pytest.raises(InputError, match=r"127\.0\.0\.1:1/v1"), Region.prepare(config) as region:
        region.plan(NOW)

    assert read_report(watched / "region") == told
    assert not (watched / "region" / "run.lock").exists()


def test_house_seen_again_is_not_new_and_one_torn_down_is(tmp_path: Path, settings: tuple[str, ...]) -> None:
    # Each autumn date against the one a year earlier: both pairs of 2026 span the building of the house.
    scenes: dict[str, Any] = {"20250901": [], "20251001": [], "20260901": HOUSE, "20261001": [*HOUSE, *BARN]}
    pairing = {"kind": "year-earlier", "window_days": 20}
    config = make_region(tmp_path, scenes, assignments=settings, pairing=pairing)

    first = make_pass(config, now=dt.datetime(2026, 9, 5, tzinfo=dt.UTC))
    second = make_pass(config, now=dt.datetime(2026, 10, 5, tzinfo=dt.UTC))

    changes = read_changes(config)
    assert changes["is_new"].tolist() == [True, False, True]
    assert changes["times_seen"].tolist() == [2, 2, 1]
    assert changes["first_seen"].dt.month.tolist() == [9, 9, 10]
    assert changes["last_seen"].dt.month.tolist() == [10, 10, 10]
    assert changes["first_sighting"].nunique() == 2
    assert (first.summary.n_new_changes, second.summary.n_new_changes) == (1, 1)

    # Between October 2026 and September 2027 the house is torn down: the same place, and yet new.
    write_scene(tmp_path / "scenes", "20270925", buildings=BARN)
    third = make_pass(config, now=dt.datetime(2027, 10, 5, tzinfo=dt.UTC))

    assert third.summary.n_new_changes == 1
    last = read_changes(config).iloc[-1]
    assert (last["is_new"], last["times_seen"]) == (True, 1)


def test_scene_that_vanishes_fails_its_pair_alone_and_is_tried_again(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = make_region(tmp_path, SERIES, assignments=settings)
    scene = tmp_path / "scenes" / "scene_20240601.tif"

    def lose_the_first(run: RunConfig) -> None:
        scene.unlink(missing_ok=True)
        run_one(run)

    report = make_pass(config, run_pair=lose_the_first)

    line = read_time_line(config)
    assert line["status"].tolist() == ["failed", "done"]
    assert "scene_20240601.tif does not exist" in line["reason"][0]
    assert line["n_changes"].isna().tolist() == [True, False]
    assert not report.is_complete
    write_scene(tmp_path / "scenes", "20240601")
    assert make_pass(config).is_complete
    assert read_time_line(config)["status"].tolist() == ["done", "done"]


def test_pair_that_goes_on_failing_is_given_up(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = make_region(tmp_path, SERIES, assignments=(*settings, "max_attempts=2"))
    (tmp_path / "scenes" / "scene_20240601.tif").write_bytes(b"no picture")

    reports = [make_pass(config) for _ in range(3)]

    assert [len(report.summary.failed) for report in reports] == [1, 1, 0]
    assert reports[2].summary.left_out[-1]["reason"] == "failed in 2 passes (max_attempts)"
    assert read_time_line(config)["status"].tolist() == ["failed", "done"]


def test_interrupted_pair_is_gone_on_with_and_not_counted(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = make_region(tmp_path, SERIES, assignments=settings)

    def stop(run: RunConfig) -> None:
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            make_pass(config, run_pair=stop)

    assert len(make_pass(config).summary.done) == 2


def test_second_pass_at_once_says_who_is_there(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = make_region(tmp_path, SERIES, assignments=settings)

    with Region.prepare(config), pytest.raises(FolderError, match=r"is being written by process"):  # noqa: SIM117
        with Region.prepare(config):
            pass


def test_nothing_found_is_a_pass_that_says_so(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = make_region(tmp_path, {}, assignments=settings, pairing={"kind": "year-earlier"})

    report = make_pass(config)

    assert report.is_complete
    assert (report.summary.n_scenes, report.summary.done) == (0, ())
    assert {each["reason"] for each in report.summary.left_out} == {"no scene that is good enough"}
    assert len(read_time_line(config)) == 0


def test_api_whose_pages_do_not_end_is_given_up(tmp_path: Path, settings: tuple[str, ...]) -> None:
    def answer(handler: Any, body: bytes) -> None:
        address = f"http://127.0.0.1:{handler.server.server_port}"
        links = [
            {"rel": "search", "href": f"{address}/search", "method": "GET", "type": "application/geo+json"},
            {"rel": "self", "href": address},
        ]
        root = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "api",
            "description": "made for a test",
            "links": links,
            "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")],
        }
        item = {"type": "Feature", "id": "same", "collection": "c", "properties": {}, "links": [], "assets": {}}
        page = {"type": "FeatureCollection", "features": [item] * 50,
                "links": [{"rel": "next", "href": f"{address}/search?page=next", "method": "GET"}]}  # fmt: skip
        send(handler, page if handler.path.startswith("/search") else root)

    with serve_answers(answer) as address:
        source = {"kind": "stac", "search": {"href": address, "max_items": 120}}
        config = make_region(tmp_path, {}, assignments=settings, source=source)
        with pytest.raises(InputError, match=r"its pages do not end"), Region.prepare(config) as region:
            region.plan(NOW)


def test_command_ends_with_one_line_and_a_code(tmp_path: Path, run_command: Callable[..., Any]) -> None:
    config = make_region(tmp_path, SERIES, assignments=("cluster.n_workers=1",))
    (tmp_path / "scenes" / "scene_20240601.tif").write_bytes(b"no picture")
    path = tmp_path / "region.yaml"
    path.write_text(config.model_dump_json())

    result = run_command("monitor", str(path), "--as-of", "2026-11-01")

    told = json.loads(result.stdout.splitlines()[-1])
    assert result.returncode == told["exit_code"] == 1, result.stderr
    assert (told["n_pairs_done"], told["n_new_changes"], len(told["failed"])) == (1, 1, 1)
    assert told["as_of"] == "2026-11-01T00:00:00Z"
    assert "cannot be read" in result.stderr

    wrong = run_command("monitor", str(path), "--set", "aoi=nowhere.geojson")
    assert wrong.returncode == 2
    assert "aoi nowhere.geojson cannot be read" in wrong.stderr
    assert "Traceback" not in wrong.stderr

"""A region is watched: new scenes are found, compared and told about once, whatever befalls a pass."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import pandas as pd
import pyarrow.dataset as ds
import pystac
import pytest
import shapely
from distributed import Client
from made_scenes import CELL_PX, LEFT_M, N_COLS, N_ROWS, TILE_PX, TOP_M, make_series

from flows.assistants.sources import find_sources
from flows.assistants.sql import TableDatabase
from flows.region_pass import run_pairs
from model.errors import InputError
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.regions.export import export_region, is_region
from pipeline.regions.region import Region, RegionReport
from pipeline.regions.tables import TIME_LINE_NAME
from pipeline.runs.read import read_tile_row
from pipeline.runs.run import OpenCluster, detect_changes

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
HOUSE, SHED, BARN = {(0, 0): ["top-left"]}, {(1, 3): ["center-center"]}, {(3, 5): ["bottom-right"]}
BUILT = {
    "2025-03-03": {},
    "2025-06-01": HOUSE,
    "2026-03-03": {**HOUSE, **SHED},
    # The barn comes, and the shed has been torn down.
    "2026-06-01": {**HOUSE, **BARN},
}

Pass = Callable[..., RegionReport]


@pytest.fixture(scope="module")
def watch(shared_cluster: OpenCluster) -> Pass:
    """Do one pass over a region on the shared workers."""

    def do_pass(config: RegionConfig, *, now: dt.datetime = NOW) -> RegionReport:
        with Region.prepare(config) as region:
            plan = region.plan(now)
            run_pairs(region, plan.to_do, run_pair=partial(detect_changes, open_cluster=shared_cluster))
            return region.merge(plan, now=now)

    return do_pass


def describe_region(folder: Path, client: Client, **values: Any) -> RegionConfig:
    """Describe a region whose scenes lie in ``scenes``, and whose area is theirs."""
    frame = shapely.box(LEFT_M, TOP_M - N_ROWS * TILE_PX, LEFT_M + N_COLS * TILE_PX, TOP_M)
    gpd.GeoSeries([frame], crs="EPSG:32614").to_crs("EPSG:4326").to_file(folder / "area.geojson")
    (folder / "scenes").mkdir(exist_ok=True)
    return RegionConfig.model_validate(
        {
            "name": "made",
            "aoi": str(folder / "area.geojson"),
            "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif"},
            "pairing": {"kind": "series", "since": "2025-01-01"},
            "output": str(folder / "region"),
            "grid": {"crs": "EPSG:32614", "resolution_m": 1, "tile_size_px": TILE_PX, "anchor": "overlap"},
            "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
            "registration": {"estimate": False},
            "model": {"name": "stand-in"},
            "cluster": {"kind": "address", "address": client.scheduler.address},
            **values,
        }
    )


@pytest.fixture
def describe(tmp_path: Path, client: Client) -> Callable[..., RegionConfig]:
    return partial(describe_region, tmp_path, client)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, client: Client, watch: Pass) -> Path:
    """A folder with scenes of four dates, and the region after its first pass."""
    folder = tmp_path_factory.mktemp("finished")
    make_series(folder / "scenes", BUILT)
    watch(describe_region(folder, client))
    return folder


@pytest.fixture
def watched(finished: Path, tmp_path: Path) -> Path:
    """A copy of the region, to do harm to; `describe` describes it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "region"


def read_changes(region: Path) -> gpd.GeoDataFrame:
    """Read the changes of all pairs as one table, in the order of time."""
    files = sorted((region / "report" / "changes").rglob("*.parquet"), key=lambda path: path.name)
    return pd.concat([gpd.read_parquet(file) for file in files], ignore_index=True)


def read_report(region: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(region)): path.read_bytes() for path in (region / "report").rglob("*") if path.is_file()
    }


def place_cell(row: int, col: int, y: int, x: int) -> shapely.Polygon:
    left, top = LEFT_M + col * TILE_PX + x * CELL_PX, TOP_M - row * TILE_PX - y * CELL_PX
    return shapely.box(left, top - CELL_PX, left + CELL_PX, top)


def test_a_series_is_told_once_and_a_second_pass_changes_nothing(
    watch: Pass, describe: Callable[..., RegionConfig], tmp_path: Path
) -> None:
    make_series(tmp_path / "scenes", BUILT)
    zones = gpd.GeoDataFrame(
        {"zone_id": ["west", "far"]},
        geometry=[shapely.box(LEFT_M + 1, TOP_M - 100, LEFT_M + 40, TOP_M - 1), shapely.box(0, 0, 10, 10)],
        crs="EPSG:32614",
    )
    zones.to_crs("EPSG:4326").to_file(tmp_path / "zones.geojson")
    config = describe(zones=str(tmp_path / "zones.geojson"))

    report = watch(config)

    assert (report.is_complete, report.summary.n_new_changes) == (True, 4)
    changes = read_changes(tmp_path / "region")
    # What goes where it came is an event of its own: the shed is there twice, and both times it is new.
    expected = [
        ("2025-06-01", place_cell(0, 0, 0, 0)),
        ("2026-03-03", place_cell(1, 3, 1, 1)),
        ("2026-06-01", place_cell(1, 3, 1, 1)),
        ("2026-06-01", place_cell(3, 5, 2, 2)),
    ]
    found = sorted(zip(changes["after_datetime"].dt.strftime("%Y-%m-%d"), changes.geometry, strict=True), key=str)
    assert [day for day, _ in found] == [day for day, _ in expected]
    assert all(shape.equals(wanted) for (_, shape), (_, wanted) in zip(found, sorted(expected, key=str), strict=True))
    assert changes["is_new"].all()
    line = pd.read_parquet(tmp_path / "region" / TIME_LINE_NAME)
    assert line["status"].tolist() == ["done"] * 3
    assert line["n_new_changes"].tolist() == [1, 1, 2]
    sums = gpd.read_parquet(next((tmp_path / "region" / "report" / "zones" / "after_year=2025").iterdir()))
    assert dict(zip(sums["zone_id"], sums["status"], strict=True)) == {"west": "seen", "far": "not_seen"}

    first = read_report(tmp_path / "region")
    again = watch(config)

    assert (again.summary.n_skipped, again.summary.done, again.summary.n_new_changes) == (3, (), 0)
    assert read_report(tmp_path / "region") == first
    # Without its record, and without its report, everything is found again in the pairs' folders.
    (tmp_path / "region" / "region.json").unlink()
    shutil.rmtree(tmp_path / "region" / "report")
    assert watch(config).summary.done == ()
    assert read_report(tmp_path / "region") == first


def test_what_an_earlier_pair_has_seen_is_not_new(
    watch: Pass, describe: Callable[..., RegionConfig], tmp_path: Path
) -> None:
    """As by the week, each against the same weeks a year before: both pairs see the house, the second the barn too."""
    days = {"2025-05-01": {}, "2025-05-08": {}, "2026-05-01": HOUSE, "2026-05-08": {**HOUSE, **BARN}}
    make_series(tmp_path / "scenes", days)
    config = describe(pairing={"kind": "year-earlier", "window_days": 5})

    watch(config, now=dt.datetime(2026, 5, 3, tzinfo=dt.UTC))
    report = watch(config, now=dt.datetime(2026, 5, 10, tzinfo=dt.UTC))

    assert report.summary.n_new_changes == 1
    changes = read_changes(tmp_path / "region").sort_values(["after_datetime", "change_id"])
    assert changes["change_id"].tolist()[1] == changes["change_id"].tolist()[0]
    assert changes["is_new"].tolist() == [True, False, True]
    assert changes["times_seen"].tolist() == [2, 2, 1]
    assert changes["first_seen"].dt.strftime("%m-%d").tolist() == ["05-01", "05-01", "05-08"]
    assert changes["last_seen"].dt.strftime("%m-%d").tolist() == ["05-08", "05-08", "05-08"]
    # The house is confirmed by the second pair, and told as new by it; the barn has yet to be.
    events = gpd.read_parquet(tmp_path / "region" / "report" / "events.parquet").sort_values("first_seen")
    assert events["status"].tolist() == ["confirmed", "provisional"]
    assert report.summary.events == {"added": 1, "confirmed": 1, "altered": 0, "retired": 0, "new": 1}
    log = gpd.read_parquet(tmp_path / "region" / "report" / "changelog.parquet")
    assert log[["pass_number", "action", "is_new"]].to_numpy().tolist()[:1] == [[1, "added", False]]
    assert set(log["event_id"]) == set(changes["event_id"]) == set(events["event_id"])


def test_the_report_is_read_by_programs_that_are_not_ours(finished: Path) -> None:
    folder = finished / "region" / "report"

    by_year = ds.dataset(folder / "changes", partitioning="hive").to_table(columns=["after_year"]).column(0).to_pylist()
    assert sorted(by_year) == [2025, 2026, 2026, 2026]
    asked = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{folder}/changes/*/*.parquet', hive_partitioning = true) "
        "WHERE is_new AND after_year = 2026"
    ).fetchall()
    assert asked == [(3,)]
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    assert [item.properties["end_datetime"][:10] for item in collection.get_items()] == list(BUILT)[1:]
    page = (folder / "index.html").read_text()
    assert "Region under watch" in page
    assert {path.name for path in (folder / "plots").iterdir()} == {"area.png", "counts.png", "seen.png"}


def test_a_region_is_one_layer_in_other_formats(finished: Path, tmp_path: Path) -> None:
    region = str(finished / "region")

    files = export_region(region, formats=["flatgeobuf", "gpkg", "pmtiles", "qgis"], output=str(tmp_path))

    assert sorted(str(Path(file).relative_to(tmp_path)) for file in files) == [
        *("changes.fgb", "changes.pmtiles", "changes.qml", "events.fgb", "events.pmtiles", "events.qml"),
        *("qgis/report.gpkg", "qgis/report.qgz", "report.gpkg"),
    ]
    layers = [gpd.read_file(tmp_path / f"{name}.fgb") for name in ("changes", "events")]
    assert [len(layer) for layer in layers] == [4, 4]
    assert set(layers[0]["event_id"]) == set(layers[1]["event_id"])
    assert len(gpd.read_file(tmp_path / "report.gpkg", layer="events")) == 4
    assert is_region(region)
    with pytest.raises(InputError, match="format 'docx' is not known"):
        export_region(region, formats=["docx"])


def test_an_assistant_is_shown_a_region_and_the_runs_of_its_pairs(finished: Path) -> None:
    (source,) = find_sources([str(finished / "region")])
    database = TableDatabase([source])

    described = source.describe()
    assert described["tables"] == [f"region.{name}" for name in ("changes", "events", "timeline", "changelog")]
    assert database.query("SELECT count(*) FROM events")["rows"] == [[4]]
    ((pair_id, tile_ids),) = database.query("SELECT pair_id, tile_ids FROM changes LIMIT 1")["rows"]
    assert pair_id in [pair["pair_id"] for pair in described["coverage"]["pairs"]]
    assert all(0 < pair["seen_fraction"] <= 1 for pair in described["coverage"]["pairs"])
    assert read_tile_row(source.find_run(pair_id).uri, tile_ids.split(";")[0])["is_changed"]
    for wrong in (None, "../../elsewhere"):
        with pytest.raises(InputError, match="one of the"):
            source.find_run(wrong)


def test_one_bad_scene_fails_its_pairs_and_is_tried_again(
    watch: Pass, describe: Callable[..., RegionConfig], tmp_path: Path
) -> None:
    scenes = make_series(tmp_path / "scenes", {day: BUILT[day] for day in BUILT if day != "2026-03-03"})
    whole = scenes[2].read_bytes()
    scenes[2].write_bytes(whole[: len(whole) // 3])
    config = describe()

    report = watch(config)

    assert not report.is_complete
    assert list(report.tables.time_line["status"]) == ["done", "failed"]
    (reason,) = report.summary.failed.values()
    assert "scene_20260601.tif" in reason
    assert report.summary.n_new_changes == 1

    scenes[2].write_bytes(whole)
    mended = watch(config)

    assert mended.is_complete
    assert list(mended.tables.time_line["status"]) == ["done"] * 2


def test_scenes_that_vanish_between_plan_and_read_fail_their_pair(
    describe: Callable[..., RegionConfig], shared_cluster: OpenCluster, tmp_path: Path
) -> None:
    scenes = make_series(tmp_path / "scenes", {day: BUILT[day] for day in BUILT if day < "2026-06"})
    with Region.prepare(describe()) as region:
        plan = region.plan(NOW)
        scenes[0].unlink()
        run_pairs(region, plan.to_do, run_pair=partial(detect_changes, open_cluster=shared_cluster))
        report = region.merge(plan, now=NOW)

    assert list(report.tables.time_line["status"]) == ["failed", "done"]
    assert "scene_20250303.tif" in next(iter(report.summary.failed.values()))


def test_no_scenes_are_nothing_to_do(watch: Pass, describe: Callable[..., RegionConfig], tmp_path: Path) -> None:
    report = watch(describe())

    assert (report.is_complete, report.summary.n_scenes, report.summary.done) == (True, 0, ())
    assert "nothing is known about change here" in (tmp_path / "region" / "report" / "index.html").read_text()


def test_two_passes_at_once_do_not_mix(describe: Callable[..., RegionConfig], tmp_path: Path) -> None:
    make_series(tmp_path / "scenes", BUILT)
    with Region.prepare(describe()), pytest.raises(InputError, match="is being written by process"):
        Region.prepare(describe()).__enter__()


def test_old_pairs_lose_their_pixels_then_their_folders_and_stay_told(
    watch: Pass, describe: Callable[..., RegionConfig], watched: Path, tmp_path: Path
) -> None:
    told = {name: data for name, data in read_report(watched).items() if name.endswith("timeline.parquet")}

    report = watch(describe(retention={"pixels": {"newest": 1}, "folders": {"newest": 2}}))

    pairs = sorted((tmp_path / "region" / "pairs").iterdir())
    assert [path.name[:8] for path in pairs] == ["20250601", "20260303"]
    assert [path.name[:8] for path in pairs if (path / "tiles.zarr").exists()] == ["20260303"]
    assert len(report.tables.time_line) == 3
    # The report does not point to what has just gone.
    assert report.tables.time_line["run"].isna().tolist() == [True, False, False]
    told_after = read_report(tmp_path / "region")
    # The next pass has nothing but the region's own report of the oldest pair.
    after = watch(describe())
    assert after.summary.done == ()
    assert read_report(tmp_path / "region") == told_after
    assert after.tables.time_line["n_changes"].tolist() == [1, 1, 2]
    assert after.tables.time_line["run"].isna().tolist() == [True, False, False]
    assert told.keys() <= read_report(tmp_path / "region").keys()


@contextmanager
def serve(answer: Callable[[str], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """Serve an API that gives what `answer` says of a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer(f"http://{self.headers['Host']}{self.path}")
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_catalog_that_is_down_stops_the_pass_and_loses_nothing(
    watch: Pass, describe: Callable[..., RegionConfig], watched: Path
) -> None:
    first = read_report(watched)
    with serve(lambda url: (503, {"code": "down"})) as url:
        search = {"href": url, "collections": ["scenes"]}
        config = describe(source={"kind": "stac", "search": search})

        with pytest.raises(InputError, match="503"):
            watch(config)

    assert read_report(watched) == first
    assert watch(describe()).summary.n_skipped == 3


def test_the_command_tells_what_a_pass_did(
    describe: Callable[..., RegionConfig], run_command: Callable[..., Any], tmp_path: Path
) -> None:
    scenes = make_series(tmp_path / "scenes", BUILT)
    scenes[0].write_bytes(b"no scene")
    (tmp_path / "region.yaml").write_text(json.dumps(describe().model_dump(mode="json")))
    assert load_region_config(tmp_path / "region.yaml") == describe()

    done = run_command("monitor", str(tmp_path / "region.yaml"))

    said = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, said["exit_code"]) == (1, 1), done.stderr
    assert (said["n_scenes"], said["n_pairs_done"], len(said["failed"])) == (4, 2, 1)
    assert "Time line" in done.stderr
    assert "Traceback" not in done.stderr

    (tmp_path / "region.yaml").write_text(json.dumps(describe().model_dump(mode="json") | {"name": "Not a name"}))
    wrong = run_command("monitor", str(tmp_path / "region.yaml"))

    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "name" in wrong.stderr

"""What a region makes of passes that were cut short, of folders that lost something, and of scenes made anew."""

from __future__ import annotations

import datetime as dt
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from distributed import Client
from fork_server import set_environment
from made_scenes import LEFT_M, N_COLS, N_ROWS, TILE_PX, TOP_M, give_address, make_series
from s3_server import BUCKET, make_environment, start_s3_server
from stac_material import send, serve_answers

from flows.cluster import open_cluster, open_run_cluster
from flows.region_pass import run_pairs
from model.errors import InputError
from pipeline.config.cluster import ClusterConfig
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.config.run import RunConfig
from pipeline.regions.assess import find_assessed_run
from pipeline.regions.forecast import forecast_pass
from pipeline.regions.region import Region, RegionReport
from pipeline.regions.reviewed_pairs import ReviewedPairsSettings, write_reviewed_pairs
from pipeline.runs.read import read_accuracy
from pipeline.runs.run import detect_changes
from pipeline.storage.folder import RunFolder

pytestmark = pytest.mark.timeout(600)

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
HOUSE, BARN = {(0, 0): ["top-left"]}, {(3, 5): ["bottom-right"]}
SERIES: dict[str, Any] = {"2024-06-01": {}, "2025-06-01": HOUSE, "2026-06-01": {**HOUSE, **BARN}}


def make_region(folder: Path, *assignments: str, **values: Any) -> RegionConfig:
    """Give the config of a region that watches ``folder/scenes`` and lies in ``folder/region``."""
    frame = shapely.box(LEFT_M, TOP_M - N_ROWS * TILE_PX, LEFT_M + N_COLS * TILE_PX, TOP_M)
    gpd.GeoSeries([frame], crs="EPSG:32614").to_crs("EPSG:4326").to_file(folder / "area.geojson")
    settings = {
        "name": "made",
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif"},
        "pairing": {"kind": "series", "since": "2024-01-01"},
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX, "anchor": "overlap"},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in"},
    }
    return load_region_config(values={**settings, **values}, assignments=assignments)


def run_one(config: RunConfig) -> None:
    detect_changes(config, open_cluster=partial(open_run_cluster, config))


def make_pass(config: RegionConfig, *, now: dt.datetime = NOW, run_pair: Any = run_one) -> RegionReport:
    with Region.prepare(config) as region:
        plan = region.plan(now)
        run_pairs(region, plan.to_do, run_pair=run_pair)
        return region.merge(plan, now=now)


def read_tables(region: Path | str) -> dict[str, bytes]:
    return {str(path.relative_to(region)): path.read_bytes() for path in Path(region).glob("report/**/*.parquet")}


def read_time_line(config: RegionConfig) -> pd.DataFrame:
    return pd.read_parquet(Path(config.output) / "report" / "timeline.parquet")


@pytest.fixture(scope="module")
def address(client: Client) -> tuple[str, str]:
    return "cluster.kind=address", f"cluster.address={client.scheduler.address}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, address: tuple[str, str]) -> Path:
    """A folder with scenes of three dates, and the region after its first pass."""
    folder = tmp_path_factory.mktemp("finished")
    make_series(folder / "scenes", SERIES)
    assert len(make_pass(make_region(folder, *address)).summary.done) == 2
    return folder


@pytest.fixture
def watched(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "watched"))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """The scenes alone."""
    make_series(tmp_path / "scenes", SERIES)
    return tmp_path


def test_hours_of_the_next_pass_are_told_by_the_last_pairs(watched: Path) -> None:
    config = make_region(watched)
    assert forecast_pass(config, now=NOW)["n_pairs_done_already"] == 2

    make_series(watched / "scenes", {"2026-10-01": {}})
    before = {str(path): path.stat().st_mtime_ns for path in (watched / "region").rglob("*")}
    figures = forecast_pass(config, now=NOW)

    assert (figures["n_pairs_to_do"], figures["n_scenes_to_read"]) == (1, 2)
    assert isinstance(figures["hours_about"], float)
    assert {str(path): path.stat().st_mtime_ns for path in (watched / "region").rglob("*")} == before


def test_house_torn_down_a_year_after_it_was_built_is_new(tmp_path: Path, address: tuple[str, str]) -> None:
    # Each autumn date against the one a year earlier; the house comes before September 2026 and goes before 2027.
    days: dict[str, Any] = {"2025-09-01": {}, "2025-10-01": {}, "2026-09-01": HOUSE, "2026-10-01": HOUSE}
    make_series(tmp_path / "scenes", {**days, "2027-09-25": {}})
    config = make_region(tmp_path, *address, pairing={"kind": "year-earlier", "window_days": 20})

    counts = [
        make_pass(config, now=dt.datetime(year, month, 5, tzinfo=dt.UTC)).summary.n_new_changes
        for year, month in ((2026, 9), (2026, 10), (2027, 10))
    ]

    assert counts == [1, 0, 1]
    assert read_time_line(config)["n_changes"].tolist() == [1, 1, 1]


def begin_to_count_loads() -> None:
    from pipeline.workers import models

    load, models.loads_seen = models.load_model, []  # type: ignore[attr-defined]

    def count(name: str, **how: Any) -> Any:
        models.loads_seen.append(name)  # type: ignore[attr-defined]
        return load(name, **how)

    models.load_model, models.load_uncounted = count, load  # type: ignore[attr-defined]


def end_counting() -> tuple[list[str], list[str]]:
    """Give what was loaded, and what is held still."""
    from pipeline.workers import models

    models.load_model = models.load_uncounted  # type: ignore[attr-defined]
    return models.loads_seen, list(models.list_held_models())  # type: ignore[attr-defined]


@pytest.mark.parametrize("n_at_once", [1, 2])
def test_model_is_loaded_once_per_pass_and_worker_and_let_go_at_its_end(
    scenes: Path, address: tuple[str, str], client: Client, n_at_once: int
) -> None:
    client.run(begin_to_count_loads)

    report = make_pass(make_region(scenes, *address, f"max_concurrent_pairs={n_at_once}"))
    outcomes = client.run(end_counting).values()

    assert len(report.summary.done) == 2
    assert list(outcomes) == [(["stand-in"], [])] * 2


def test_pair_that_goes_on_failing_is_given_up(scenes: Path, address: tuple[str, str]) -> None:
    (scenes / "scenes" / "scene_20240601.tif").write_bytes(b"no picture")
    config = make_region(scenes, *address, "max_attempts=2")

    reports = [make_pass(config) for _ in range(3)]

    assert [len(report.summary.failed) for report in reports] == [1, 1, 0]
    assert reports[2].summary.left_out_reasons["failed in 2 passes (max_attempts)"] == 1
    assert read_time_line(config)["status"].tolist() == ["failed", "done"]


def test_crash_between_pair_and_merge_is_healed_by_the_next_pass(watched: Path, address: tuple[str, str]) -> None:
    config = make_region(watched, *address, output=str(watched / "anew"))

    with Region.prepare(config) as region:
        run_pairs(region, region.plan(NOW).to_do, run_pair=run_one)
    assert not (watched / "anew" / "region.json").exists()
    report = make_pass(config)

    assert report.summary.n_skipped == 2
    assert read_tables(watched / "anew") == read_tables(watched / "region")


def test_interrupted_pair_is_gone_on_with_and_not_counted(scenes: Path, address: tuple[str, str]) -> None:
    config = make_region(scenes, *address, "max_attempts=1")

    def stop(run: RunConfig) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            make_pass(config, run_pair=stop)

    assert len(make_pass(config).summary.done) == 2


@pytest.mark.parametrize("lost", ["region.json", "plans", "report"])
def test_what_is_lost_is_made_again_from_the_pairs(watched: Path, address: tuple[str, str], lost: str) -> None:
    told = read_tables(watched / "region")
    place = watched / "region" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    # The scenes are gone as well: the pairs are known from the folder alone.
    shutil.rmtree(watched / "scenes")
    (watched / "scenes").mkdir()

    make_pass(make_region(watched, *address))

    assert read_tables(watched / "region") == told


def test_pairs_at_the_same_time_give_the_same_tables(watched: Path, address: tuple[str, str]) -> None:
    make_pass(make_region(watched, *address, "max_concurrent_pairs=2", output=str(watched / "together")))

    assert read_tables(watched / "together") == read_tables(watched / "region")


def test_scene_that_was_made_anew_replaces_its_pair(watched: Path, address: tuple[str, str]) -> None:
    make_series(watched / "anew", {**SERIES, "2026-06-01": HOUSE})
    path = watched / "scenes" / "scene_20260601.tif"
    path.write_bytes((watched / "anew" / path.name).read_bytes() + b"and more")
    config = make_region(watched, *address)

    report = make_pass(config)

    assert len(report.summary.done) == 1
    assert read_time_line(config)["n_changes"].tolist() == [1, 0]
    assert len(list((watched / "region" / "pairs").iterdir())) == 3


def test_accuracy_is_kept_pair_by_pair_and_reviews_of_events_by_the_region(
    watched: Path, address: tuple[str, str]
) -> None:
    region = watched / "region"
    assessed = find_assessed_run(str(region))
    assert assessed.events is not None
    event, pair_id = min(assessed.events.ids), Path(assessed.folder.uri).name
    tiles = list(assessed.draw(12, seed=0).tiles)
    rows = [
        "tile_id,change_id,is_changed,verdict",
        *(f"{tile},,no," for tile in tiles),
        f",{event},,wrong",
        ",x/y,,right",
    ]
    (watched / "filled.csv").write_text("\n".join(rows))

    found, added = assessed.take_in(str(watched / "filled.csv"), person="ann", now=NOW)
    assessed.estimate()
    make_pass(make_region(watched, *address))
    kept = read_accuracy(RunFolder(str(region)))

    assert [each.n_added for each in added] == [12, 1]
    assert len(found.refused) == 1
    assert [*kept["pairs"]] == [pair_id]
    assert kept["pairs"][pair_id]["tiles"]["counts"][1][0] == 0
    assert kept["reviews_of_events"] == {"right": 0, "wrong": 1, "unsure": 0, "disputed": 0}
    sightings = pd.concat([gpd.read_parquet(file) for file in (region / "report" / "changes").rglob("*.parquet")])
    own = sightings[sightings["first_sighting"].eq(event)]
    assert own["review"].eq("wrong").all()
    assert not own["is_told"].any()
    assert not own["event_id"].isin(gpd.read_parquet(region / "report" / "events.parquet")["event_id"]).any()
    assert "How accurate this is" in (region / "report" / "index.html").read_text(encoding="utf-8")
    pairs = write_reviewed_pairs([str(region)], watched / "pairs", settings=ReviewedPairsSettings(val_fraction=0.4))
    # The sample's tiles, and of other pairs that saw it the tile of the event that was rejected.
    assert 12 <= pairs.n_train + pairs.n_val + pairs.n_gap <= 14
    assert pairs.n_train_changed + pairs.n_val_changed == 0
    with pytest.raises(InputError, match="is there already"):
        write_reviewed_pairs([str(region)], watched / "pairs", settings=ReviewedPairsSettings())
    with pytest.raises(InputError, match="has no pair nothing"):
        find_assessed_run(str(region), pair="nothing")


def refuse(run: RunConfig) -> None:
    raise AssertionError(f"a model is asked for {run.output}")


def read_events(config: RegionConfig, name: str = "events") -> gpd.GeoDataFrame:
    return gpd.read_parquet(Path(config.output) / "report" / f"{name}.parquet")


def test_what_is_told_changes_without_asking_a_model(watched: Path, address: tuple[str, str]) -> None:
    house = shapely.box(LEFT_M, TOP_M - TILE_PX, LEFT_M + TILE_PX, TOP_M)
    water = gpd.GeoDataFrame({"id": ["lake"]}, geometry=[house], crs="EPSG:32614")
    water.to_crs("EPSG:4326").to_file(watched / "water.geojson")
    first = read_events(make_region(watched, *address))
    told = read_tables(watched / "region")

    excluding = make_region(watched, *address, exclude=str(watched / "water.geojson"))
    report = make_pass(excluding, run_pair=refuse)
    assert report.summary.events == {"added": 0, "confirmed": 0, "altered": 0, "retired": 1, "new": 0}
    (left,) = read_events(excluding)["event_id"]
    assert report.tables.time_line["n_changes"].tolist() == [0, 1]

    small = make_region(watched, *address, "report.min_area_m2=1e6", zones=str(watched / "water.geojson"))
    assert make_pass(small, run_pair=refuse).summary.events["retired"] == 1
    assert read_events(small).empty

    zoned = make_region(watched, *address, zones=str(watched / "water.geojson"))
    assert make_pass(zoned, run_pair=refuse).summary.events["added"] == 2
    zones = read_events(zoned).set_index("event_id")["zone_ids"].to_dict()
    assert zones == {event_id: "" if event_id == left else "lake" for event_id in first["event_id"]}

    again = make_region(watched, *address)
    make_pass(again, run_pair=refuse)
    assert {name for name, data in read_tables(watched / "region").items() if told[name] != data} == {
        "report/changelog.parquet"
    }
    log = read_events(again, "changelog")
    assert log["pass_number"].drop_duplicates().tolist() == [1, 2, 3, 4, 5]
    assert set(log["reason"].dropna()) == {"it lies in exclude", "it is smaller than report.min_area_m2"}
    assert log["is_new"].sum() == 2


def test_region_in_a_bucket_tells_the_same(watched: Path) -> None:
    with (
        start_s3_server() as server,
        set_environment(**make_environment(server.port)),
        open_cluster(ClusterConfig(n_workers=1, allow_unencrypted=True)) as workers,
    ):
        config = make_region(watched, *give_address(workers.scheduler.address), output=f"s3://{BUCKET}/regions/made")

        report = make_pass(config)

        assert len(report.summary.done) == 2
        assert make_pass(config).summary.n_skipped == 2
        for name, data in read_tables(watched / "region").items():
            assert report.folder.read(name) == data


def test_api_whose_pages_do_not_end_is_given_up(tmp_path: Path, address: tuple[str, str]) -> None:
    def answer(handler: Any, body: bytes) -> None:
        place = f"http://127.0.0.1:{handler.server.server_port}"
        links = [{"rel": "search", "href": f"{place}/search", "method": "GET"}, {"rel": "self", "href": place}]
        root = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "api",
            "description": "made for a test",
            "links": links,
            "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")],
        }
        item = {"type": "Feature", "id": "same", "collection": "c", "properties": {}, "links": [], "assets": {}}
        following = [{"rel": "next", "href": f"{place}/search?page=next", "method": "GET"}]
        page = {"type": "FeatureCollection", "features": [item] * 50, "links": following}
        send(handler, page if handler.path.startswith("/search") else root)

    with serve_answers(answer) as url:
        config = make_region(tmp_path, *address, source={"kind": "stac", "search": {"href": url, "max_items": 120}})
        with pytest.raises(InputError, match=r"its pages do not end"), Region.prepare(config) as region:
            region.plan(NOW)

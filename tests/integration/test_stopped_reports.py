"""A report that is stopped at any of its writes: what says "complete" never speaks of other files, nothing is lost."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from made_scenes import LEFT_M, N_COLS, N_ROWS, TILE_PX, TOP_M, MadeScenes, make_config, make_scenes, make_series
from stand_in_model import StandInModel

from model.errors import InputError
from pipeline.config.region import RegionConfig, TellingConfig, load_region_config
from pipeline.regions import report as region_files
from pipeline.regions.pair_records import PairState, PairStatus, read_states
from pipeline.regions.record import REGION_NAME
from pipeline.regions.region import Region
from pipeline.report import write as report
from pipeline.runs import kept, record
from pipeline.runs.check import check_run
from pipeline.runs.export import export_report
from pipeline.runs.read import list_changed_tiles, read_tile_pair
from pipeline.runs.record import RECORD_NAME
from pipeline.runs.record_files import PENDING_NAME, read_record, withdraw_record
from pipeline.runs.run import detect_changes, rebuild_report
from pipeline.runs.versions import list_versions
from pipeline.scenes import pair
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import PAGE_NAME, TILES_NAME, is_run_file
from pipeline.storage.object_facts import describe_bytes
from pipeline.storage.plain_files import PlainFiles
from pipeline.workers import checks, models, tasks
from pipeline.workers.tasks import Call, run_bounded

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WORDS = "is being made anew, or that was stopped half-way; expected .*; .*`deltavlm report "


def run_here(
    client: object,
    function: Callable[..., Any],
    take_call: Callable[[], Call | None],
    *,
    max_in_flight: int | None,
) -> Iterator[tuple[str, Any]]:
    """Stand in for the workers."""
    while (call := take_call()) is not None:
        yield call.key, function(*call.arguments)


@pytest.fixture(scope="module", autouse=True)
def no_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "run_bounded", run_here)
        patch.setattr(models, "register_model", lambda client, **model: None)
        patch.setattr(models, "unregister_model", lambda client, **model: None)
        patch.setattr(models, "hold_model", lambda model, **how: nullcontext(StandInModel()))
        patch.setattr(checks, "check_workers", lambda client, **what: None)
        patch.setattr(models, "settle_dtype", lambda client, model: SimpleNamespace(dtype="float32"))
        # Most of the time of a small report.
        patch.setattr(report, "draw_plots", lambda figures: {"made.png": b"plot of a run"})
        patch.setattr(region_files, "draw_plots", lambda figures: {"made.png": b"plot of a region"})
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("scenes"), changed=CHANGED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run_again(folder, scenes)
    return folder


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The settings of other zones than the run was made with, which had none."""
    file = write_ground(tmp_path_factory.mktemp("zones") / "zones.geojson")
    return {"zones": str(file), "zones_id_column": "id", "zones_name_column": None}


def write_ground(file: Path) -> Path:
    """Write the ground of the made scenes as a polygon."""
    ground = shapely.box(LEFT_M, TOP_M - N_ROWS * TILE_PX, LEFT_M + N_COLS * TILE_PX, TOP_M)
    gpd.GeoDataFrame({"id": ["all"]}, geometry=[ground], crs="EPSG:32614").to_crs("EPSG:4326").to_file(file)
    return file


def run_again(folder: Path, scenes: MadeScenes) -> None:
    detect_changes(make_config(scenes, output=folder), open_cluster=lambda: nullcontext(None))  # type: ignore[arg-type]


def read_results(folder: Path) -> dict[str, bytes]:
    """Give every file but the record, which tells of places and times."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("run.")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def find_strangers(folder: Path, *, record: str = RECORD_NAME) -> list[str]:
    """Name the files that are not what the record beside them says; none where there is no record."""
    if not (folder / record).exists():
        return []
    files = json.loads((folder / record).read_bytes())["files"]
    return [
        name
        for name, facts in files.items()
        if not (folder / name).exists() or describe_bytes((folder / name).read_bytes()) != facts
    ]


def test_a_report_that_would_be_made_just_as_it_is_stays(
    tmp_path: Path, finished: Path, scenes: MadeScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    run_again(folder, scenes)  # Its record names the folder from here on.
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("report/**/*")}
    told = (folder / RECORD_NAME).read_bytes()
    monkeypatch.setattr(pair, "measure_registration", None)

    run_again(folder, scenes)

    assert {path: path.stat().st_mtime_ns for path in folder.rglob("report/**/*")} == times
    assert (folder / RECORD_NAME).read_bytes() == told


def damage_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / PAGE_NAME).write_text("<html>")


def lose_plots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "report/plots")


def change_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = list_versions() | {"code": "of tomorrow"}
    for module in (record, kept):
        monkeypatch.setattr(module, "list_versions", lambda: newer)


def review(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "reviews").mkdir()
    (folder / "reviews" / "sample.json").write_text("{}")


@pytest.mark.parametrize("happen", [damage_page, lose_plots, change_program, review])
def test_a_report_is_made_anew_where_anything_about_it_is_another(
    tmp_path: Path, finished: Path, scenes: MadeScenes, monkeypatch: pytest.MonkeyPatch, happen: Callable[..., None]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    run_again(folder, scenes)
    times = (folder / TILES_NAME).stat().st_mtime_ns
    happen(folder, monkeypatch)

    run_again(folder, scenes)

    assert (folder / TILES_NAME).stat().st_mtime_ns > times
    assert (folder / "report/plots/made.png").read_bytes() == b"plot of a run"
    assert (folder / PAGE_NAME).stat().st_size > 1000
    assert find_strangers(folder) == []


def copy_before_writes(folder: Path, work: Callable[[], object], *, copies: Path) -> list[Path]:
    """Do some work in a folder, and keep what a kill before each of its writes and removals would have left."""
    kept: list[Path] = []

    def copy_before(call: Callable[..., Any]) -> Callable[..., Any]:
        def copy_and_call(*arguments: Any) -> Any:
            kept.append(Path(shutil.copytree(folder, copies / f"{len(kept):03d}")))
            return call(*arguments)

        return copy_and_call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainFiles, "put", copy_before(PlainFiles.put))
        patch.setattr(PlainFiles, "delete", copy_before(PlainFiles.delete))
        work()
    return kept


def test_a_report_that_is_stopped_anywhere_is_told_apart_and_made_again(
    tmp_path: Path, finished: Path, scenes: MadeScenes, zones: dict[str, str | None]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    stopped = copy_before_writes(run, lambda: rebuild_report(str(run), zones=zones), copies=tmp_path / "stopped")
    as_it_was, with_zones = read_results(finished), read_results(run)
    repairs: list[tuple[Callable[[Path], object], dict[str, bytes]]] = [
        (lambda folder: rebuild_report(str(folder)), as_it_was),
        (lambda folder: rebuild_report(str(folder), zones=zones), with_zones),
        (lambda folder: run_again(folder, scenes), as_it_was),
    ]

    states = [((folder / RECORD_NAME).exists(), (folder / PENDING_NAME).exists()) for folder in stopped]
    # Withdrawn before the first file, there again after the last one.
    assert states[:4] == [(True, False), (True, True), (False, True), (False, True)]
    assert states[4:] == [(False, True)] * (len(states) - 5) + [(True, True)]
    assert [find_strangers(folder) for folder in stopped] == [[]] * len(stopped)
    # Between the first and the last files of a report they are alike.
    for folder, (repair, expected) in zip([*stopped[:3], *stopped[3:-2:4], stopped[-2]], itertools.cycle(repairs)):
        repair(folder)
        assert read_results(folder) == expected
        assert find_strangers(folder) == []
    assert read_results(stopped[-1]) == with_zones
    rebuild_report(str(stopped[-1]))
    assert read_results(stopped[-1]) == with_zones


def test_a_run_that_is_stopped_in_its_report_is_told_apart_as_well(
    tmp_path: Path, finished: Path, scenes: MadeScenes
) -> None:
    # As left by an earlier version of this program, whose page was another.
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / PAGE_NAME).write_bytes(b"former")
    record = json.loads((run / RECORD_NAME).read_bytes())
    record["files"][PAGE_NAME] = describe_bytes(b"former")
    del record["sha256"]
    (run / RECORD_NAME).write_text(json.dumps(record))

    stopped = copy_before_writes(run, lambda: run_again(run, scenes), copies=tmp_path / "stopped")

    assert [find_strangers(folder) for folder in stopped] == [[]] * len(stopped)
    assert len(stopped) > 10
    for folder in stopped[::5]:
        rebuild_report(str(folder))
        assert read_results(folder) == read_results(finished)
        assert find_strangers(folder) == []


def test_a_finished_run_is_looked_through_without_workers_and_one_that_lacks_answers_asks_for_them(
    tmp_path: Path, finished: Path, scenes: MadeScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoWorkersError(Exception):
        pass

    def fail() -> nullcontext[Any]:
        raise NoWorkersError

    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = make_config(scenes, output=run)
    monkeypatch.setattr(tasks, "run_bounded", run_bounded)

    detect_changes(config, open_cluster=fail)
    next((run / "answers").iterdir()).unlink()

    with pytest.raises(NoWorkersError):
        detect_changes(config, open_cluster=fail)


def test_all_who_read_a_run_say_that_its_report_was_stopped_and_what_to_do(tmp_path: Path, finished: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    stopped = copy_before_writes(run, lambda: rebuild_report(str(run)), copies=tmp_path / "stopped")[5]
    readers: list[Callable[[], object]] = [
        lambda: read_record(RunFolder(str(stopped))),
        lambda: read_tile_pair(str(stopped), "r0000_c0000"),
        lambda: list_changed_tiles(str(stopped)),
        lambda: export_report(str(stopped), formats=["csv"]),
    ]

    for read in readers:
        with pytest.raises(InputError, match=WORDS):
            read()
    facts = check_run(str(stopped))
    assert facts.figures["state"] == "unfinished"
    assert len(facts.problems) == 1
    assert "is being made anew, or that was stopped half-way" in facts.problems[0]


def test_exports_replace_links_and_write_through_none(tmp_path: Path, finished: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("mine")
    for name in ("tiles.csv", ".changes.csv.part"):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / name).symlink_to(keys)

    export_report(str(finished), formats=["csv"], output=str(tmp_path / "files"))

    assert keys.read_text() == "mine"
    assert not (tmp_path / "files" / "tiles.csv").is_symlink()
    assert (tmp_path / "files" / "changes.csv").stat().st_size


@pytest.mark.parametrize("name", ["report", "answers", "tiles.zarr", "marks", "run.json", "report/tiles.parquet"])
def test_a_run_into_a_folder_with_a_link_leaves_what_that_leads_to(
    name: str, tmp_path: Path, finished: Path, scenes: MadeScenes
) -> None:
    run, elsewhere = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "elsewhere"
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in [elsewhere, *elsewhere.rglob("*")] if path.is_file()}

    with suppress(InputError):
        run_again(run, scenes)
    with suppress(InputError):
        rebuild_report(str(run))

    after = {path: path.read_bytes() for path in [elsewhere, *elsewhere.rglob("*")] if path.is_file()}
    assert after == before


def test_files_of_others_in_the_folders_of_a_run_stay(tmp_path: Path, scenes: MadeScenes) -> None:
    mine = [tmp_path / "run" / name for name in ("marks/maths.json", "marks/notes.txt", "tiles.zarr/photo.jpg")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")

    run_again(tmp_path / "run", scenes)

    assert [path.read_text() for path in mine] == ["mine"] * len(mine)


def test_a_report_that_cannot_be_begun_leaves_the_run_as_it_was(tmp_path: Path, finished: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    part = next((folder / "answers").iterdir())
    part.write_bytes(part.read_bytes()[:-9])
    before = {**read_results(folder), RECORD_NAME: (folder / RECORD_NAME).read_bytes()}

    with pytest.raises(InputError, match="cannot be read"):
        rebuild_report(str(folder))

    assert {**read_results(folder), RECORD_NAME: (folder / RECORD_NAME).read_bytes()} == before


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> RegionConfig:
    """A region after the first of two pairs."""
    folder = tmp_path_factory.mktemp("watched")
    house = {(0, 0): ["top-left"]}
    make_series(folder / "scenes", {"2024-06-01": {}, "2025-06-01": house, "2026-06-01": house})
    values: dict[str, Any] = {
        "name": "made",
        "aoi": str(write_ground(folder / "area.geojson")),
        "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif"},
        "pairing": {"kind": "series", "since": "2024-01-01"},
        "max_pairs_per_pass": 1,
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX, "anchor": "overlap"},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in"},
    }
    config = load_region_config(values=values)
    make_pass(config)
    return config


def make_pass(config: RegionConfig, *, around_merge: Callable[[Callable[[], object]], object] | None = None) -> None:
    with Region.prepare(config) as region:
        plan = region.plan(NOW)
        for record in plan.to_do:
            with region.attempt(record):
                detect_changes(region.make_run_config(record), open_cluster=lambda: nullcontext(None))  # type: ignore[arg-type]
        merge = partial(region.merge, plan, now=NOW)
        merge() if around_merge is None else around_merge(merge)


def test_a_regions_report_that_is_stopped_anywhere_is_told_apart_and_made_again(
    tmp_path: Path, watched: RegionConfig
) -> None:
    # The second pair adds, and what the first one has added is retired: too small.
    folder = Path(shutil.copytree(watched.output, tmp_path / "region"))
    telling = watched.model_copy(update={"report": TellingConfig(min_area_m2=1e9)})
    stopped: list[Path] = []
    make_pass(
        telling.model_copy(update={"output": str(folder)}),
        around_merge=lambda merge: stopped.extend(copy_before_writes(folder, merge, copies=tmp_path / "stopped")),
    )
    expected = read_results(folder / "report")

    assert pd.read_parquet(folder / "report" / "changelog.parquet")["action"].unique().tolist() == ["added", "retired"]
    assert [(each / REGION_NAME).exists() for each in stopped] == [True] + [False] * (len(stopped) - 1)
    assert len(stopped) > 5
    assert find_strangers(folder, record=REGION_NAME) == find_strangers(stopped[0], record=REGION_NAME) == []
    # Of the files of the report, every other one: what is written first and last is looked at whole.
    for each in [*stopped[:3], *stopped[3:-2:2], *stopped[-2:]]:
        make_pass(telling.model_copy(update={"output": str(each)}))
        # The log as well: what was retired is told once, wherever the pass was stopped.
        assert read_results(each / "report") == expected
        assert find_strangers(each, record=REGION_NAME) == []


def test_a_region_says_of_a_pair_that_its_report_was_stopped(tmp_path: Path, watched: RegionConfig) -> None:
    region = RunFolder(str(shutil.copytree(watched.output, tmp_path / "region")))

    def read_pair() -> PairState:
        return next(state for state in read_states(region) if state.record.attempts)

    run = RunFolder(region.join(read_pair().record.run_name))
    withdraw_record(run)

    state = read_pair()
    assert state.status is PairStatus.PLANNED
    assert state.needs_work(max_attempts=3)
    assert state.reason is not None
    assert f"stopped half-way; `deltavlm report` on {state.record.run_name} makes it again" in state.reason
    rebuild_report(run.uri)
    assert (read_pair().status, read_pair().reason) == (PairStatus.DONE, None)


def test_reports_leave_alone_what_others_put_beside_them(tmp_path: Path, watched: RegionConfig) -> None:
    region = Path(shutil.copytree(watched.output, tmp_path / "region"))
    (run,) = (path.parent for path in region.glob("pairs/*/run.json"))
    (table,) = region.glob("report/changes/*/*.parquet")
    stale = table.with_name("20200101_20210101_0123456789ab.parquet")
    shutil.copy(table, stale)
    mine = [
        *(region / "report" / name for name in ("notes.txt", "changes/after_year=2026/mine.parquet", "plots/mine.png")),
        *(run / "report" / name for name in ("notes.txt", "page/mine.js", "plots/mine.png")),
    ]
    for file in mine:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")

    rebuild_report(str(run))
    make_pass(watched.model_copy(update={"output": str(region), "max_pairs_per_pass": 0}))

    assert [file.read_bytes() for file in mine] == [b"mine"] * len(mine)
    assert not stale.exists()


def test_all_that_a_run_leaves_has_a_name_of_its_own(finished: Path) -> None:
    names = list(read_results(finished))

    assert len(names) > 20
    assert [name for name in names if not is_run_file(name)] == []


@pytest.mark.parametrize("name", ["report/item.json", "report/changes.parquet"])
def test_a_region_believes_no_file_of_a_pair_that_is_not_what_its_run_wrote(
    name: str, tmp_path: Path, watched: RegionConfig
) -> None:
    region = Path(shutil.copytree(watched.output, tmp_path / "region"))
    config = watched.model_copy(update={"output": str(region)})
    (file,) = region.glob(f"pairs/*/{name}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(InputError, match=f"{name} is not what was written there") as raised:
        make_pass(config)
    rebuild_report(str(file.parents[1]))
    make_pass(config)

    assert "deltavlm report" in raised.value.remedy
    assert find_strangers(region, record=REGION_NAME) == []


def test_a_flipped_bit_in_a_record_is_told(tmp_path: Path, watched: RegionConfig) -> None:
    region = Path(shutil.copytree(watched.output, tmp_path / "region"))
    config = watched.model_copy(update={"output": str(region)})
    (plan,), (run,) = region.glob("plans/*.json"), region.glob("pairs/*/run.json")
    written = plan.read_bytes()
    plan.write_bytes(written.replace(b'"attempts": 1', b'"attempts": 3'))

    with pytest.raises(InputError, match="not what was written") as raised:
        make_pass(config)
    plan.write_bytes(written)
    run.write_bytes(run.read_bytes().replace(b'"changed_tile_count": ', b'"changed_tile_count": 1', 1))
    (damaged,) = (state for state in read_states(RunFolder(str(region))) if state.record.attempts)

    assert raised.value.remedy.startswith("delete it: the next pass plans the pair again")
    assert damaged.status is PairStatus.FAILED
    assert "not what was written" in str(damaged.reason)
    assert damaged.needs_work(max_attempts=3)

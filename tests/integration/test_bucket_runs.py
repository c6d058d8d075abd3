"""Runs in a bucket, on a real S3 endpoint: the same bytes as in a folder, also when the endpoint has a bad day."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import obstore
import pytest
from fault_proxy import LOST_REPLY, RESET, Fault, FaultProxy, plan_no_fault, start_fault_proxy
from fork_server import set_environment
from made_scenes import MadeScenes, make_config, make_scenes, read_result, run_arguments
from s3_server import BUCKET, S3Server, make_environment, start_s3_server

from flows.cluster import open_cluster
from model.errors import FolderError, InputError
from pipeline.config.cluster import ClusterConfig
from pipeline.reviews.review import Review, Subject, Verdict
from pipeline.reviews.store import ReviewKeeper, read_reviews
from pipeline.runs.export import export_report
from pipeline.runs.read import list_changed_tiles, open_tiles, read_table, read_tile_pair
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock
from pipeline.storage.lock_holder import Holder
from pipeline.storage.object_lock import ObjectLock
from pipeline.storage.opening import find_run_folder

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}
RunInBucket = Callable[..., None]
TABLES = ("report/tiles.parquet", "report/changes.parquet", "report/index.html")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def faulty_s3(s3: S3Server) -> Iterator[FaultProxy]:
    """The same server behind a proxy, which is what this process and its workers know of."""
    with start_fault_proxy(s3.port) as proxy, set_environment(**make_environment(proxy.server_port)):
        yield proxy


@pytest.fixture(scope="module")
def address(faulty_s3: FaultProxy) -> Iterator[str]:
    """Where workers are found that know of it."""
    with open_cluster(ClusterConfig(n_workers=2, allow_unencrypted=True)) as client:
        yield client.scheduler.address


@pytest.fixture(scope="module")
def workers(address: str) -> OpenCluster:
    return partial(open_cluster, ClusterConfig(kind="address", address=address))


@pytest.fixture
def proxy(faulty_s3: FaultProxy) -> Iterator[FaultProxy]:
    """The proxy, without a fault before and after."""
    faulty_s3.faults.clear()
    yield faulty_s3
    faulty_s3.plan = plan_no_fault


@pytest.fixture(scope="module")
def run_in_bucket(workers: OpenCluster, scenes: MadeScenes) -> RunInBucket:
    def run(prefix: str, *settings: str) -> None:
        config = make_config(scenes, output=f"s3://{BUCKET}/{prefix}", assignments=settings)
        detect_changes(config, open_cluster=workers)

    return run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("bucket") / "scenes", changed=CHANGED)


@pytest.fixture(scope="module")
def finished(run_in_bucket: RunInBucket) -> str:
    """The prefix of a run that has ended."""
    run_in_bucket("finished")
    return "finished"


@pytest.fixture(scope="module")
def local_run(scenes: MadeScenes, tmp_path_factory: pytest.TempPathFactory, workers: OpenCluster) -> Path:
    """The same run in a local folder."""
    folder = tmp_path_factory.mktemp("local") / "run"
    detect_changes(make_config(scenes, output=folder), open_cluster=workers)
    return folder


def read_folder(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_commands_on_a_bucket(s3: S3Server, scenes: MadeScenes, local_run: Path, address: str, run_command) -> None:
    uri = f"s3://{BUCKET}/weekly/one"

    done = run_command(*run_arguments(scenes, output=uri, address=address))

    assert done.returncode == 0, done.stderr
    assert read_result(done)["output"] == uri
    assert f"Report: {uri}/report/index.html" in done.stderr
    expected, found = read_folder(local_run), s3.read_all("weekly/one")
    assert set(found) == set(expected)
    # The record alone tells of the place and of times.
    assert {name: found[name] for name in found if name != "run.json"} == {
        name: data for name, data in expected.items() if name != "run.json"
    }
    obstore.delete(s3.open_store("weekly/one"), ["report/tiles.parquet"])
    assert run_command("check", uri).returncode == 2
    assert run_command("report", uri).returncode == 0
    checked = run_command("check", uri)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["figures"]["n_tiles_analysed"] == 24
    assert s3.read_all("weekly/one")["report/tiles.parquet"] == expected["report/tiles.parquet"]
    asked = run_command("ask", uri, "r0001_c0003", "Please determine how many roads and buildings have changed?")
    assert asked.returncode == 0, asked.stderr
    assert "2 buildings" in asked.stdout


def test_outlines_in_a_bucket_are_those_of_a_folder(
    s3: S3Server, run_in_bucket: RunInBucket, workers: OpenCluster, scenes: MadeScenes, tmp_path: Path
) -> None:
    run_in_bucket("outlined", "model.name=stand-in-outlining")
    config = make_config(scenes, output=tmp_path / "run", assignments=("model.name=stand-in-outlining",))
    detect_changes(config, open_cluster=workers)

    objects = s3.read_all("outlined")
    assert len([name for name in objects if name.startswith("outlines/")]) == 6
    for path in [*(tmp_path / "run" / "outlines").iterdir(), tmp_path / "run" / "report" / "changes.parquet"]:
        assert objects[str(path.relative_to(tmp_path / "run"))] == path.read_bytes()

    # What is made of it in the bucket is the same, and is named in the item there.
    for place in (f"s3://{BUCKET}/outlined", str(tmp_path / "run")):
        export_report(place, formats=["probability"])
    objects, raster = s3.read_all("outlined"), "formats/change_probability.tif"
    assert objects[raster] == (tmp_path / "run" / raster).read_bytes()
    asset = json.loads(objects["report/item.json"])["assets"]["change_probability"]
    assert asset["file:size"] == len(objects[raster])
    assert read_record(find_run_folder(f"s3://{BUCKET}/outlined")).files["report/item.json"]["size_bytes"] == len(
        objects["report/item.json"]
    )


def test_datasets_from_a_bucket(finished: str, local_run: Path) -> None:
    uri = f"s3://{BUCKET}/{finished}"

    np.testing.assert_array_equal(
        open_tiles(uri).pixels.compute(scheduler="synchronous"), open_tiles(str(local_run)).pixels.to_numpy()
    )
    np.testing.assert_array_equal(read_tile_pair(uri, "r0000_c0000"), read_tile_pair(str(local_run), "r0000_c0000"))
    assert list_changed_tiles(uri) == list_changed_tiles(str(local_run))


def test_a_bucket_that_is_not_there(proxy: FaultProxy, scenes: MadeScenes, address: str, run_command) -> None:
    done = run_command(*run_arguments(scenes, output="s3://nowhere/run", address=address))

    assert done.returncode == 2
    assert "there is no such bucket" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_prefix_with_other_objects_is_left_alone(s3: S3Server, run_in_bucket: RunInBucket) -> None:
    obstore.put(s3.open_store("theses"), "mine.doc", b"years of work")

    with pytest.raises(InputError, match=r"other files, such as mine\.doc"):
        run_in_bucket("theses")

    assert s3.read_all("theses") == {"mine.doc": b"years of work"}


def test_faults_for_a_while_change_nothing(
    s3: S3Server, proxy: FaultProxy, run_in_bucket: RunInBucket, local_run: Path
) -> None:
    dice = random.Random(1)

    def fail_often(number: int, method: str, path: str) -> Fault:
        return dice.choice([500, 503, RESET, LOST_REPLY]) if dice.random() < 0.15 else None

    proxy.plan = fail_often

    run_in_bucket("faulty")

    assert min(proxy.faults[fault] for fault in (500, 503, RESET, LOST_REPLY)) > 0
    found, expected = s3.read_all("faulty"), read_folder(local_run)
    assert {name: found[name] for name in TABLES} == {name: expected[name] for name in TABLES}
    assert set(found) == set(expected)


@pytest.mark.parametrize("kind", ["tiles.zarr/pixels/c", "answers/", "report/tiles"])
def test_a_store_that_stays_down_stops_the_run_and_loses_nothing(
    kind: str, s3: S3Server, proxy: FaultProxy, run_in_bucket: RunInBucket, local_run: Path
) -> None:
    prefix = f"down-{kind.partition('/')[0].replace('.', '-')}"
    is_down = False

    def go_down(number: int, method: str, path: str) -> Fault:
        nonlocal is_down
        is_down = is_down or (method == "PUT" and f"/{kind}" in path)
        return 503 if is_down else None

    proxy.plan = go_down

    with pytest.raises(FolderError, match=r"does not answer.*503"):
        run_in_bucket(prefix, "storage.retry_timeout_s=1")

    before = s3.read_all(prefix)
    assert "run.json" not in before
    proxy.plan = plan_no_fault
    # Its holder is this process and lives; else the lock would be replaced at once.
    obstore.delete(s3.open_store(prefix), ["run.lock"])
    run_in_bucket(prefix)
    found, expected = s3.read_all(prefix), read_folder(local_run)
    kept = {name for name in before if name.startswith(("answers/", "tiles.zarr/"))}
    assert {name: found[name] for name in kept} == {name: before[name] for name in kept}
    assert {name: found[name] for name in TABLES} == {name: expected[name] for name in TABLES}
    assert set(found) == set(expected)


def test_the_lock_on_a_real_endpoint(s3: S3Server, proxy: FaultProxy) -> None:
    folder, store = RunFolder(f"s3://{BUCKET}/locked", 20.0), s3.open_store("locked")
    lost = iter([LOST_REPLY])
    # The lock is created, and the answer never comes: the request that is repeated finds it there.
    proxy.plan = lambda number, method, path: next(lost, None) if method == "PUT" else None
    with hold_lock(folder) as lock:
        assert isinstance(lock, ObjectLock)
        with pytest.raises(FolderError, match="is being written by process"), hold_lock(folder):
            pass
        lost = iter([LOST_REPLY])
        lock.show_life()
        lock.show_life()
        lock.check()
        assert [entry["path"] for batch in obstore.list(store) for entry in batch] == ["run.lock"]
    assert s3.read_all("locked") == {}

    dead = replace(Holder(), pid=2**22 + 1)
    obstore.put(store, "run.lock", dead.to_json())
    with hold_lock(folder) as lock:
        lock.check()
        obstore.put(store, "run.lock", dead.to_json())
        assert isinstance(lock, ObjectLock)
        lock.show_life()
        with pytest.raises(FolderError, match="has lost its lock"):
            lock.check()
    assert list(s3.read_all("locked")) == ["run.lock"]


def test_rebuilding_a_report_takes_the_lock(s3: S3Server, finished: str) -> None:
    uri = f"s3://{BUCKET}/{finished}"
    before = s3.read_all(finished)
    obstore.put(s3.open_store(finished), "run.lock", b"{}")

    with pytest.raises(FolderError, match="is being written by another run"):
        rebuild_report(uri)

    obstore.delete(s3.open_store(finished), ["run.lock"])
    rebuild_report(uri)
    assert s3.read_all(finished) == before


def test_reviews_are_kept_in_the_bucket_and_a_report_made_anew_has_them(
    s3: S3Server, proxy: FaultProxy, run_in_bucket: RunInBucket
) -> None:
    run_in_bucket("reviewed")
    uri, before = f"s3://{BUCKET}/reviewed", s3.read_all("reviewed")
    record = read_record(find_run_folder(uri))
    changes = read_table(find_run_folder(uri), "report/changes.parquet")
    people = {"ann": Verdict.RIGHT, "bob": Verdict.WRONG}

    def review(person: str) -> None:
        """Say something of every change, each in a part of its own, as the review page has it kept."""
        keeper = ReviewKeeper(find_run_folder(uri))
        for number, change_id in enumerate(changes["change_id"]):
            said = Review(
                person=person,
                reviewed_at=dt.datetime(2026, 5, 1, 12, number, tzinfo=dt.UTC),
                run_id=record.run_id,
                model_id=record.model["model_id"],
                subject=Subject.CHANGE,
                subject_id=change_id,
                verdict=people[person] if number == 0 else Verdict.RIGHT,
                note="looked at twice" if number == 0 else None,
            )
            assert keeper.add([said]).n_added == 1

    # Of each fifth write the answer never comes: it is repeated, and finds what it wrote itself.
    proxy.plan = lambda number, method, path: (
        LOST_REPLY if method == "PUT" and "reviews/" in path and number % 5 == 0 else None
    )
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(review, people))
    proxy.plan = plan_no_fault

    parts = {name: data for name, data in s3.read_all("reviewed").items() if name.startswith("reviews/")}
    assert len(parts) == 2 * len(changes)
    log = read_reviews(find_run_folder(uri))
    assert (len(log.reviews), log.faults) == (2 * len(changes), ())
    torn = min(parts)
    obstore.put(s3.open_store("reviewed"), torn, parts[torn][:100])
    (fault,) = read_reviews(find_run_folder(uri)).faults
    assert fault.startswith(torn)
    obstore.put(s3.open_store("reviewed"), torn, parts[torn])

    rebuild_report(uri)

    after = s3.read_all("reviewed")
    told = read_table(find_run_folder(uri), "report/changes.parquet").set_index("change_id")["review"]
    assert told.to_dict() == dict.fromkeys(changes["change_id"], "right") | {changes["change_id"].iloc[0]: "unsure"}
    kept = {name for name in before if name.startswith(("answers/", "marks/", "tiles.zarr/"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert {name: after[name] for name in parts} == parts

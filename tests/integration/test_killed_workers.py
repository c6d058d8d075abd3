"""Workers and schedulers die in every way there is: the report is, byte for byte, that of a run that nothing befell."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import dask
import pytest
from dask_processes import run_scheduler, run_worker
from distributed import Client, LocalCluster, Worker
from distributed.chaos import KillWorker
from fork_server import set_environment
from made_scenes import (
    MadeScenes,
    command_environment,
    command_line,
    make_config,
    make_scenes,
    run_arguments,
)
from patience import PATIENCE_S, wait_for
from stand_in_model import HUNGRY_COLOUR, KILLS_COLOUR, RAISES_COLOUR

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.summary import StageSummary

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}
STAGE = "collect_answers"

# Processes that start from nothing take their time on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("scenes"), changed=CHANGED)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster
) -> dict[str, bytes]:
    """Give the tables of a run that nothing happened to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    return read_tables(run)


def read_tables(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "report").glob("*.parquet"))}


def disturb(
    config: ClusterConfig, befall: Callable[[Client, int], None]
) -> tuple[OpenCluster, Callable[[StageSummary], None]]:
    """Open a cluster of one's own; `befall` is called with its client and the tiles answered so far."""
    clients: list[Client] = []
    n_done = 0

    @contextmanager
    def open_own_cluster() -> Iterator[Client]:
        with open_cluster(config) as client:
            clients.append(client)
            yield client

    def on_progress(part: StageSummary) -> None:
        nonlocal n_done
        if part.stage == STAGE:
            n_done += part.done
            befall(clients[0], n_done)

    return open_own_cluster, on_progress


@pytest.mark.parametrize("mode", ["graceful", "segfault"])
def test_chaos_leaves_no_trace(
    mode: Literal["graceful", "segfault"],
    tmp_path: Path,
    scenes: MadeScenes,
    undisturbed: dict[str, bytes],
) -> None:
    config = make_config(scenes, output=tmp_path / "run")
    chaos = KillWorker(delay="500 ms", mode=mode)
    first: set[int] = set()
    last: set[int] = set()

    async def strike(dask_worker: Worker) -> None:
        # The two will die after 0.9 and 0.1 s, which is before they can have done with six batches of 0.4 s. Those in
        # their place live on.
        random.seed(dask_worker.name)
        await chaos.setup(dask_worker)

    def befall(client: Client, n_done: int) -> None:
        last.clear()
        last.update(client.run(os.getpid, on_error="ignore").values())
        if not first:
            first.update(last)
            client.run(strike)

    open_own_cluster, on_progress = disturb(config.cluster, befall)
    # Workers that closed of their own will do not come back by themselves; others are waited for a while.
    with (
        set_environment(STAND_IN_SECONDS_PER_TILE="0.1"),
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 s"}),
    ):
        report = detect_changes(config, open_cluster=open_own_cluster, on_progress=on_progress)

    assert len(first) == 2
    assert not first & last
    assert report.is_complete
    assert read_tables(tmp_path / "run") == undisturbed


def test_workers_that_are_sent_away_are_made_up_for(
    tmp_path: Path, scenes: MadeScenes, undisturbed: dict[str, bytes]
) -> None:
    config = make_config(scenes, output=tmp_path / "run")
    sizes = iter((1, 2, 1))
    asked: list[int] = []

    def befall(client: Client, n_done: int) -> None:
        # As an adaptive cluster does it, at moments that are known.
        if n_done and n_done < 20 and (size := next(sizes, None)) is not None:
            client.cluster.scale(size)
            asked.append(size)

    open_own_cluster, on_progress = disturb(config.cluster, befall)
    with set_environment(STAND_IN_SECONDS_PER_TILE="0.05"):
        report = detect_changes(config, open_cluster=open_own_cluster, on_progress=on_progress)

    assert asked == [1, 2, 1]
    assert report.is_complete
    assert read_tables(tmp_path / "run") == undisturbed


def test_adaptive_cluster_grows_with_the_work(
    tmp_path: Path, scenes: MadeScenes, undisturbed: dict[str, bytes]
) -> None:
    gate = tmp_path / "gate"
    settings = {"distributed.adaptive.target-duration": "500 ms", "distributed.adaptive.interval": "100 ms"}
    config = make_config(
        scenes,
        output=tmp_path / "run",
        assignments=("cluster.n_workers=null", "cluster.adaptive={minimum: 1, maximum: 2}"),
    )
    at_first: list[int] = []

    def befall(client: Client, n_done: int) -> None:
        if n_done == 0:
            watchers.submit(watch, client)

    def watch(client: Client) -> None:
        # No batch is answered before there are two to do it.
        wait_for(lambda: len(client.nthreads()) == 2, what="second worker")
        gate.touch()

    open_own_cluster, on_progress = disturb(config.cluster, befall)

    @contextmanager
    def open_and_count() -> Iterator[Client]:
        with open_own_cluster() as client:
            at_first.append(len(client.nthreads()))
            yield client

    with (
        ThreadPoolExecutor(1) as watchers,
        dask.config.set(settings),
        set_environment(STAND_IN_WAITS_FOR=str(gate)),
    ):
        report = detect_changes(config, open_cluster=open_and_count, on_progress=on_progress)

    assert at_first == [1]
    assert gate.exists()
    assert report.is_complete
    assert read_tables(tmp_path / "run") == undisturbed


MARKED = {(1, 2): KILLS_COLOUR, (3, 4): RAISES_COLOUR, (2, 1): HUNGRY_COLOUR}


@pytest.fixture
def trouble(tmp_path: Path) -> MadeScenes:
    """Scenes with a tile that kills its worker, one that raises, and one that needs all memory for itself."""
    return make_scenes(tmp_path / "trouble", changed=CHANGED, marked=MARKED)


def test_troublesome_tiles_are_found_and_all_others_answered(tmp_path: Path, trouble: MadeScenes) -> None:
    config = make_config(trouble, output=tmp_path / "run")

    report = detect_changes(config, open_cluster=lambda: open_cluster(config.cluster))

    failures = read_record(report.folder).failures
    assert set(failures) == {"r0001_c0002", "r0003_c0004"}
    assert "the worker died" in failures["r0001_c0002"]
    assert "tripped over a tile" in failures["r0003_c0004"]
    assert (report.status_counts["failed"], report.status_counts["analysed"]) == (2, 22)


def test_killing_tile_is_found_on_a_cluster_of_others(tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED, marked={(1, 2): KILLS_COLOUR})
    config = make_config(scenes, output=tmp_path / "run", assignments=("tiles.shard_size_tiles=1",))
    # Its scheduler lets a task kill four workers, and others besides: once, as the tile is asked about alone.
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as others:
        cluster = ClusterConfig(kind="address", address=others.scheduler_address)
        report = detect_changes(config, open_cluster=lambda: open_cluster(cluster))

    failures = read_record(report.folder).failures
    assert list(failures) == ["r0001_c0002"]
    assert "the worker died" in failures["r0001_c0002"]
    assert (report.status_counts["failed"], report.status_counts["analysed"]) == (1, 23)


def test_killed_scheduler_ends_the_run_with_a_word_and_the_next_one_finishes_it(
    tmp_path: Path, scenes: MadeScenes, undisturbed: dict[str, bytes], shared_cluster: OpenCluster
) -> None:
    run = tmp_path / "run"
    slow = {"STAND_IN_SECONDS_PER_TILE": "0.3"}
    with ExitStack() as stack:
        scheduler, address = stack.enter_context(run_scheduler(tmp_path))
        stack.enter_context(run_worker(address, settings=slow))
        process = start_command(scenes, run=run, address=address)
        wait_for(lambda: count_parts(run) >= 8 or process.poll() is not None, what="answers")
        os.kill(scheduler.pid, signal.SIGKILL)
        _, words = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2, words
    assert "went away in the middle of the work" in " ".join(words.split())
    assert "Traceback" not in words
    assert 8 <= count_parts(run) < 24

    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)

    assert read_tables(run) == undisturbed


def start_command(scenes: MadeScenes, *, run: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command_line(*run_arguments(scenes, output=run, address=address)),
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def count_parts(run: Path) -> int:
    return len(list((run / "answers").glob("*.parquet")))

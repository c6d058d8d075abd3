"""Runs that are stopped, killed, started twice or left without room: nothing is lost, and the result is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from dispositions import HANGUPS, IN_THE_BACKGROUND, heed_hangups
from distributed import Client
from fork_server import FORKING
from killed_client import run_client
from made_scenes import MadeScenes, command_environment, command_line, make_config, make_scenes, run_arguments
from patience import PATIENCE_S, wait_for

from model.errors import FolderError
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}
N_PARTS = 6 * 4

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("stopped") / "scenes", changed=CHANGED)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster
) -> dict[str, bytes]:
    """The files of a run that nothing happened to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    return read_results(run)


@pytest.fixture
def start_run(scenes: MadeScenes) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``deltavlm run`` in a session of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(output: Path, *, wrapper: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        with heed_hangups():
            process = subprocess.Popen(
                [*wrapper, *command_line(*run_arguments(scenes, output=output, n_workers=1))],
                env=command_environment(**environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_results(run: Path) -> dict[str, bytes]:
    folders = ("report", "answers", "marks", "tiles.zarr")
    files = [path for folder in folders for path in (run / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if "#" not in path.name}


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    wait_for(lambda: is_so() or process.poll() is not None, what="sign of the run", pause_s=0.005)


def list_session(session_id: int) -> list[int]:
    """List the living processes of a session: a run and its workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def check_all_gone(session_id: int) -> None:
    """Workers notice within a moment that their command has ended."""
    wait_for(lambda: not list_session(session_id), what="end of the workers")


@pytest.mark.parametrize(
    ("number", "stage"), [(signal.SIGTERM, "write_tiles"), (signal.SIGINT, "collect_answers")], ids=str
)
def test_a_run_that_is_told_to_stop_ends_in_order(
    number: signal.Signals,
    stage: str,
    tmp_path: Path,
    start_run: Callable[..., subprocess.Popen[str]],
    shared_cluster: OpenCluster,
    undisturbed: dict[str, bytes],
    scenes: MadeScenes,
) -> None:
    run = tmp_path / "run"
    process = start_run(run, STAND_IN_SECONDS_PER_TILE="0.3")
    pattern = "marks/*.json" if stage == "write_tiles" else "answers/*.parquet"
    wait_until(lambda: any(run.glob(pattern)), process)

    if number is signal.SIGINT:
        # As a terminal does it: to the command and its workers.
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 128 + number, err
    assert out == ""
    assert f"Stopped by {number.name}" in err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    check_all_gone(process.pid)
    assert not (run / "run.lock").exists()
    assert not (run / "run.json").exists()
    before = read_results(run)
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    after = read_results(run)
    assert after == undisturbed
    assert {name: after.get(name) for name in before} == before


def test_a_run_in_the_background_outlives_its_terminal_and_stops_when_told(
    tmp_path: Path, start_run: Callable[..., subprocess.Popen[str]]
) -> None:
    run = tmp_path / "run"
    process = start_run(run, wrapper=IN_THE_BACKGROUND, STAND_IN_SECONDS_PER_TILE="0.3")
    wait_until(lambda: any(run.glob("answers/*.parquet")), process)

    for number in HANGUPS:
        # As a terminal does it: to the command and its workers.
        os.killpg(process.pid, number)
    n_parts = len(list(run.glob("answers/*.parquet")))
    wait_until(lambda: len(list(run.glob("answers/*.parquet"))) > n_parts, process)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 143, err
    assert "Stopped by SIGTERM" in err
    assert not (run / "run.lock").exists()
    check_all_gone(process.pid)


def test_a_second_run_is_sent_away_and_does_not_disturb_the_first(
    tmp_path: Path,
    start_run: Callable[..., subprocess.Popen[str]],
    shared_cluster: OpenCluster,
    undisturbed: dict[str, bytes],
    scenes: MadeScenes,
) -> None:
    run = tmp_path / "run"
    first = start_run(run, STAND_IN_SECONDS_PER_TILE="0.1")
    wait_until(lambda: any(run.glob("marks/*.json")), first)

    with pytest.raises(FolderError, match=rf"is being written by process {first.pid} on .*, since 20"):
        detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)

    out, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, err
    assert json.loads(out)["exit_code"] == 0
    assert read_results(run) == undisturbed
    with hold_lock(RunFolder(str(run))), pytest.raises(FolderError, match="is being written by"):
        rebuild_report(str(run))


def test_workers_of_a_killed_client_end_by_themselves_and_its_lock_is_nobodys(
    tmp_path: Path,
    start_run: Callable[..., subprocess.Popen[str]],
    shared_cluster: OpenCluster,
    undisturbed: dict[str, bytes],
    scenes: MadeScenes,
) -> None:
    run = tmp_path / "run"
    process = start_run(run, STAND_IN_SECONDS_PER_TILE="0.3")
    wait_until(lambda: any(run.glob("answers/*.parquet")), process)

    process.kill()
    process.communicate(timeout=PATIENCE_S)

    assert (run / "run.lock").exists()
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    assert read_results(run) == undisturbed
    assert not (run / "run.lock").exists()
    check_all_gone(process.pid)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_whose_client_is_killed_at_random_moments_is_the_same(
    seed: int,
    tmp_path: Path,
    client: Client,
    shared_cluster: OpenCluster,
    undisturbed: dict[str, bytes],
    scenes: MadeScenes,
) -> None:
    """Twelve kills in all, of clients whose workers go on with what they were given."""
    config = make_config(scenes, output=tmp_path / "run")
    dice = random.Random(seed)
    states = []
    # The earliest first: on a fast machine a late one comes when all is done.
    for seconds in sorted(dice.uniform(0.2, 1.8) for _ in range(6)):
        process = FORKING.Process(target=run_client, args=(config, client.scheduler.address))
        process.start()
        process.join(timeout=seconds)
        process.kill()
        process.join()
        states.append(len(read_results(tmp_path / "run")))

    detect_changes(config, open_cluster=shared_cluster)

    assert states[0] < len(undisturbed)
    assert read_results(tmp_path / "run") == undisturbed

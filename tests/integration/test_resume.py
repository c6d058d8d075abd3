"""A run may be cut off anywhere, and again: the next one does what is missing, and nobody can tell from the result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from distributed import Client
from made_scenes import (
    MadeScenes,
    command_environment,
    command_line,
    make_config,
    make_scenes,
    run_arguments,
)
from patience import PATIENCE_S, wait_for
from stand_in_model import RAISES_COLOUR

from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.summary import StageSummary

CHANGED = {(0, 0): ["top-left"], (1, 3): ["center-left", "bottom-left"], (3, 5): ["bottom-right"]}
N_PARTS = 6 * 4
"""Six batches of four tiles, four prompts."""

# Processes that start from nothing take their time on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("scenes"), changed=CHANGED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("finished") / "run"
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    return run


def read_table(run: Path) -> bytes:
    return (run / "report" / "tiles.parquet").read_bytes()


def read_state(run: Path, *folders: str) -> dict[str, tuple[bytes, int]]:
    """Give content and time of writing of every file in some folders of a run."""
    files = [path for folder in folders for path in (run / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(run)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def count_parts(run: Path) -> int:
    return len(list((run / "answers").glob("*.parquet")))


def test_second_run_does_nothing(tmp_path: Path, scenes: MadeScenes, shared_cluster: OpenCluster) -> None:
    run = tmp_path / "run"
    config = make_config(scenes, output=run)
    detect_changes(config, open_cluster=shared_cluster)
    before = read_state(run, "tiles.zarr", "marks", "answers")
    report_before = {name: content for name, (content, _) in read_state(run, "report").items()}
    record_before = (run / "run.json").read_bytes()
    stages: dict[str, StageSummary] = {}

    def add(part: StageSummary) -> None:
        stages[part.stage] = stages[part.stage] + part if part.stage in stages else part

    detect_changes(config, open_cluster=shared_cluster, on_progress=add)

    assert len(before) > N_PARTS
    assert read_state(run, "tiles.zarr", "marks", "answers") == before
    assert {name: content for name, (content, _) in read_state(run, "report").items()} == report_before
    assert (run / "run.json").read_bytes() == record_before
    for stage in ("write_tiles", "collect_answers"):
        assert (stages[stage].done, stages[stage].skipped, stages[stage].failed) == (0, 24, 0)


def test_only_a_new_prompt_is_asked(
    tmp_path: Path, finished: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = make_config(scenes, output=run)
    before = read_state(run, "tiles.zarr", "marks", "answers")
    more = [*config.model_dump(mode="json")["prompts"], {"name": "eyes", "kind": "ask", "text": "How many?"}]

    detect_changes(type(config).model_validate(config.model_dump() | {"prompts": more}), open_cluster=shared_cluster)

    after = read_state(run, "tiles.zarr", "marks", "answers")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 6


def test_killed_command_is_continued(
    tmp_path: Path, scenes: MadeScenes, finished: Path, client: Client, run_command
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command_line(*run_arguments(scenes, output=run)),
        env=command_environment(STAND_IN_SECONDS_PER_TILE="0.25"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: count_parts(run) >= 8 or process.poll() is not None, what="answers")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE_S)
    kept = read_state(run, "tiles.zarr", "marks", "answers")
    assert 8 <= count_parts(run) < N_PARTS
    assert not (run / "run.json").exists()

    result = run_command(*run_arguments(scenes, output=run, address=client.scheduler.address))

    assert result.returncode == 0, result.stderr
    after = read_state(run, "tiles.zarr", "marks", "answers")
    assert {name: after[name] for name in kept} == kept
    assert count_parts(run) == N_PARTS
    assert read_table(run) == read_table(finished)


def test_failed_tile_is_tried_again(tmp_path: Path, shared_cluster: OpenCluster) -> None:
    run = tmp_path / "run"
    scenes = make_scenes(tmp_path / "scenes", marked={(0, 0): RAISES_COLOUR})
    config = make_config(scenes, output=run)
    first = detect_changes(config, open_cluster=shared_cluster)
    kept = read_state(run, "tiles.zarr", "marks", "answers")
    stages: list[StageSummary] = []

    second = detect_changes(config, open_cluster=shared_cluster, on_progress=stages.append)

    assert first.status_counts["failed"] == second.status_counts["failed"] == 1
    assert read_state(run, "tiles.zarr", "marks", "answers") == kept
    asked = [part for part in stages if part.stage == "collect_answers" and not part.total]
    assert sum(part.failed for part in asked) == 1
    assert sum(part.skipped for part in asked) == 23
    assert sum(part.done for part in asked) == 0


def test_folder_of_another_pair_is_written_anew(tmp_path: Path, finished: Path, shared_cluster: OpenCluster) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    scenes = make_scenes(tmp_path / "scenes", changed={(2, 2): ["center-center"]})

    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    detect_changes(make_config(scenes, output=tmp_path / "fresh"), open_cluster=shared_cluster)

    assert read_table(run) == read_table(tmp_path / "fresh")

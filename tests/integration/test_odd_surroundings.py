"""The command where its streams take nothing, or the locale knows no letters beyond ASCII."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from made_scenes import MadeScenes, command_environment, command_line, make_scenes, run_arguments

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def scenes(tmp_path: Path) -> MadeScenes:
    return make_scenes(tmp_path / "Münsterländer Höhe", changed={(0, 0): ["top-left"]})


def run_command(
    scenes: MadeScenes,
    output: Path,
    *,
    address: str | None = None,
    environment: dict[str, str] | None = None,
    **streams: Any,
) -> Any:
    arguments = command_line(*run_arguments(scenes, output=output, address=address, n_workers=1))
    return subprocess.run(
        arguments, env=command_environment(**(environment or {})), timeout=280, check=False, **streams
    )


def test_a_log_on_a_full_disk_ends_no_run(tmp_path: Path, scenes: MadeScenes, client: Client) -> None:
    with Path("/dev/full").open("w") as full:
        done = run_command(
            scenes, tmp_path / "run", address=client.scheduler.address, stdout=subprocess.PIPE, stderr=full
        )

    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["exit_code"] == 0


def test_a_result_that_cannot_be_printed_is_no_result(tmp_path: Path, scenes: MadeScenes, client: Client) -> None:
    with Path("/dev/full").open("w") as full:
        done = run_command(
            scenes, tmp_path / "run", address=client.scheduler.address, stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert done.returncode == 2
    assert "stdout takes nothing (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_run_in_the_c_locale_takes_any_name(tmp_path: Path, scenes: MadeScenes) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output = tmp_path / "Ergebnis für Köln"

    done = run_command(scenes, output, environment=environment, capture_output=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["output"] == str(output)
    assert json.loads((output / "run.json").read_text())["config"]["before"]["uri"] == str(scenes.before)
    # Whoever keeps a log of it knows what it did.
    assert b"Write tiles: 24 of 24 done in" in done.stderr

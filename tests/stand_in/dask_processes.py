"""A Dask scheduler and its workers as processes of their own, as they run on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from made_scenes import command_environment
from patience import wait_for


@contextmanager
def run_scheduler(
    folder: Path, *, arguments: tuple[str, ...] = (), settings: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `dask scheduler` on the loopback; give its process and address.

    Args:
        folder: Where it leaves its address.
        arguments: Further arguments of the command.
        settings: Further environment variables.
    """
    place = folder / f"scheduler-{time.monotonic_ns()}.json"
    command = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place))
    with _run_dask(*command, *arguments, settings=settings) as process:
        yield process, wait_for(partial(_read_address, place, process), what="scheduler")


def _read_address(place: Path, process: subprocess.Popen[bytes]) -> str | None:
    assert process.poll() is None, f"dask scheduler ended with {process.returncode}"
    # What is not there yet, or half-written.
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return str(json.loads(place.read_text())["address"])
    return None


@contextmanager
def run_worker(
    address: str,
    *,
    arguments: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `dask worker` with one thread on the loopback, and nobody who starts it again."""
    command = ("worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    with _run_dask(*command, *arguments, settings=settings, cwd=cwd) as process:
        yield process


@contextmanager
def _run_dask(
    *arguments: str, settings: Mapping[str, str] | None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = command_environment(DASK_LOGGING__DISTRIBUTED="critical", **(settings or {}))
    # The package is found from any working directory.
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment["PYTHONPATH"]])
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env=environment,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

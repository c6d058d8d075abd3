"""Processes that begin with everything imported, as most of what a small run costs is seconds of imports.

They are forked from one that has done it once, may be killed, and have an environment and streams of their own.

Dask's workers of the tests come from here too, where ``distributed.worker.multiprocessing-method`` says so. What a new
Python does by itself is for the tests that start one with `command_line`.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import dask
from patience import PATIENCE_S

FORKING = multiprocessing.get_context("forkserver")
IMPORTED = [
    "distributed",
    "distributed.nanny",
    "flows.cli.console",
    "flows.cli.main",
    "flows.cli.progress",
    "flows.cluster",
    "httpx",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "matplotlib.style",
    "model.answering",
    "model.conversation",
    "model.loading",
    "pipeline.runs.export",
    "pipeline.runs.run",
    "flows.frozen_imports",
]
STREAMS = ("stdin", "stdout", "stderr")


def start_fork_server() -> None:
    """Have the process import; others, Dask for one, then find it there. It ends with this one."""
    FORKING.set_forkserver_preload(IMPORTED)
    forkserver.ensure_running()


@contextmanager
def set_environment(**variables: str) -> Iterator[None]:
    """Set environment variables here and in Dask's workers that are started inside the context."""
    of_workers = {f"distributed.nanny.environ.{name}": value for name, value in variables.items()}
    with patch.dict(os.environ, variables), dask.config.set(of_workers):
        yield


def run_forked(*arguments: str, stdin: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``deltavlm ARGUMENTS`` to its end, and give what it said.

    Args:
        arguments: Of the command line.
        stdin: What it reads there.
        environment: All of its environment variables.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stdin").write_text(stdin)
        process = FORKING.Process(target=_be_command, args=(arguments, dict(environment), folder))
        process.start()
        process.join(2 * PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
        _, stdout, stderr = ((folder / stream).read_text() for stream in STREAMS)
    return subprocess.CompletedProcess(["deltavlm", *arguments], int(process.exitcode or 0), stdout, stderr)


def _be_command(arguments: tuple[str, ...], environment: dict[str, str], folder: Path) -> None:
    from flows.cli.main import main

    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(STREAMS):
        mode = "r" if number == 0 else "w"
        with (folder / stream).open(mode) as file:
            os.dup2(file.fileno(), number)
        setattr(sys, stream, os.fdopen(number, mode, closefd=False))
    sys.argv = ["deltavlm", *arguments]
    main()

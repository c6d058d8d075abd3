"""What is imported when: workers have all of it before they are there, a finished run next to nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
from importlib.util import find_spec

import pytest

from flows.fork_server import list_preloads
from flows.importing import import_undisturbed

HEAVY = {"dask", "distributed", "geopandas", "pandas", "scipy.ndimage", "scipy.spatial", "skimage.measure", "torch"}


def test_a_run_imports_what_only_work_needs_once_there_is_work() -> None:
    names = "import sys, flows.cli.main, pipeline.config.run; before = set(sys.modules); import pipeline.runs.run; "
    words = f"print(*sorted({HEAVY!r} & set(sys.modules)), *({{'httpx'}} & before))"

    told = subprocess.run([sys.executable, "-c", names + words], capture_output=True, text=True, check=True)

    assert told.stdout.split() == []


@pytest.mark.parametrize("has_weights", [False, True])
def test_what_workers_are_forked_from_imports_modules_that_there_are(has_weights: bool) -> None:
    preloads = list_preloads(has_weights=has_weights)

    assert all(find_spec(name) is not None for name in preloads)
    assert (preloads[0], preloads[-1]) == ("flows.waiting_collector", "flows.frozen_imports")
    assert ("model.answering" in preloads) == has_weights


def test_imports_keep_the_garbage_collector_waiting_and_no_longer() -> None:
    n_frozen = gc.get_freeze_count()
    try:
        with import_undisturbed():
            assert not gc.isenabled()

        assert gc.isenabled()
        assert gc.get_freeze_count() > n_frozen
    finally:
        gc.unfreeze()
        # As tests/conftest.py has it, for the sake of all tests that come after this one.
        gc.freeze()

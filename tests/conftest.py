"""What every test runs under: no network beyond this machine, no slow fixture in the unit tier."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

# Prefect reads its settings when it is first imported: an own database, and nothing told to anyone.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-home-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
# Several OpenMP pools on few cores are much slower than none.
os.environ["OMP_NUM_THREADS"] = "1"

# How fast a busy machine is, is no finding.
settings.register_profile("tests", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("tests")

ROOT = Path(__file__).parents[1]
UNIT_TIER = ROOT / "tests" / "unit"
PROCESS_TIERS = tuple(ROOT / "tests" / name for name in ("integration", "browser", "model"))
"""Where real processes are started, killed and waited for: what the machine does meanwhile is not ours to say."""
SLOW_FIXTURES = frozenset({"client", "prefect_home", "prefect_server", "run_command"})
"""Fixtures that start processes; a unit test that asks for one is refused."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        slow = SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if slow and item.path.is_relative_to(UNIT_TIER):
            raise pytest.UsageError(
                f"{item.nodeid} uses {', '.join(sorted(slow))}; unit tests start no processes: "
                "use plain values, or move it to tests/integration"
            )


def pytest_collection_finish() -> None:
    # What the tests have imported is no garbage, and need not be looked through after each of their modules.
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Refuse a unit tier that has loaded torch: that took two fifths of the time that it needs to begin."""
    if session.items and all(item.path.is_relative_to(UNIT_TIER) for item in session.items) and "torch" in sys.modules:
        raise pytest.UsageError(
            "unit tests have imported torch; see `python -X importtime`, or move them to tests/model"
        )


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="module", autouse=True)
def collect_garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have what a module left open complain there, and not in whatever test runs when Python finds it."""
    yield
    if any(request.path.is_relative_to(tier) for tier in PROCESS_TIERS):
        gc.collect()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real scenes and reference tensors that lies beside the repository, not in it."""
    folder = Path(os.environ.get("DELTAVLM_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real scenes at {folder}; set DELTAVLM_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def prefect_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a Prefect server after its first start, to be copied; kept with pytest's cache, if there is one."""
    from prefect_processes import provide_home

    cache = getattr(request.config, "cache", None)
    return provide_home(tmp_path_factory.mktemp("prefect-home") if cache is None else cache.mkdir("prefect"))

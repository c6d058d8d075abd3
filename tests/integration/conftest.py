"""Real workers, and the command in a process of its own."""

from __future__ import annotations

import logging
import pickle
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import dask
import pytest
from distributed import Client
from fork_server import run_forked, start_fork_server
from made_scenes import command_environment
from qgis_drawing import DrawWithQgis, draw_with, find_qgis

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.regions import report as region_report
from pipeline.report import write as run_report
from pipeline.report.plot_figures import Shown
from pipeline.report.plots import draw_plots
from pipeline.runs.run import OpenCluster

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """Have Dask's workers, as the command, forked from a process that has imported what they need."""
    start_fork_server()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture(scope="session", autouse=True)
def plots_drawn_once() -> Iterator[None]:
    """Have a plot of equal figures drawn once: it is equal to the byte, and most of the time of a small report."""
    drawn: dict[bytes, dict[str, bytes]] = {}

    def draw(figures: Mapping[str, Shown]) -> dict[str, bytes]:
        keys = {name: pickle.dumps((name, shown)) for name, shown in figures.items()}
        drawn.update({key: draw_plots({name: figures[name]}) for name, key in keys.items() if key not in drawn})
        return {name: drawn[key][name] for name, key in keys.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "draw_plots", draw)
        patch.setattr(region_report, "draw_plots", draw)
        yield


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two workers, shared by all tests that do no harm to them, and without TLS found by their address alone."""
    with open_cluster(ClusterConfig(n_workers=2, allow_unencrypted=True)) as client:
        # Dask silences all handlers that it finds for as long as a cluster lives, those of caplog among them.
        for handler in {*logging.getLogger("distributed").handlers, *logging.getLogger().handlers}:
            handler.setLevel(logging.NOTSET)
        yield client


@pytest.fixture(scope="session")
def shared_cluster(client: Client) -> OpenCluster:
    """Give the shared workers to what wants to open a cluster."""
    return partial(open_cluster, ClusterConfig(kind="address", address=client.scheduler.address))


@pytest.fixture
def run_command() -> RunCommand:
    """Run ``deltavlm`` as a person would, in a process of its own that knows the stand-in model."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return run_forked(*arguments, stdin=stdin, environment=command_environment(**environment))

    return run


@pytest.fixture(scope="session")
def draw_with_qgis() -> DrawWithQgis:
    """Draw with the QGIS of this machine."""
    python = find_qgis()
    if python is None:
        pytest.skip("QGIS is not installed; on Debian: apt-get install python3-qgis")
    return partial(draw_with, python)

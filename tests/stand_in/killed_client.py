"""A client to be killed: it runs on workers that are there already and so outlive it."""

from __future__ import annotations

import multiprocessing
from functools import partial
from multiprocessing.context import ForkServerContext

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import RunConfig
from pipeline.runs.run import detect_changes


def run_client(config: RunConfig, scheduler: str) -> None:
    """Run to the end, if it comes to that."""
    cluster = ClusterConfig(kind="address", address=scheduler)
    detect_changes(config, open_cluster=partial(open_cluster, cluster))


def make_context() -> ForkServerContext:
    """Give a way to start clients that need not wait for their imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context

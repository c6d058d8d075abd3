"""A client to be killed: it runs on workers that are there already and so outlive it."""

from __future__ import annotations

from functools import partial

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import RunConfig
from pipeline.runs.run import detect_changes


def run_client(config: RunConfig, scheduler: str) -> None:
    """Run to the end, if it comes to that."""
    cluster = ClusterConfig(kind="address", address=scheduler)
    detect_changes(config, open_cluster=partial(open_cluster, cluster))

"""Clients to be killed: they run on workers that are there already and so outlive them."""

from __future__ import annotations

import datetime as dt
from functools import partial

from region_passes import make_pass

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig
from pipeline.config.region import RegionConfig
from pipeline.config.run import RunConfig
from pipeline.runs.run import detect_changes


def run_client(config: RunConfig, scheduler: str) -> None:
    """Run to the end, if it comes to that."""
    cluster = ClusterConfig(kind="address", address=scheduler)
    detect_changes(config, open_cluster=partial(open_cluster, cluster))


def make_pass_client(config: RegionConfig, now: dt.datetime, scheduler: str) -> None:
    """Make a pass over a region to the end, if it comes to that."""
    cluster = ClusterConfig(kind="address", address=scheduler)
    make_pass(config, now=now, run_pair=partial(detect_changes, open_cluster=partial(open_cluster, cluster)))

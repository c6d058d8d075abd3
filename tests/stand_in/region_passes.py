"""A pass over a region as `deltavlm monitor` makes it, at a time of the test's choice and on workers that are there."""

from __future__ import annotations

import datetime as dt

from flows.region_pass import RunPair, run_pairs
from pipeline.config.region import RegionConfig
from pipeline.regions.region import Region, RegionReport


def make_pass(config: RegionConfig, *, now: dt.datetime, run_pair: RunPair) -> RegionReport:
    """Make one pass.

    Args:
        config: The region.
        now: When it is.
        run_pair: Runs a pair.
    """
    with Region.prepare(config) as region:
        plan = region.plan(now)
        run_pairs(region, plan.to_do, run_pair=run_pair)
        return region.merge(plan, now=now)

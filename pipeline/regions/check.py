"""What is wrong with a region's config, before a pass over it looks for scenes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.region import load_region_config
from pipeline.config.scene import SceneConfig
from pipeline.polygons.zones import read_excluded
from pipeline.regions.forecast import forecast_pass
from pipeline.runs.check import ClusterCheck, Facts
from pipeline.runs.inputs import list_checks

_OWN_KEYS = {"source", "pairing"}


def is_region_config(path: str | Path) -> bool:
    """Tell whether a YAML file says where the scenes of a region come from, as no run's does."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and bool(_OWN_KEYS & set(tree))


def check_region(
    path: str | Path,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    check_cluster: ClusterCheck | None = None,
) -> Facts:
    """Check the settings of a region, its workers, model, area, zones and exclusions; tell what the next pass would do.

    Where anything is wrong, no scenes are looked for. Nothing is written.

    Args:
        path: YAML file with the keys of `RegionConfig`.
        values: Keys on top of the file; None values are left out.
        assignments: ``key=value`` settings on top.
        check_cluster: What raises InputError where the workers asked for cannot be had; starts none.

    Raises:
        InputError: a key or value does not fit.
    """
    region = load_region_config(path, values=values, assignments=assignments)
    facts = Facts(
        figures={
            "region": region.name,
            "source": region.source.kind,
            "pairing": region.pairing.kind,
            "output": region.output,
            "schedule": region.schedule.cron if region.schedule is not None else "none",
        }
    )
    pair = region.make_run_config(
        before=SceneConfig(uri="before"), after=SceneConfig(uri="after"), output=region.output
    )
    for setting, check in list_checks(pair).items():
        # The folder of a region holds other files than that of a run.
        if setting != "output":
            with facts.gather_problems():
                check()
    if region.exclude is not None:
        with facts.gather_problems():
            read_excluded(region.exclude)
    if check_cluster is not None:
        with facts.gather_problems():
            check_cluster(region.cluster)
    if not facts.problems:
        with facts.gather_problems():
            facts.figures |= forecast_pass(region, now=dt.datetime.now(dt.UTC))
    return facts

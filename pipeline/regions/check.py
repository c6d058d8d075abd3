"""What is wrong with a region's config, before a pass over it looks for scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.region import load_region_config
from pipeline.config.scene import SceneConfig
from pipeline.polygons.zones import read_excluded
from pipeline.runs.check import Facts
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
    path: str | Path, *, values: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Facts:
    """Check the settings of a region, its model, its area, zones and what it excludes; reads no scenes, writes nothing.

    Args:
        path: YAML file with the keys of `RegionConfig`.
        values: Keys on top of the file; None values are left out.
        assignments: ``key=value`` settings on top.

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
    return facts

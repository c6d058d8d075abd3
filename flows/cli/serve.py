"""The command ``deltavlm serve``: Prefect deployments with their schedules, run by this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.config.region import RegionConfig


def serve_command(
    configs: Annotated[
        list[Path] | None, typer.Argument(metavar="REGION ...", help="YAML files of the regions to watch.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Most runs at the same time; further ones wait.")] = 1,
    silence_s: Annotated[
        float,
        typer.Option(
            min=10, metavar="SECONDS", help="A run that has not been heard of for so long is marked as crashed."
        ),
    ] = 540.0,
    automations_only: Annotated[
        bool, typer.Option("--automations-only", help="Only set up the automations of the server: for work pools.")
    ] = False,
) -> None:
    """Run Prefect deployments on this machine: passes over regions on their schedules, and single runs.

    The flows are `monitor-region`, once for each region, and `detect-changes`. PREFECT_API_URL names the server. Ctrl-C
    ends the command; schedules are paused until it runs again.
    """
    regions = _load_regions(configs or ())
    from flows.automations import ensure_automations
    from flows.deployments import make_region_deployment, make_run_deployment, plan_automations
    from flows.prefect_server import check_server

    check_server()
    for name in ensure_automations(plan_automations(regions, silence_s=silence_s)):
        typer.echo(f"Automation: {name}", err=True)
    if automations_only:
        return
    from prefect import serve

    serve(make_run_deployment(), *(make_region_deployment(region) for region in regions), limit=limit)


def _load_regions(paths: Sequence[Path]) -> list[RegionConfig]:
    from model.errors import InputError
    from pipeline.config.region import load_region_config

    regions = [load_region_config(path) for path in paths]
    names = [region.name for region in regions]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"more than one region is called {', '.join(doubled)}",
            expected="a name for each, as its deployment is called after it",
            remedy="change name in one of the files",
        )
    return regions

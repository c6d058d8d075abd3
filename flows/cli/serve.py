"""The command ``deltavlm serve``: Prefect deployments with their schedules, run by this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from pipeline.config.region import RegionConfig

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    allow: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file of what a run from a form may name (docs/deploy.md).",
        ),
    ] = None,
    automations_only: Annotated[
        bool, typer.Option("--automations-only", help="Only set up the automations of the server: for work pools.")
    ] = False,
) -> None:
    """Run Prefect deployments on this machine: passes over regions on their schedules, and single runs.

    The flows are `monitor-region`, once for each region, and `detect-changes`. PREFECT_API_URL names the server. Passes
    are made over these regions as their files say, and a single run may name what --allow lists; whatever else the
    server is told is refused. Ctrl-C ends the command; schedules are paused until it runs again.
    """
    regions = _load_regions(configs or ())
    from flows.automations import ensure_automations
    from flows.deployments import make_region_deployment, make_run_deployment, plan_automations
    from flows.permissions import VARIABLE, load_permissions
    from flows.prefect_server import check_server

    permissions = load_permissions(allow)
    _warn_of_open_server(check_server())
    made = _take_sound(
        regions,
        lambda region: (region, make_region_deployment(region), plan_automations([region], silence_s=silence_s)),
    )
    automations = [*plan_automations([], silence_s=silence_s), *(each for _, _, planned in made for each in planned)]
    for name in ensure_automations({each.name: each for each in automations}.values()):
        typer.echo(f"Automation: {name}", err=True)
    if automations_only:
        return
    from prefect import serve

    # Runs are processes of their own, which inherit it.
    permissions = permissions.model_copy(update={"regions": (*permissions.regions, *(region for region, _, _ in made))})
    os.environ[VARIABLE] = permissions.model_dump_json(exclude_unset=True)
    serve(make_run_deployment(), *(deployment for _, deployment, _ in made), limit=limit)


def _warn_of_open_server(address: str) -> None:
    from flows.prefect_server import describe_exposure

    if exposure := describe_exposure(address):
        _warn(f"{exposure}; set PREFECT_SERVER_API_AUTH_STRING, and the rest of docs/deploy.md, One machine.")


def _load_regions(paths: Sequence[Path]) -> list[RegionConfig]:
    from model.errors import InputError
    from pipeline.config.region import load_region_config

    regions = _take_sound(paths, load_region_config)
    names = [region.name for region in regions]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"more than one region is called {', '.join(doubled)}",
            expected="a name for each, as its deployment is called after it",
            remedy="change name in one of the files",
        )
    return regions


def _take_sound(items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """Do something for each region; one that is wrong is told of, and keeps no other back.

    Raises:
        InputError: all of them are wrong.
    """
    from model.errors import InputError

    results, problems = [], []
    for item in items:
        try:
            results.append(work(item))
        except InputError as problem:
            problems.append(problem)
    if problems and not results:
        raise problems[0]
    for each in problems:
        _warn(f"a region is not served: {each}")
    return results


def _warn(text: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"Warning: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)

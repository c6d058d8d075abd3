"""The command ``deltavlm check``: what is wrong with a run before it starts, or with the files of a finished one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    AreaFile,
    Assignments,
    AssumedCrs,
    ConfigFile,
    JsonFlag,
    ModelName,
    ZonesFile,
    gather_values,
)

if TYPE_CHECKING:
    from model.errors import InputError
    from pipeline.runs.check import Facts

COMPLETE, WRONG_INPUT = 0, 2
CONFIG_SUFFIXES = (".yaml", ".yml")


def check_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BEFORE AFTER|CONFIG|RUN",
            show_default=False,
            help="Two scenes, the YAML file of a run or of a region, or a run's folder.",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="RUN", help="Folder for the results; can be left out.")
    ] = None,
    config: ConfigFile = None,
    aoi: AreaFile = None,
    zones: ZonesFile = None,
    model: ModelName = None,
    assume_crs: AssumedCrs = None,
    assignments: Assignments = None,
    is_json: JsonFlag = False,
) -> None:
    """Check a run before it starts, with the options of `run`, or look at a finished one.

    It tells how large a run would be and everything that is wrong with it, or what a run's folder holds and whether its
    files are whole. Nothing is written.
    """
    from flows.cli.console import make_console, print_result, show_facts
    from flows.cli.work import show_work

    values = {"output": output, "aoi": aoi, "zones": zones, "model": model, "assume_crs": assume_crs}
    console = make_console()
    with show_work(console, "Check"):
        facts = _check(words or [], config=config, values=values, assignments=assignments or ())
    show_facts(console, facts)
    print_result(facts.to_dict(), is_json=is_json)
    raise typer.Exit(WRONG_INPUT if facts.problems else COMPLETE)


def _check(
    words: Sequence[str], *, config: Path | None, values: dict[str, str | None], assignments: Sequence[str]
) -> Facts:
    """Find out which of its forms `deltavlm check` was given, and check that."""
    from flows.cluster import check_cluster
    from pipeline.regions.check import check_region, is_region_config
    from pipeline.runs.check import check_config, check_run
    from pipeline.uris import is_remote

    if len(words) > 2 or not (words or config):
        raise _refuse(f"{len(words)} words: {' '.join(words)}" if words else "nothing to check")
    before, after = [*words, None, None][:2]
    if before is not None and after is None:
        if is_remote(before) or Path(before).is_dir():
            if config is not None or assignments or any(values.values()):
                raise _refuse(f"{before}, a run's folder, with options of a run that has not started")
            return check_run(before)
        if not Path(before).exists():
            raise _refuse(f"{before} is not there")
        if config is None and _holds_config(Path(before)):
            config, before = Path(before), None
    given = gather_values(before=before, after=after, **values)
    if config is not None and is_region_config(config):
        return check_region(config, values=given, assignments=assignments, check_cluster=check_cluster)
    return check_config(config, values=given, assignments=assignments, check_cluster=check_cluster)


def _holds_config(path: Path) -> bool:
    """Tell whether a file is that of a config: YAML, or JSON that is none of STAC's."""
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in CONFIG_SUFFIXES
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "type" not in content and "stac_version" not in content


def _refuse(found: str) -> InputError:
    from model.errors import InputError

    return InputError(
        found,
        expected="two scenes, a YAML file, or a run's folder alone",
        remedy="type for example: deltavlm check before.tif after.tif --output runs/mine",
    )

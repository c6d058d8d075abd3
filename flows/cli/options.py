"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the result as a line of JSON in a terminal, too; pipes always get it.")
]

Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting of configs/default.yaml, such as grid.resolution_m=1. Can be repeated.",
    ),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file with settings; options on the command line win."),
]
AreaFile = Annotated[
    str | None,
    typer.Option("--aoi", metavar="FILE", help="Polygons of the area of interest; tiles outside it are skipped."),
]
ZonesFile = Annotated[
    str | None, typer.Option("--zones", metavar="FILE", help="Polygons to sum the changes over, such as districts.")
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Name of a model, its folder, or openai:URL#NAME. Default: deltavlm-tiny."
    ),
]
RunModelName = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Name of a model, its folder, or openai:URL#NAME. Default: the run's model."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
RunDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="auto, float32, bfloat16 or int8 (model.quantize). Default: the run's, so that answers agree with it.",
    ),
]
AssumedCrs = Annotated[
    str | None,
    typer.Option("--assume-crs", metavar="CRS", help="CRS of scenes whose files have none, such as EPSG:32614."),
]


def gather_values(
    *, before: str | None, after: str | None, model: str | None, assume_crs: str | None, **others: str | None
) -> dict[str, Any]:
    """Give what stands on the command line as keys of a run's config."""
    return {
        "before": _describe_scene(before, assume_crs=assume_crs),
        "after": _describe_scene(after, assume_crs=assume_crs),
        "model": {"name": model} if model is not None else None,
        **others,
    }


def _describe_scene(uri: str | None, *, assume_crs: str | None) -> dict[str, str] | None:
    given = {"uri": uri, "assume_crs": assume_crs}
    return {key: value for key, value in given.items() if value is not None} or None

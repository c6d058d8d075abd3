"""The commands under ``deltavlm model``: convert the original's, look at a model, train one, measure one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.calibrate_command import calibrate_command
from flows.convert_command import convert_command
from flows.evaluate_command import evaluate_command
from flows.train_command import train_command

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(help="Convert, look at, train and evaluate models.", no_args_is_help=True)
app.command("calibrate")(calibrate_command)
app.command("convert")(convert_command)
app.command("evaluate")(evaluate_command)
app.command("train")(train_command)


@app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")] = "deltavlm-tiny",
) -> None:
    """Say which weights these are and how large their parts."""
    from flows.progress import make_console
    from model.inspection import inspect_model
    from model.interface import ENDPOINT_PREFIX
    from pipeline.errors import InputError
    from pipeline.run import identify_named_model

    if name.startswith(ENDPOINT_PREFIX):
        raise InputError(
            f"{name}: weights on a server", expected="weights that are here", remedy="ask whoever runs the server"
        )
    identity = identify_named_model(name)
    facts: dict[str, Any] = {
        "model_id": identity.model_id,
        "weight_hash": identity.weight_hash,
        "path": identity.path,
        **call_with_clear_errors(inspect_model, Path(identity.path)),
    }
    console = make_console()
    console.print_json(data=facts)
    show_warnings(console, facts["warnings"])
    typer.echo(json.dumps(facts))


def show_warnings(console: Console, warnings: list[str]) -> None:
    """Print what people should know before they trust a model's answers."""
    for warning in warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False)


def call_with_clear_errors(function: Any, *arguments: Any, **named: Any) -> Any:
    """Call a function of `model`, which knows no `InputError`, and give its errors about the input that form."""
    from pydantic import ValidationError
    from yaml import YAMLError

    from pipeline.errors import InputError

    try:
        return function(*arguments, **named)
    except ValidationError as problem:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors()]
        raise InputError(
            "; ".join(lines), expected="the keys of the configs that ship", remedy="correct the named keys"
        ) from None
    except (OSError, ValueError, YAMLError) as problem:
        raise InputError.from_message(
            problem, expected="the files and values that --help speaks of", remedy="correct the options"
        ) from None

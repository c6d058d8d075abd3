"""The commands under ``deltavlm model``: convert the original's, look at a model, train one, measure one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.convert_command import convert_command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

app = typer.Typer(help="Convert, look at, train and evaluate models.", no_args_is_help=True)
app.command("convert")(convert_command)


@app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")] = "deltavlm-tiny",
) -> None:
    """Say which weights these are and how large their parts."""
    from flows.progress import make_console
    from model.inspection import inspect_model
    from pipeline.run import identify_named_model

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


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(help="YAML file such as configs/train-tiny.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model to be.")],
    data: Annotated[Path, typer.Option(help="Folder that the config's sources are in.")] = Path(),
    trunk_weights: Annotated[Path | None, typer.Option(help="Pretrained trunk, over the one of the config.")] = None,
    initial_weights: Annotated[Path | None, typer.Option(help="Model to go on from, over the config's.")] = None,
) -> None:
    """Train a small model on pairs with masks, or the mask branch of one where the config says kind: mask."""
    from model.training.masks import train_masks
    from model.training.recipe import MaskTrainingConfig, load_training_config
    from model.training.trainer import train

    settings = call_with_clear_errors(load_training_config, config)
    given = {"trunk_weights": trunk_weights, "initial_weights": initial_weights}
    named = {name: str(path) for name, path in given.items() if path is not None}
    settings = call_with_clear_errors(type(settings).model_validate, settings.model_dump() | named)
    start = train_masks if isinstance(settings, MaskTrainingConfig) else train
    folder = call_with_clear_errors(start, settings, output=output, data_root=data)
    typer.echo(json.dumps({"model": str(folder)}))


@app.command("evaluate")
def evaluate_command(
    data: Annotated[Path, typer.Option(help="Folder with A/, B/ and label/.")],
    model: Annotated[str, typer.Option(help="Name of a model, or its folder.")] = "deltavlm-tiny",
    pattern: Annotated[str, typer.Option(help="Which pairs, by their stem.")] = "*",
    tile_size_px: Annotated[
        int | None, typer.Option(min=16, help="Cut the pairs into tiles of this side; left out, they are tiles.")
    ] = None,
) -> None:
    """Measure a model's text answers, and its masks if it has some, against true masks."""
    from flows.progress import make_console
    from model.interface import load_model
    from model.training.evaluation import evaluate
    from model.training.pairs import cut_tiles, read_pair_folder
    from pipeline.config import load_default_prompts

    pairs = call_with_clear_errors(read_pair_folder, data, pattern=pattern)
    tiles = [tile for pair in pairs for tile in cut_tiles(pair, size_px=tile_size_px or min(pair.mask.shape))]
    prompts = [prompt.to_prompt() for prompt in load_default_prompts()]
    loaded = call_with_clear_errors(load_model, model)
    figures = call_with_clear_errors(evaluate, loaded, tiles, prompts=prompts).to_dict()
    make_console().print(make_table(figures))
    typer.echo(json.dumps({"model_id": loaded.identity.model_id, **figures}))


def show_warnings(console: Console, warnings: list[str]) -> None:
    """Print what people should know before they trust a model's answers."""
    for warning in warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False)


def make_table(figures: dict[str, Any]) -> Table:
    """Lay the figures of an evaluation out, a row each; those of a kind of object under its name."""
    from rich.table import Table

    table = Table("figure", "value", title="Answers and masks against the truth")
    for name, value in flatten_figures(figures):
        table.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    return table


def flatten_figures(figures: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give each figure with the names it stands under, outermost first."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from ((f"{name} {part}", number) for part, number in flatten_figures(value))
        else:
            yield name, value


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
            "; ".join(lines), expected="the keys of configs/train-tiny.yaml", remedy="correct the named keys"
        ) from None
    except (OSError, ValueError, YAMLError) as problem:
        if parts := re.fullmatch(r"(.+?); expected (.+); (.+)", str(problem), re.DOTALL):
            raise InputError(parts[1], expected=parts[2], remedy=parts[3]) from None
        raise InputError(
            str(problem), expected="the files and values that --help speaks of", remedy="correct the options"
        ) from None

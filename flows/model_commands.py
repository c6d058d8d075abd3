"""The commands under ``deltavlm model``: look at a model, train one, measure one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Look at, train and evaluate models.", no_args_is_help=True)


@app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")] = "deltavlm-tiny",
) -> None:
    """Say which weights these are and how large their parts."""
    from flows.progress import make_console
    from pipeline.run import identify_named_model

    identity = identify_named_model(name)
    weights = Path(identity.path) / "model.safetensors"
    facts: dict[str, Any] = {
        "model_id": identity.model_id,
        "weight_hash": identity.weight_hash,
        "path": identity.path,
        "bytes": weights.stat().st_size if weights.is_file() else None,
        "parameters": count_parameters(weights) if weights.is_file() else None,
    }
    make_console().print_json(data=facts)
    typer.echo(json.dumps(facts))


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(help="YAML file such as configs/train-tiny.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model to be.")],
    data: Annotated[Path, typer.Option(help="Folder that the config's sources are in.")] = Path(),
    trunk_weights: Annotated[Path | None, typer.Option(help="Pretrained trunk, over the one of the config.")] = None,
    initial_weights: Annotated[Path | None, typer.Option(help="Model to go on from, over the config's.")] = None,
) -> None:
    """Train a small model on pairs with masks."""
    from model.training.recipe import load_training_config
    from model.training.trainer import train

    settings = call_with_clear_errors(load_training_config, config)
    given = {"trunk_weights": trunk_weights, "initial_weights": initial_weights}
    settings = settings.model_copy(update={name: str(path) for name, path in given.items() if path is not None})
    folder = call_with_clear_errors(train, settings, output=output, data_root=data)
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
    """Measure a model's text answers against masks."""
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


def count_parameters(weights: Path) -> dict[str, int]:
    """Count the parameters of each part of a model from the header of its weights; loads none of them."""
    from collections import Counter
    from math import prod

    from safetensors import safe_open

    counts: Counter[str] = Counter()
    with safe_open(weights, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - this is no mapping
            counts[name.split(".")[0]] += prod(tensors.get_slice(name).get_shape())
    return dict(counts)


def make_table(figures: dict[str, Any]) -> Table:
    """Lay the figures of an evaluation out, a row each; those of a kind of object under its name."""
    from rich.table import Table

    table = Table("figure", "value", title="Text answers against masks")
    for name, value in figures.items():
        nested = value if isinstance(value, dict) else {"": value}
        for part, number in nested.items():
            shown = f"{number:.4f}" if isinstance(number, float) else str(number)
            table.add_row(f"{name} {part}".strip().replace("_", " "), shown)
    return table


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
        raise InputError(
            str(problem), expected="the files and values that --help speaks of", remedy="correct the options"
        ) from None

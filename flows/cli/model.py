"""The commands under ``deltavlm model``: convert the original's files, and look at a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.evaluate import calibrate_command, evaluate_command
from flows.cli.train import train_command

VISION_LAYERS = 39
"""Blocks of EVA ViT-g that the original uses; stands here so that ``--help`` need not load torch."""


def convert_command(
    checkpoint: Annotated[
        str, typer.Argument(help="The original's checkpoint_best.pth, or a full state dict of it (.pth, .safetensors).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model to be.")],
    vision: Annotated[str | None, typer.Option(help="eva_vit_g.pth, unless the checkpoint holds all of it.")] = None,
    language_model: Annotated[
        str | None,
        typer.Option(help="Folder of Vicuna-7B; config and tokenizer are enough where the checkpoint has its weights."),
    ] = None,
    qformer_tokenizer: Annotated[
        str, typer.Option(help="Folder or vocab.txt of the Q-Former's vocabulary.")
    ] = "bert-base-uncased",
    mask_checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint of the mask branch alone, to go with the other one.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; left out, each tensor keeps its own.")
    ] = None,
    vision_layers: Annotated[
        int, typer.Option(min=1, help="Blocks to use of the vision file, as far as it has them.")
    ] = VISION_LAYERS,
    vision_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads of the vision tower; left out, one per 88 of its width.")
    ] = None,
    qformer_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads of the Q-Former; left out, one per 64 of its width.")
    ] = None,
    max_text_tokens: Annotated[int, typer.Option(min=1, help="Longest prompt that the Q-Former reads.")] = 128,
    mask_size_px: Annotated[int, typer.Option(min=1, help="Side of the masks, where there is a mask branch.")] = 256,
) -> None:
    """Convert the original's weights. Inputs are paths, or with a network owner/name or owner/name:file of the hub."""
    from flows.cli.console import make_console, show_warnings
    from model.conversion.converting import convert_model
    from model.conversion.inputs import ConversionSettings
    from model.inspection import inspect_model

    settings = ConversionSettings(
        checkpoint=checkpoint,
        vision=vision,
        language_model=language_model,
        qformer_tokenizer=qformer_tokenizer,
        mask_checkpoint=mask_checkpoint,
        dtype=dtype,
        vision_layers=vision_layers,
        vision_heads=vision_heads,
        qformer_heads=qformer_heads,
        max_text_tokens=max_text_tokens,
        mask_size_px=mask_size_px,
    )
    console = make_console()
    with console.status("Reading names and shapes") as status:
        made = convert_model(
            settings,
            output=output,
            on_progress=lambda done, total: status.update(f"Written {done} of {total} files of weights"),
        )
    console.print_json(data=made)
    warnings = inspect_model(output)["warnings"]
    show_warnings(console, warnings)
    typer.echo(json.dumps({"model": str(output), **made, "warnings": warnings}))


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
    from flows.cli.console import make_console, show_warnings
    from model.errors import InputError
    from model.inspection import inspect_model
    from model.interface import ENDPOINT_PREFIX
    from model.registry import identify_named_model

    if name.startswith(ENDPOINT_PREFIX):
        raise InputError(
            f"{name}: weights on a server", expected="weights that are here", remedy="ask whoever runs the server"
        )
    identity = identify_named_model(name)
    facts: dict[str, Any] = {
        "model_id": identity.model_id,
        "weight_hash": identity.weight_hash,
        "path": identity.path,
        **inspect_model(Path(identity.path)),
    }
    console = make_console()
    console.print_json(data=facts)
    show_warnings(console, facts["warnings"])
    typer.echo(json.dumps(facts))

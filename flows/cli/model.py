"""The commands under ``deltavlm model``: convert the original's files, and look at a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.calibrate import calibrate_command
from flows.cli.evaluate import evaluate_command
from flows.cli.help import add_command, make_app
from flows.cli.options import JsonFlag
from flows.cli.train import train_command
from model.safe_text import clean_values

VISION_LAYERS = 39
"""Blocks of EVA ViT-g that the original uses; stands here so that ``--help`` need not load torch."""


def convert_command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="DeltaVLM's checkpoint_best.pth, or a full state dict of the model (.pth or .safetensors).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the converted model.")],
    vision: Annotated[
        str | None, typer.Option(metavar="FILE", help="eva_vit_g.pth, unless the checkpoint has all of its weights.")
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of Vicuna-7B; config and tokenizer are enough where the checkpoint has its weights.",
        ),
    ] = None,
    qformer_tokenizer: Annotated[
        str, typer.Option(metavar="PATH", help="Folder or vocab.txt of the Q-Former's vocabulary.")
    ] = "bert-base-uncased",
    mask_checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="Separate checkpoint of the mask branch.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="DTYPE", help="float32, bfloat16 or float16. Default: as each tensor is stored."),
    ] = None,
    vision_layers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Blocks of the vision tower to use.")
    ] = VISION_LAYERS,
    vision_heads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Attention heads of the vision tower. Default: its width divided by 88."),
    ] = None,
    qformer_heads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Attention heads of the Q-Former. Default: its width divided by 64."),
    ] = None,
    max_text_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Longest prompt that the Q-Former reads.")
    ] = 128,
    mask_size_px: Annotated[
        int, typer.Option(min=1, metavar="N", help="Side of the masks, where there is a mask branch.")
    ] = 256,
    is_json: JsonFlag = False,
) -> None:
    """Convert DeltaVLM's published weights into a model folder.

    Inputs are local paths, or owner/name and owner/name:file on the Hugging Face hub.
    """
    from functools import partial

    from flows.cli.console import make_console, print_result, show_warnings
    from flows.cli.work import show_work
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
    with show_work(console, "Read names and shapes") as tell:
        made = convert_model(settings, output=output, on_progress=partial(tell, title="Write files of weights"))
    console.print_json(data=clean_values(made))
    with show_work(console, "Look at the weights"):
        warnings = inspect_model(output)["warnings"]
    show_warnings(console, warnings)
    print_result({"model": str(output), **made, "warnings": warnings}, is_json=is_json)


def info_command(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a model, or its folder. Default: deltavlm-tiny.")
    ] = "deltavlm-tiny",
    is_json: JsonFlag = False,
) -> None:
    """Show a model's identity, the size of its parts and warnings about its weights."""
    from flows.cli.console import make_console, print_result, show_warnings
    from flows.cli.work import show_work
    from model.errors import InputError
    from model.inspection import inspect_model
    from model.interface import ENDPOINT_PREFIX
    from model.registry import identify_named_model

    if name.startswith(ENDPOINT_PREFIX):
        raise InputError(
            f"{name}: weights on a server", expected="weights that are here", remedy="ask whoever runs the server"
        )
    console = make_console()
    with show_work(console, f"Read the weights of {name}"):
        identity = identify_named_model(name)
        facts: dict[str, Any] = {
            "model_id": identity.model_id,
            "weight_hash": identity.weight_hash,
            "path": identity.path,
            **inspect_model(Path(identity.path)),
        }
    console.print_json(data=clean_values(facts))
    show_warnings(console, facts["warnings"])
    print_result(facts, is_json=is_json)


app = make_app("Inspect, train, evaluate, calibrate and convert models.")
add_command(app, "info", info_command, example="deltavlm model info deltavlm-tiny")
add_command(
    app,
    "train",
    train_command,
    example="deltavlm model train configs/fine-tune.yaml \\\n  --data LEVIR-MCI --output models/mine\n"
    "torchrun --no-python --nproc-per-node 8 \\\n  deltavlm model train ...",
)
add_command(
    app,
    "evaluate",
    evaluate_command,
    example="deltavlm model evaluate --model models/mine \\\n  --data LEVIR-MCI --output evaluations/mine",
)
add_command(app, "calibrate", calibrate_command, example="deltavlm model calibrate models/mine \\\n  --data LEVIR-MCI")
add_command(
    app,
    "convert",
    convert_command,
    example="deltavlm model convert checkpoint_best.pth \\\n  --vision eva_vit_g.pth \\\n"
    "  --language-model vicuna-7b-v1.5 \\\n  --output models/deltavlm",
)

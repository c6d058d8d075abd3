"""The command ``deltavlm model calibrate``: pairs that a model did not learn from in, honest confidences out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="Folder of the model; its generation_config.json is written.")],
    data: Annotated[Path, typer.Option(help="Folder with A/, B/ and label/, of pairs that it did not learn from.")],
    pattern: Annotated[
        list[str] | None, typer.Option(help="Which pairs, by their stem, may be given again; left out, all.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which split; left out, all.")] = None,
    tile_size_px: Annotated[
        list[int] | None,
        typer.Option(min=16, help="Cut pairs into tiles of this side, one per --pattern; left out, they are tiles."),
    ] = None,
) -> None:
    """Fit a model's yes or no, so that it says yes when that is likelier, and 0.9 is right nine times in ten."""
    from flows.evaluate_command import ask_yes_or_no
    from flows.model_commands import call_with_clear_errors
    from flows.progress import make_console
    from model.evaluation.calibrating import check_calibratable, store_scaling
    from model.evaluation.evaluation import select_cases
    from model.interface import PromptKind, load_model
    from pipeline.errors import InputError

    patterns = pattern or ["*"]
    sizes: list[int | None] = [*tile_size_px] if tile_size_px else [None] * len(patterns)
    if len(sizes) != len(patterns):
        raise InputError(
            f"{len(sizes)} times --tile-size-px and {len(patterns)} times --pattern",
            expected="one size for each pattern",
            remedy="give as many of the one as of the other",
        )
    console = make_console()
    folder = call_with_clear_errors(check_calibratable, str(model))
    loaded = call_with_clear_errors(load_model, str(folder))
    answered = []
    for one, size_px in zip(patterns, sizes, strict=True):
        evaluation = call_with_clear_errors(
            ask_yes_or_no, loaded, data, pattern=one, split=split, tile_size_px=size_px, console=console
        )
        answered += select_cases(evaluation.tiles, PromptKind.CLASSIFY)
    calibration = call_with_clear_errors(store_scaling, folder, answered)
    console.print(
        f"Temperature {calibration.confidence_temperature} (was {calibration.former_temperature}), bias towards yes "
        f"{calibration.yes_bias} (was {calibration.former_bias}), fitted to {calibration.n_answers} answers of which "
        f"{calibration.former_accuracy:.4f} were right, with a calibration error of {calibration.former_ece:.4f}."
    )
    typer.echo(json.dumps(calibration.to_dict()))

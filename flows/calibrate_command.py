"""The command ``deltavlm model calibrate``: pairs that a model did not learn from in, honest confidences out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="Folder of the model; its generation_config.json is written.")],
    data: Annotated[Path, typer.Option(help="Folder with A/, B/ and label/, of pairs that it did not learn from.")],
    pattern: Annotated[str, typer.Option(help="Which pairs, by their stem.")] = "*",
    split: Annotated[str | None, typer.Option(help="Which split; left out, all.")] = None,
    tile_size_px: Annotated[
        int | None, typer.Option(min=16, help="Cut the pairs into tiles of this side; left out, they are tiles.")
    ] = None,
) -> None:
    """Fit the temperature of a model's yes or no, so that a confidence of 0.9 is right nine times in ten."""
    from flows.evaluate_command import evaluate_folder
    from flows.model_commands import call_with_clear_errors
    from flows.progress import make_console
    from model.evaluation.calibrating import check_calibratable, store_temperature

    console = make_console()
    folder = call_with_clear_errors(check_calibratable, str(model))
    evaluation = call_with_clear_errors(
        evaluate_folder,
        str(folder),
        data,
        pattern=pattern,
        split=split,
        tile_size_px=tile_size_px,
        console=console,
    )
    calibration = call_with_clear_errors(store_temperature, folder, evaluation)
    console.print(
        f"Temperature {calibration.temperature} (was {calibration.former_temperature}), fitted to "
        f"{calibration.n_answers} answers whose calibration error was {calibration.ece:.4f}."
    )
    typer.echo(json.dumps(calibration.to_dict()))

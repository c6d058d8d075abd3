"""``deltavlm model calibrate``: honest confidences from a model, by pairs that it did not learn from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.cli.evaluate import evaluate_source, open_folder
from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from rich.console import Console

    from model.certainty import Certainty
    from model.evaluation.calibrating import Calibration
    from model.evaluation.evaluation import Evaluation
    from model.interface import ChangeModel, PromptKind


def calibrate_command(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Folder of the model; its generation_config.json and certainty.json are rewritten."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder with A/, B/ and label/, of pairs that the model was not trained on."
        ),
    ],
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Only pairs whose file names fit, such as test_*,val_0?. Can be repeated."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Only this split, such as test.")] = None,
    tile_size_px: Annotated[
        list[int] | None,
        typer.Option(
            min=16, metavar="N", help="Cut pairs into tiles of N x N pixels; once per --pattern. Default: whole pairs."
        ),
    ] = None,
    keep_scaling: Annotated[
        bool,
        typer.Option("--keep-scaling", help="Leave yes and no as they are, and measure outlines and counts alone."),
    ] = False,
    is_json: JsonFlag = False,
) -> None:
    """Calibrate a model's yes or no, and measure its outlines, its counts and what pairs at home look like.

    Then answers of confidence 0.9 are right nine times in ten, outlines have a confidence, counts an interval, and
    tiles of other looks a low familiarity.
    """
    from flows.cli.console import make_console, print_result
    from model.errors import InputError
    from model.evaluation.calibrating import check_calibratable, store_certainty, store_scaling
    from model.evaluation.certainty import fit_certainty
    from model.evaluation.evaluation import select_cases
    from model.interface import PromptKind
    from model.registry import load_model

    patterns = pattern or ["*"]
    sizes: list[int | None] = [*tile_size_px] if tile_size_px else [None] * len(patterns)
    if len(sizes) != len(patterns):
        raise InputError(
            f"{len(sizes)} times --tile-size-px and {len(patterns)} times --pattern",
            expected="one size for each pattern",
            remedy="give as many of the one as of the other",
        )
    console = make_console()
    folder = check_calibratable(str(model))

    def ask(*kinds: PromptKind) -> list[Evaluation]:
        # Loaded anew each time: what was stored meanwhile changes what it answers.
        loaded = load_model(str(folder))
        return [
            ask_kinds(loaded, data, kinds=kinds, pattern=one, split=split, tile_size_px=size_px, console=console)
            for one, size_px in zip(patterns, sizes, strict=True)
        ]

    result = {}
    if not keep_scaling:
        answered = [one for part in ask(PromptKind.CLASSIFY) for one in select_cases(part.tiles, PromptKind.CLASSIFY)]
        calibration = store_scaling(folder, answered)
        console.print(describe_calibration(calibration))
        result = calibration.to_dict()
    parts = ask(PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE)
    certainty = fit_certainty(
        [tile for part in parts for tile in part.tiles],
        outlines=[outline for part in parts for outline in part.outlines],
    )
    store_certainty(folder, certainty)
    console.print(describe_certainty(certainty), soft_wrap=True)
    looks = _learn_looks(folder, zip(patterns, sizes, strict=True), data=data, split=split, console=console)
    print_result({"model": str(folder)} | result | {"certainty": certainty.to_dict()} | looks, is_json=is_json)


def _learn_looks(
    folder: Path,
    selections: Iterable[tuple[str, int | None]],
    *,
    data: Path,
    split: str | None,
    console: Console,
) -> dict[str, Any]:
    """Store what the pairs look like beside the weights, if they are enough; says so on the console."""
    import numpy as np

    from flows.cli.work import show_work
    from model.evaluation.home_looks import MIN_PAIRS, DescribingModel, describe_tiles, store_familiarity
    from model.interface import PromptKind
    from model.prompts import load_prompt_book
    from model.registry import load_model

    # What is calibrated is a folder of weights.
    loaded = cast(DescribingModel, load_model(str(folder)))
    prompts = [prompt for prompt in load_prompt_book().prompts if prompt.kind is PromptKind.CLASSIFY]
    described = []
    with show_work(console, "Learn the looks of home"):
        for pattern, size_px in selections:
            source = open_folder(
                data, class_values=None, pattern=pattern, split=split, tile_size_px=size_px, captions=None
            )
            described.append(describe_tiles(loaded, source.read_tiles(prompts=prompts)))
    scenes = [scene for _, some in described for scene in some]
    has_familiarity = store_familiarity(folder, np.concatenate([part for part, _ in described]), scenes=scenes)
    console.print(
        f"Familiarity by the looks of {len(scenes)} pairs."
        if has_familiarity
        else f"No familiarity: that takes {MIN_PAIRS} pairs of several scenes, and these are {len(scenes)}."
    )
    return {"has_familiarity": has_familiarity}


def describe_calibration(calibration: Calibration) -> str:
    """Tell in words what yes and no were fitted to."""
    return (
        f"Temperature {calibration.confidence_temperature} (was {calibration.former_temperature}), bias towards yes "
        f"{calibration.yes_bias} (was {calibration.former_bias}), fitted to {calibration.n_answers} answers of which "
        f"{calibration.former_accuracy:.4f} were right, with a calibration error of {calibration.former_ece:.4f}."
    )


def describe_certainty(certainty: Certainty) -> str:
    """Tell in words what was measured of a model, and what there were too few examples for."""
    outlines = ", ".join(f"{fit.kind} ({fit.n_outlines} outlines)" for fit in certainty.outlines)
    counts = ", ".join(f"{fit.kind} ({sum(step.n_tiles for step in fit.steps)} tiles)" for fit in certainty.counts)
    bare = certainty.bare_yes
    worth = "not measured" if bare is None else f"right {bare.probability:.2f} of the time ({bare.n_tiles} tiles)"
    return (
        f"Confidence of changes: {outlines or 'not measured'}. Intervals of counts: {counts or 'not measured'}. A yes "
        f"beside which nothing is counted or placed: {worth}. What had too few examples was not measured."
    )


def ask_kinds(
    model: ChangeModel,
    data: Path,
    *,
    kinds: Collection[PromptKind],
    pattern: str,
    split: str | None,
    tile_size_px: int | None,
    console: Console,
) -> Evaluation:
    """Ask the questions of some kinds, and no others, about a folder of pairs, with a bar on the console.

    Raises:
        InputError: the pairs are not there, or they or the model cannot be used.
    """
    from model.evaluation.evaluation import EvaluationSettings

    source = open_folder(
        data, class_values=None, pattern=pattern, split=split, tile_size_px=tile_size_px, captions=None
    )
    return evaluate_source(model, source, kinds=kinds, settings=EvaluationSettings(has_meteor=False), console=console)

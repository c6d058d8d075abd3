"""``deltavlm model evaluate``: a model beside the truth."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from rich.console import Console

    from model.evaluation.changechat import ChangeChatFile
    from model.evaluation.evaluation import Evaluation, EvaluationSettings
    from model.evaluation.failures import FailureAlbum
    from model.evaluation.pair_folders import PairFolder
    from model.interface import ChangeModel, PromptKind


PARTLY_FAILED = 1
"""Exit code where some of the pairs could not be evaluated."""
SKIPPED_SHOWN = 20
"""Most of them that are listed on the terminal."""


def evaluate_command(
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder with A/, B/ and label/, or a ChangeChat JSON file.")
    ],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Name of a model, its folder, or openai:URL#NAME.")
    ] = "deltavlm-tiny",
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder with the images of a JSON file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for figures, answers, a table and pictures."),
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Only this split, such as test.")] = None,
    pattern: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only pairs of a folder whose file names fit, such as test_*,val_0?.")
    ] = "*",
    tile_size_px: Annotated[
        int | None,
        typer.Option(min=16, metavar="N", help="Cut pairs into tiles of N x N pixels. Default: whole pairs."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Captions by file name, or by box of a panel. Default: the folder's captions.json."
        ),
    ] = None,
    class_values: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="What mask values mean, such as building=255,road=128. Default: found out from the masks.",
        ),
    ] = None,
    swap_test: Annotated[
        bool, typer.Option("--swap-test", help="Ask for descriptions with the dates swapped, too.")
    ] = False,
    unseen_questions: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Ask about N tiles of a folder in words that no training has seen, too."),
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the bootstrap that the intervals come from.")
    ] = 0,
    is_json: JsonFlag = False,
) -> None:
    """Measure a model's answers and masks against the truth.

    The truth is a folder of pairs with masks and captions, or a ChangeChat JSON file with its images.
    """
    from flows.cli.console import make_console, print_result
    from flows.cli.work import show_work
    from model.errors import refuse_unwritable
    from model.evaluation.failures import FailureAlbum
    from model.evaluation.writing import check_output, write_evaluation
    from model.registry import load_model

    source: PairFolder | ChangeChatFile
    if data.suffix.lower() == ".json":
        source = _open_file(data, images=images, split=split)
    else:
        source = open_folder(
            data,
            class_values=class_values,
            pattern=pattern,
            split=split,
            tile_size_px=tile_size_px,
            captions=captions,
        )
    if output is not None:
        check_output(output)
    console = make_console()
    with show_work(console, f"Load {model}"):
        loaded = load_model(model)
    album = FailureAlbum()
    settings = _make_settings(has_swap_test=swap_test, seed=seed, album=album)
    evaluation = evaluate_source(loaded, source, settings=settings, console=console)
    _show(evaluation, source=source, console=console)
    result = _summarize(evaluation, source=source)
    if unseen_questions:
        result |= _ask_unseen(loaded, source, n_tiles=unseen_questions, seed=seed, console=console)
    if output is not None:
        inputs: dict[str, Any] = {"data": data, "images": images, "model": model, "captions": captions, "split": split}
        inputs |= {"pattern": pattern, "tile_size_px": tile_size_px, "class_values": class_values}
        with refuse_unwritable(output):
            files = write_evaluation(
                evaluation,
                output,
                failures=album.failures,
                skipped=[*source.skipped, *evaluation.skipped],
                notes=source.notes,
                inputs=inputs | {"swap_test": swap_test, "seed": seed},
            )
        result["files"] = [str(file) for file in files]
    print_result(result, is_json=is_json)
    if result["n_skipped"]:
        raise typer.Exit(PARTLY_FAILED)


def open_folder(data: Path, *, class_values: str | None, **selection: Any) -> PairFolder:
    """Find the pairs of a folder; the arguments are fields of `FolderSelection`.

    Raises:
        InputError: there are none, or they cannot be used.
    """
    from model.changechat.masks import parse_class_values
    from model.evaluation.pair_folders import FolderSelection, open_pair_folder

    values = None if class_values is None else parse_class_values(class_values)
    return open_pair_folder(data, selection=FolderSelection(class_values=values, **selection))


def _open_file(data: Path, *, images: Path | None, split: str | None) -> ChangeChatFile:
    from model.errors import InputError
    from model.evaluation.changechat import open_changechat

    if images is None:
        raise InputError(
            f"{data} without its images",
            expected="the folder that its paths are relative to",
            remedy="give it as --images",
        )
    return open_changechat(data, images=images, split=split)


def _make_settings(*, has_swap_test: bool, seed: int, album: FailureAlbum) -> EvaluationSettings:
    from model.evaluation.evaluation import EvaluationSettings
    from model.evaluation.measures import BootstrapSettings
    from model.interface import PromptKind
    from model.prompts import load_prompt_book

    describe = next(prompt for prompt in load_prompt_book().prompts if prompt.kind is PromptKind.DESCRIBE)
    return EvaluationSettings(
        swap_prompt=describe if has_swap_test else None, bootstrap=BootstrapSettings(seed=seed), album=album
    )


def evaluate_source(
    model: ChangeModel,
    source: PairFolder | ChangeChatFile,
    *,
    settings: EvaluationSettings,
    console: Console,
    kinds: Collection[PromptKind] | None = None,
) -> Evaluation:
    """Ask what a run asks, or the kinds of that alone, and show how far it is."""
    from itertools import count

    from flows.cli.work import show_work
    from model.evaluation.evaluation import evaluate_tiles
    from model.prompts import load_prompt_book

    prompts = [prompt for prompt in load_prompt_book().prompts if kinds is None or prompt.kind in kinds]
    n_read = count(1)
    with show_work(console, "Ask about pairs") as tell:
        tiles = source.read_tiles(prompts=prompts, on_pair=lambda: tell(next(n_read), source.n_pairs))
        return evaluate_tiles(model, tiles, settings=settings)


def _ask_unseen(
    model: ChangeModel, source: PairFolder | ChangeChatFile, *, n_tiles: int, seed: int, console: Console
) -> dict[str, Any]:
    """Ask about tiles at even distances in held-out words, and show how many answers are right."""
    from dataclasses import replace

    from flows.cli.work import show_work
    from model.evaluation.pair_folders import PairFolder
    from model.evaluation.phrasings import evaluate_phrasings
    from model.prompts import load_prompt_book

    if not isinstance(source, PairFolder):
        return {}
    # Read again, and by a reader of its own: what cannot be read is listed already.
    again = replace(source, skipped=[], notes=[])
    pairs = [
        tile.labelled for tile in again.read_tiles(prompts=load_prompt_book().prompts) if tile.labelled is not None
    ]
    spread = pairs[:: max(1, len(pairs) // n_tiles)][:n_tiles]
    with show_work(console, "Ask in unseen words"):
        scores = evaluate_phrasings(model, spread, seed=seed)
    console.print(
        f"{scores.n_questions} questions in unseen words about {len(spread)} tiles: {scores.right:.0%} right or "
        f"rightly declined, {scores.wrong_and_sure:.0%} wrong and sure; of what nobody can tell "
        f"{scores.declined_unknowable:.0%} declined",
        soft_wrap=True,
    )
    values = scores.to_dict()
    by_intent = values.pop("right_by_intent")
    flat = values | {f"right.{intent}": share for intent, share in by_intent.items()}
    return {f"unseen.{name}": value for name, value in flat.items()}


def _show(evaluation: Evaluation, *, source: PairFolder | ChangeChatFile, console: Console) -> None:
    """Show the table, what to know before reading it, and what was left out."""
    from rich import box
    from rich.table import Table

    from model.evaluation.table import HEADINGS, explain_table, list_rows

    table = Table(title="Answers and masks against the truth", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        is_name = heading == HEADINGS[0]
        table.add_column(heading, justify="left" if is_name else "right", overflow="fold", no_wrap=not is_name)
    for row in list_rows(evaluation.figures):
        table.add_row(*row.list_cells())
    console.print(table)
    for line in [*explain_table(evaluation), *source.notes]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    skipped = [*source.skipped, *evaluation.skipped]
    for one in skipped[:SKIPPED_SHOWN]:
        console.print(
            f"Left out: {one.name}: {one.reason}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )
    if len(skipped) > SKIPPED_SHOWN:
        console.print(f"... and {len(skipped) - SKIPPED_SHOWN} more left out", style="yellow")


def _summarize(evaluation: Evaluation, *, source: PairFolder | ChangeChatFile) -> dict[str, Any]:
    from model.evaluation.table import flatten_figures

    return {
        "model_id": evaluation.model_id,
        "n_tiles": len(evaluation.tiles),
        "n_scenes": evaluation.n_scenes,
        "n_skipped": len(source.skipped) + len(evaluation.skipped),
        "seconds": evaluation.seconds,
        "classify.temperature": evaluation.temperature,
        **flatten_figures(evaluation.figures),
    }

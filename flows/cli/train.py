"""The command ``deltavlm model train``: pairs with masks or instructions in, a model's folder out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from model.training.progress import TrainingProgress
    from model.training.training_run import TrainingResult

MAX_LINES_SHOWN = 10
"""Pairs that were left out are listed up to so many; all of them are in the JSON line."""


def train_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the training, such as configs/fine-tune.yaml.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the trained model. An unfinished training is continued.",
        ),
    ],
    data: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder with the data sets that the config names.")
    ] = Path(),
    trunk_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pretrained vision trunk, instead of the config's.")
    ] = None,
    initial_weights: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model to start from, by name or folder, instead of the config's."),
    ] = None,
    language_model: Annotated[
        str | None, typer.Option(metavar="PATH", help="Language model, instead of the config's.")
    ] = None,
    start_over: Annotated[
        bool,
        typer.Option(
            "--start-over", help="Delete the checkpoints of an earlier training of this output and start anew."
        ),
    ] = False,
    is_json: JsonFlag = False,
) -> None:
    """Train a model on pairs with masks or instructions.

    With kind: mask in the config, only the mask branch is trained. A training that was stopped goes on from its last
    checkpoint when the same command is run again, and ends with the same weights. On several GPUs, torchrun starts it.
    """
    from flows.cli.console import make_console, print_result
    from model.training.recipe import load_training_config
    from model.training.training_run import is_main_process

    given = {"trunk_weights": trunk_weights, "initial_weights": initial_weights, "language_model": language_model}
    named = {name: str(value) for name, value in given.items() if value is not None}
    settings = load_training_config(config, **named)
    console = make_console()
    with show_training(console, is_shown=is_main_process()) as on_progress:
        result = choose_training(settings)(
            settings,
            output=output,
            data_root=data,
            on_progress=on_progress,
            starts_over=start_over,
        )
    if is_main_process():
        show_result(console, result)
        print_result(result.to_dict(), is_json=is_json)


def choose_training(settings: Any) -> Callable[..., TrainingResult]:
    """Find the function that runs a training of this kind."""
    from model.training.masks import train_masks
    from model.training.recipe import MaskTrainingConfig
    from model.training.trainer import train

    return train_masks if isinstance(settings, MaskTrainingConfig) else train


@contextmanager
def show_training(console: Console, *, is_shown: bool) -> Iterator[Callable[[TrainingProgress], None]]:
    """Show a bar with loss and throughput while the context lasts; gives the callback that moves it."""
    from flows.cli.work import show_work

    if not is_shown:
        yield lambda _: None
        return
    with show_work(console, "Prepare") as tell:
        told: dict[str, float] = {}

        def advance(progress: TrainingProgress) -> None:
            if progress.validation and progress.validation != told:
                told.clear()
                told.update(progress.validation)
                console.print(write_validation(progress), highlight=False, soft_wrap=True)
            tell(progress.step, progress.n_steps, title="Train", figures=write_figures(progress))

        yield advance


def write_figures(progress: TrainingProgress) -> str:
    """Write what there is to say after a step in a few words."""
    figures = [
        ("loss {:.3f}", progress.loss),
        ("{:.1f} pairs/s", progress.pairs_per_s),
        ("{:.0%} computing", progress.compute_fraction),
    ]
    return ", ".join(form.format(value) for form, value in figures if value is not None)


def write_validation(progress: TrainingProgress) -> str:
    """Write what a validation measured in one line."""
    figures = [
        ("loss {:.4f}", progress.validation.get("loss")),
        ("text loss {:.4f}", progress.validation.get("text_loss")),
        ("{:.1%} of the answers right", progress.validation.get("exact_fraction")),
    ]
    words = ", ".join(form.format(value) for form, value in figures if value is not None)
    return f"Validation at step {progress.step}: {words}"


def show_result(console: Console, result: TrainingResult) -> None:
    """Show what was learned from, what validation measured before and after, and what people should know."""
    from rich.markup import escape

    from flows.cli.console import make_table

    if result.validation:
        table = make_table("figure", "before", "after", title=f"{result.n_validation_items} validation tiles")
        for name, value in result.validation.items():
            before = result.validation_before.get(name)
            table.add_row(name.replace("_", " "), "" if before is None else f"{before:.4f}", f"{value:.4f}")
        console.print(table)
    for line in result.skipped[:MAX_LINES_SHOWN]:
        console.print(f"Left out: {escape(line)}", style="yellow", highlight=False, soft_wrap=True)
    if len(result.skipped) > MAX_LINES_SHOWN:
        console.print(f"... and {len(result.skipped) - MAX_LINES_SHOWN} more left out", style="yellow")
    for note in result.notes:
        console.print(f"Note: {escape(note)}", style="yellow", highlight=False, soft_wrap=True)
    kept = "" if result.best_step is None else f"; the weights of step {result.best_step} were the best"
    console.print(
        f"{result.n_steps} steps on {result.n_items} pairs{kept}. Model: {escape(str(result.folder))}", soft_wrap=True
    )

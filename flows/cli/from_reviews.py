"""The command ``deltavlm data from-reviews``: what people have settled, as pairs that a model learns from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from pipeline.regions.reviewed_pairs import ReviewedPairs


def from_reviews_command(
    places: Annotated[
        list[str],
        typer.Argument(metavar="RUN|REGION...", help="Folders of reviewed runs and regions, or s3://bucket/prefix."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the pairs, new or empty.")
    ],
    val_fraction: Annotated[
        float, typer.Option(min=0.01, max=0.9, metavar="SHARE", help="Share of the ground that is held out.")
    ] = 0.2,
    square_m: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="METRES",
            help="Side of the squares of ground that are held out or learned from as a whole. Default: four tiles.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed holds out other squares.")] = 0,
    drawn: Annotated[
        Literal["building", "road"], typer.Option(metavar="KIND", help="What was drawn as missed is: building or road.")
    ] = "building",
    is_json: JsonFlag = False,
) -> None:
    """Make training pairs of what people have settled in reviews.

    A tile is taken where every change in it was found right, wrong or corrected; what was rejected becomes unchanged
    ground, what was drawn as missed a change.
    """
    from flows.cli.console import make_console, print_result, show_files
    from flows.cli.work import show_work
    from pipeline.regions.reviewed_pairs import ReviewedPairsSettings, write_reviewed_pairs

    settings = ReviewedPairsSettings(square_m=square_m, val_fraction=val_fraction, seed=seed, drawn_kind=drawn)
    console = make_console()
    with show_work(console, "Write pairs") as tell:
        made = write_reviewed_pairs(places, output, settings=settings, on_tile=tell)
    for line in describe_pairs(made):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    show_files(console, [str(output / side) for side in ("train", "val")])
    print_result({"folder": str(output), **asdict(made)}, is_json=is_json)


def describe_pairs(made: ReviewedPairs) -> list[str]:
    """Tell in words what was written, and what was not."""
    lines = [
        f"{made.n_train:,} pairs to learn from, {made.n_train_changed:,} with a change; {made.n_val:,} held out, "
        f"{made.n_val_changed:,} with a change; parted by squares of {made.square_m:,.0f} m."
    ]
    if made.n_gap:
        lines.append(f"On neither side, as they share ground with what is held out: {made.n_gap:,}.")
    lines += [f"Left out: {n:,} tiles, because {why}." for why, n in made.left_out.items()]
    return lines + [f"Note: {note}." for note in made.notes]

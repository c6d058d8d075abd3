"""The command ``deltavlm assess``: a sample for people to look at, and what it says of a report's accuracy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.runs.assess import AssessedRun

COMPLETE, PARTLY_FAILED = 0, 1


def assess_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|REGION", help="Folder of a finished run or of a region, or its s3://bucket/prefix."
        ),
    ],
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", help="Draw a sample of so many tiles, to be looked at by people.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="SEED", help="Seed of the sample: the same one draws the same tiles.")
    ] = 0,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the sample's CSV file and pictures. Default: reviews/ in the run's folder.",
        ),
    ] = None,
    reviews: Annotated[
        str | None, typer.Option(metavar="FILE", help="Take in that CSV file, as a person has filled it in.")
    ] = None,
    person: Annotated[str | None, typer.Option(metavar="NAME", help="Who has filled it in.")] = None,
    settles: Annotated[
        bool, typer.Option("--settles", help="This person's word settles what others disagree about.")
    ] = False,
    is_estimated: Annotated[
        bool,
        typer.Option("--estimate", help="Estimate accuracy, counts and areas, and put them in the report."),
    ] = False,
    pair: Annotated[
        str | None, typer.Option(metavar="PAIR", help="Pair of the region. Default: the last one with a result.")
    ] = None,
    is_json: JsonFlag = False,
) -> None:
    """Draw a sample of tiles, take in what people saw there, and estimate the report's accuracy with intervals."""
    from flows.cli.console import make_console, print_result
    from pipeline.regions.assess import find_assessed_run

    if n is None and reviews is None and not is_estimated:
        raise _refuse("nothing to do", remedy="add --n 200, --reviews FILE --person NAME, or --estimate")
    if (person is None) != (reviews is None) or (settles and reviews is None):
        raise _refuse("--reviews, --person or --settles alone", remedy="say with --person who has filled in --reviews")
    if output is not None and n is None:
        raise _refuse("--output without --n", remedy="add --n, or leave --output out")
    console = make_console()
    assessed = find_assessed_run(run, pair=pair)
    result: dict[str, Any] = {"run_id": assessed.record.run_id, "run": assessed.folder.uri}
    is_whole = True
    if n is not None:
        result["sample"] = _draw(assessed, n=n, seed=seed, output=output, console=console)
    if reviews is not None and person is not None:
        result["reviews"] = _take_in(assessed, path=reviews, person=person, settles=settles, console=console)
        is_whole &= not result["reviews"]["refused"]
    if is_estimated:
        result["accuracy"] = _estimate(assessed, console=console)
        is_whole &= not result["accuracy"]["problems"]
    code = COMPLETE if is_whole else PARTLY_FAILED
    print_result(result | {"exit_code": code}, is_json=is_json)
    raise typer.Exit(code)


def _refuse(found: str, *, remedy: str) -> Exception:
    from model.errors import InputError

    return InputError(found, expected="a sample to draw, reviews to take in, or an estimate to make", remedy=remedy)


def _draw(assessed: AssessedRun, *, n: int, seed: int, output: str | None, console: Console) -> dict[str, Any]:
    from flows.cli.work import show_work

    with show_work(console, "Draw the sample"):
        sample = assessed.draw(n, seed=seed)
        files, notes = assessed.write_sheet(sample, output=output)
    console.print(f"{len(sample.tiles):,} tiles drawn, to be filled in: {files[0]}", markup=False, soft_wrap=True)
    _show_notes(console, notes)
    return {
        "sample_id": sample.sample_id,
        "seed": sample.seed,
        "n_tiles": len(sample.tiles),
        "strata": {stratum.name: stratum.n_sampled for stratum in sample.strata},
        "files": files,
        "notes": notes,
    }


def _take_in(assessed: AssessedRun, *, path: str, person: str, settles: bool, console: Console) -> dict[str, Any]:
    found, added = assessed.take_in(path, person=person, now=dt.datetime.now(dt.UTC), settles=settles)
    n_added, n_known = sum(each.n_added for each in added), sum(each.n_known for each in added)
    console.print(
        f"{n_added:,} reviews kept, {n_known:,} known already, {found.n_empty:,} rows not filled in",
        markup=False,
        highlight=False,
    )
    for refused in found.refused[:_SHOWN]:
        console.print(f"Refused: {refused}", markup=False, style="red", highlight=False, soft_wrap=True)
    notes = [note for each in added for note in each.notes]
    _show_notes(console, notes)
    return {
        "n_added": n_added,
        "n_known": n_known,
        "n_empty": found.n_empty,
        "refused": list(found.refused),
        "notes": notes,
    }


_SHOWN = 20


def _estimate(assessed: AssessedRun, *, console: Console) -> dict[str, Any]:
    from flows.cli.console import make_table
    from flows.cli.work import show_work
    from flows.signals import stop_on_signals
    from pipeline.report.accuracy_words import HEADINGS, describe_accuracy

    with stop_on_signals(), show_work(console, "Estimate"):
        accuracy = assessed.estimate()
    words = describe_accuracy(accuracy)
    for sentence in words.sentences:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if words.rows:
        table = make_table(*HEADINGS, title="Accuracy")
        for row in words.rows:
            table.add_row(*row)
        console.print(table)
    for problem in words.problems:
        console.print(f"Problem: {problem}", markup=False, style="red", highlight=False, soft_wrap=True)
    _show_notes(console, words.notes)
    return accuracy


def _show_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes[:_SHOWN]:
        console.print(f"Note: {note}", markup=False, style="yellow", highlight=False, soft_wrap=True)

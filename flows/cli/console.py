"""What a person at a terminal sees, on stderr: a bar per stage, then a table; and the line of JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.cli.streams import discard
from model.errors import InputError
from model.safe_text import clean_text
from pipeline.storage.names import PAGE_NAME

if TYPE_CHECKING:
    from pipeline.report.result import Report
    from pipeline.runs.check import Facts


def show_warnings(console: Console, warnings: list[str]) -> None:
    """Print what people should know before they trust a model's answers."""
    for warning in warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False)


class SafeConsole(Console):
    """A console that prints what others wrote, answers and names, without what a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is shown of any text that is printed, the cells of tables among them."""
        return super().render_str(clean_text(text), **options)


def make_console() -> Console:
    """Give the console for people: stderr, as stdout belongs to programs."""
    # Without emoji: `:warning:` in an answer is those nine letters.
    return SafeConsole(stderr=True, emoji=False)


def make_table(*headings: str, title: str | None = None, is_headed: bool = True) -> Table:
    """Give an empty table whose cells wrap in a narrow terminal, where rich's own are cut."""
    table = Table(title=title, show_header=is_headed)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def print_result(result: Mapping[str, Any], *, is_json: bool) -> None:
    """Print the result of a command as one line of JSON, the last of stdout, unless people are looking at that.

    Args:
        result: Plain values.
        is_json: Print it to a terminal as well, because ``--json`` was given.
    """
    if not is_json and sys.stdout.isatty():
        return
    try:
        typer.echo(json.dumps(result, allow_nan=False))
        sys.stdout.flush()
    except OSError as problem:
        discard(sys.stdout)
        raise InputError(
            f"stdout takes nothing ({problem.strerror})",
            expected="a pipe that is read, or a file on a disk with room",
            remedy="what was done is kept: give it another stdout and run the same command again",
        ) from None


def show_report(console: Console, report: Report) -> None:
    """Show what became of the ground and the tiles, how many changes were found, and where the page is."""
    # Geopandas and all else behind a report take a second, and an error message should not wait for them.
    from pipeline.report.words import describe_changed, describe_coverage, format_area, write_share

    table = make_table("ground", "tiles", "share", "area", title="Coverage")
    for share in report.coverage.list_shares():
        if share.is_there:
            table.add_row(*write_share(share))
    n_tiles = sum(report.status_counts.values())
    table.add_row("all", f"{n_tiles:,}", "100 %", format_area(report.coverage.total_m2), style="bold")
    console.print(table)
    console.print(describe_coverage(report.coverage), highlight=False)
    changes = ", ".join(f"{count} of kind {kind}" for kind, count in report.change_counts.items())
    console.print(f"{describe_changed(report.changed_tile_count, report.coverage)}; changes: {changes}")
    if report.zone_counts:
        zones = ", ".join(f"{count} {status}" for status, count in report.zone_counts.items() if count)
        console.print(f"{sum(report.zone_counts.values())} zones: {zones}")
    for note in report.notes:
        console.print(f"Note: {note}", markup=False, style="yellow", highlight=False, soft_wrap=True)
    console.print(f"Report: {escape(report.folder.join(PAGE_NAME))}", soft_wrap=True)


def show_files(console: Console, files: Sequence[str]) -> None:
    """Show which files were written."""
    for file in files:
        console.print(f"Written: {escape(file)}", soft_wrap=True, highlight=False)


def show_stop(console: Console, signal_name: str) -> None:
    """Show that a run was stopped, and how to go on."""
    console.print(
        f"Stopped by {signal_name}. What is done is kept: the same command goes on from there.",
        style="yellow",
        soft_wrap=True,
        highlight=False,
    )


def show_facts(console: Console, facts: Facts) -> None:
    """Show what a check found out."""
    table = make_table("name", "value", is_headed=False)
    for name, value in facts.figures.items():
        table.add_row(escape(name), escape(str(value)))
    if facts.figures:
        console.print(table)
    for problem in facts.problems:
        console.print(f"[red]Problem: {escape(problem)}[/red]", soft_wrap=True, highlight=False)
    if not facts.problems:
        console.print("No problem found.")


def show_problem(console: Console, problem: InputError) -> None:
    """Show the one message that a person needs who gave wrong input."""
    console.print(
        f"Error: {problem.found}\nExpected: {problem.expected}\nTo do: {problem.remedy}",
        markup=False,
        style="red",
        soft_wrap=True,
        highlight=False,
    )

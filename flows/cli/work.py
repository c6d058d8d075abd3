"""That a command is at work, and how far, where it has no stages of a run: a bar, or lines in a log.

A command that says nothing for minutes cannot be told from one that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.cli.progress import say_every_minute

SECONDS_OF_SILENCE = 5.0
"""Work without a count that is over before that is not told of in a log."""


class TellWork(Protocol):
    """Says how much of the work is done."""

    def __call__(self, done: int, total: int, /, *, title: str | None = None, figures: str = "") -> None:
        """Say it.

        Args:
            done: Items that are done.
            total: Items that there are.
            title: What is being done, where that is other than the whole.
            figures: What else there is to say.
        """
        ...


@contextmanager
def show_work(console: Console, title: str) -> Iterator[TellWork]:
    """Show that work goes on while the context lasts; gives what says how much of it is done, where that is known.

    Args:
        console: Where people read.
        title: What is being done, such as "Make tiles".
    """
    if not console.is_terminal:
        lines = WorkLines(console, title)
        with say_every_minute(lines.say_how_far, first_s=SECONDS_OF_SILENCE):
            yield lines.tell
        return
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TextColumn("{task.fields[figures]}", markup=False)),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        first = title
        bars: dict[str, TaskID] = {first: progress.add_task(first, total=None, figures="")}

        def tell(done: int, total: int, /, *, title: str | None = None, figures: str = "") -> None:
            name = first if title is None else title
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, figures=figures)
                progress.update(bars[first], visible=progress.tasks[0].total is not None)
            progress.update(bars[name], completed=done, total=total, figures=figures)

        yield tell


class WorkLines:
    """The lines of one piece of work."""

    def __init__(self, console: Console, title: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            console: Where the lines go.
            title: What is being done.
            clock: Gives seconds that only ever rise.
        """
        self._console = console
        self._clock = clock
        self._turn = threading.Lock()
        self._name = title
        self._is_told = False
        self._done = self._total = 0
        self._begin(title)

    def tell(self, done: int, total: int, /, *, title: str | None = None, figures: str = "") -> None:
        """Take in how much is done, as `TellWork`."""
        with self._turn:
            if (title or self._name) != self._title:
                self._begin(title or self._name)
            if not self._total:
                self._say(f"{self._title}: {total:,} to do.")
            is_over = self._total and self._done >= self._total
            self._done, self._total, self._figures = done, total, figures
            if done >= total and not is_over:
                self._say(f"{self._title}: {done:,} of {total:,} done in {self._seconds:.0f} s{self._words}.")

    def say_how_far(self) -> None:
        """Say that the work goes on, and how far it is."""
        with self._turn:
            if self._total and self._done < self._total:
                rate = self._done / max(self._seconds, 1e-9)
                left = self._total - self._done
                self._say(
                    f"{self._title}: {self._done:,} of {self._total:,} done, {left:,} left, {60 * rate:,.1f} per "
                    f"minute{self._words}."
                )
            elif self._is_told:
                self._say(f"{self._title}: at work for {self._seconds:.0f} s.")
            else:
                self._say(f"{self._title} ...")

    def _begin(self, title: str) -> None:
        self._title, self._begun_at_s = title, self._clock()
        self._done = self._total = 0
        self._figures = ""

    @property
    def _seconds(self) -> float:
        return self._clock() - self._begun_at_s

    @property
    def _words(self) -> str:
        return f"; {self._figures}" if self._figures else ""

    def _say(self, line: str) -> None:
        self._is_told = True
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

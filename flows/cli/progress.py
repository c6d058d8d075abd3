"""How far a run is, for people: bars in a terminal, lines where stderr goes to a file or a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.signals import StopRequest
from model.errors import InputError
from pipeline.summary import STAGE_TITLES, ProgressCallback, StageSummary

SECONDS_BETWEEN_LINES = 60.0

_STAGES = tuple(STAGE_TITLES)
REPORT_STAGES = ("select_tiles", "extract_findings", "write_report")
"""Of a report that is made anew."""
_BEFORE_NEXT = {
    "find_pair": "The model's weights are read, to know them by their hash, and workers are started",
    "select_tiles": "Workers load the model",
}
"""What comes after a stage and is none itself, though it may take minutes."""


@contextmanager
def show_progress(
    console: Console, *, stages: Sequence[str] = _STAGES, name: str = "", has_bars: bool = True
) -> Iterator[ProgressCallback]:
    """Show how far each stage is while the context lasts; gives the callback that is told of it.

    A terminal has a bar per stage; a log file a line per stage, and one per minute.

    Args:
        console: Where people read.
        stages: What there are, one after the other.
        name: Stands before each line, where several are at work at once.
        has_bars: Whether a terminal has bars; with False it has lines too.
    """
    if not (console.is_terminal and has_bars):
        with _tell_in_lines(console, stages=stages, name=name) as tell:
            yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {
            stage: progress.add_task(title, total=None, visible=False, start=False)
            for stage, title in STAGE_TITLES.items()
        }

        def begin(stage: str) -> None:
            progress.start_task(bars[stage])
            progress.update(bars[stage], visible=True)

        def advance(part: StageSummary) -> None:
            begin(part.stage)
            if part.total:
                progress.update(bars[part.stage], total=part.total)
            progress.advance(bars[part.stage], part.done + part.skipped + part.failed)
            for note in part.notes:
                progress.console.print(f"Note: {escape(note)}", highlight=False, soft_wrap=True)
            following = stages[stages.index(part.stage) + 1 :][:1]
            if following and progress.tasks[bars[part.stage]].finished:
                begin(following[0])
            # ^ The next one is at work by now, though it says nothing before it has done something.

        begin(stages[0])
        try:
            yield advance
        except (InputError, StopRequest):
            # The message says it all; a bar that stopped half-way would say nothing more.
            for stage in progress.tasks:
                stage.visible = False
            raise


class StageLines:
    """The lines of one run: what its stages have done so far, in words."""

    def __init__(
        self,
        console: Console,
        *,
        stages: Sequence[str] = _STAGES,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin before the first stage.

        Args:
            console: Where the lines go.
            stages: What there are, one after the other.
            name: Stands before each line.
            clock: Gives seconds that only ever rise.
        """
        self._name = name
        self._console = console
        self._clock = clock
        self._turn = threading.Lock()
        self._stages = tuple(stages)
        self._begin(stages[0])

    def add(self, part: StageSummary) -> None:
        """Take in what a part of a stage has done: a `ProgressCallback`."""
        with self._turn:
            if part.stage != self._stage:
                self._begin(part.stage)
            self._total += part.total
            self._n_worked += part.done + part.failed
            self._n_skipped += part.skipped
            for note in part.notes:
                self._say(f"Note: {note}")
            if self._total and self._count >= self._total:
                self._say(f"{self._title}: {self._count:,} of {self._total:,} done in {self._seconds:.0f} s.")
                if part.stage in _BEFORE_NEXT and self._stages == _STAGES:
                    self._say(f"{_BEFORE_NEXT[part.stage]} ...")
                for following in self._stages[self._stages.index(part.stage) + 1 :][:1]:
                    self._begin(following)

    def say_how_far(self) -> None:
        """Say how far the stage at work is, how much is left, and how fast it goes."""
        with self._turn:
            if not self._total:
                self._say(f"{self._title}: at work for {self._seconds:.0f} s.")
                return
            left, rate = max(0, self._total - self._count), self._n_worked / max(self._seconds, 1e-9)
            self._say(
                f"{self._title}: {self._count:,} of {self._total:,} done, {left:,} left, {60 * rate:,.1f} per minute."
            )

    def _begin(self, stage: str) -> None:
        self._stage, self._begun_at_s = stage, self._clock()
        self._total = self._n_worked = self._n_skipped = 0

    @property
    def _title(self) -> str:
        return STAGE_TITLES[self._stage]

    @property
    def _count(self) -> int:
        return self._n_worked + self._n_skipped

    @property
    def _seconds(self) -> float:
        return self._clock() - self._begun_at_s

    def _say(self, line: str) -> None:
        self._console.print(
            f"{self._name}: {line}" if self._name else line, markup=False, highlight=False, soft_wrap=True
        )


@contextmanager
def _tell_in_lines(console: Console, *, stages: Sequence[str], name: str) -> Iterator[ProgressCallback]:
    lines = StageLines(console, stages=stages, name=name)
    with say_every_minute(lines.say_how_far):
        yield lines.add


@contextmanager
def say_every_minute(say: Callable[[], None], *, first_s: float | None = None) -> Iterator[None]:
    """Have something said by a thread of its own every minute while the context lasts.

    Args:
        say: Says it.
        first_s: When it is said for the first time; None: after a minute.
    """
    is_over = threading.Event()

    def repeat() -> None:
        wait_s = SECONDS_BETWEEN_LINES if first_s is None else first_s
        while not is_over.wait(wait_s):
            say()
            wait_s = SECONDS_BETWEEN_LINES

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()

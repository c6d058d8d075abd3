"""What a log is told of a command without the stages of a run, so that it can be told from one that hangs."""

from __future__ import annotations

import io
import threading

import pytest
from patience import wait_for
from rich.console import Console

from flows.cli import progress, work
from flows.cli.work import WorkLines, show_work


def test_work_without_a_count_is_told_of_once_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    others, file = set(threading.enumerate()), io.StringIO()
    with show_work(Console(file=file), "Load the model"):
        pass
    assert file.getvalue() == ""

    monkeypatch.setattr(work, "SECONDS_OF_SILENCE", 0.01)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    with show_work(Console(file=file), "Load the model"):
        wait_for(lambda: file.getvalue().count("\n") > 1, what="two lines")

    assert file.getvalue().splitlines()[:2] == ["Load the model ...", "Load the model: at work for 0 s."]
    assert set(threading.enumerate()) <= others


def test_counted_work_tells_what_is_left_and_how_fast_it_goes() -> None:
    now_s, file = 100.0, io.StringIO()
    lines = WorkLines(Console(file=file), "Read pairs", clock=lambda: now_s)
    lines.tell(0, 1200, title="Cut scene")
    now_s += 60
    lines.tell(300, 1200, title="Cut scene", figures="loss 0.5")
    lines.say_how_far()
    lines.tell(1200, 1200, title="Cut scene")
    lines.tell(1200, 1200, title="Cut scene")
    lines.tell(1, 2)

    assert file.getvalue().splitlines() == [
        "Cut scene: 1,200 to do.",
        "Cut scene: 300 of 1,200 done, 900 left, 300.0 per minute; loss 0.5.",
        "Cut scene: 1,200 of 1,200 done in 60 s.",
        "Read pairs: 2 to do.",
    ]


def test_a_terminal_has_a_bar_for_each_thing_that_is_done() -> None:
    file = io.StringIO()
    with show_work(Console(file=file, force_terminal=True, width=100), "Prepare") as tell:
        tell(3, 4, title="Train", figures="loss 0.250")

    assert "3/4" in file.getvalue()
    assert "loss 0.250" in file.getvalue()

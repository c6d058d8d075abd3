"""What a log file is told of a run, where a terminal would have bars."""

from __future__ import annotations

import io
import threading

import pytest
from patience import wait_for
from rich.console import Console

from flows.cli import progress
from flows.cli.progress import REPORT_STAGES, StageLines, show_progress
from pipeline.summary import STAGE_TITLES, StageSummary


def test_a_log_has_a_line_per_stage() -> None:
    file = io.StringIO()
    with show_progress(Console(file=file)) as tell:
        for stage in STAGE_TITLES:
            tell(StageSummary(stage=stage, total=4, skipped=1))
            tell(StageSummary(stage=stage, done=2, failed=1, notes={"halved": 1} if stage == "write_tiles" else {}))

    lines = file.getvalue().splitlines()
    assert [line for line in lines if "done in" in line] == [
        f"{title}: 4 of 4 done in 0 s." for title in STAGE_TITLES.values()
    ]
    assert "Note: halved" in lines
    assert lines[1] == "The model's weights are read, to know them by their hash, and workers are started ..."
    assert "Workers load the model ..." in lines


def test_a_line_says_how_much_is_left_and_how_fast_it_goes() -> None:
    now_s, file = 100.0, io.StringIO()
    lines = StageLines(Console(file=file), clock=lambda: now_s)
    lines.say_how_far()
    lines.add(StageSummary(stage="write_tiles", total=1000, skipped=100))
    now_s += 120
    lines.add(StageSummary(stage="write_tiles", done=300))
    lines.say_how_far()

    assert file.getvalue().splitlines() == [
        "Find pair: at work for 0 s.",
        "Write tiles: 400 of 1,000 done, 600 left, 150.0 per minute.",
    ]


def test_lines_come_by_themselves_until_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    others, file = set(threading.enumerate()), io.StringIO()

    with show_progress(Console(file=file)):
        wait_for(lambda: "Find pair: at work for 0 s." in file.getvalue(), what="line without any count")

    assert set(threading.enumerate()) <= others


def test_pairs_that_are_made_at_once_are_told_apart_also_in_a_terminal() -> None:
    file = io.StringIO()
    with show_progress(Console(file=file, force_terminal=True), name="p1", has_bars=False) as tell:
        tell(StageSummary(stage="write_tiles", total=1, done=1))

    assert file.getvalue() == "p1: Write tiles: 1 of 1 done in 0 s.\n"


def test_a_report_made_anew_waits_for_no_workers() -> None:
    file = io.StringIO()
    lines = StageLines(Console(file=file), stages=REPORT_STAGES, clock=lambda: 0.0)
    lines.add(StageSummary(stage="select_tiles", total=1, done=1))
    lines.say_how_far()

    assert file.getvalue().splitlines() == ["Select tiles: 1 of 1 done in 0 s.", "Extract findings: at work for 0 s."]

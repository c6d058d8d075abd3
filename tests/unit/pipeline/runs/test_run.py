"""What goes around the stages of a run."""

from __future__ import annotations

from pipeline.runs.run import tell_progress
from pipeline.summary import ProgressCallback, StageSummary

WHOLE = StageSummary(stage="write_tiles", done=3, total=3)
PARTS = [StageSummary(stage="write_tiles", total=3), StageSummary(stage="write_tiles", done=3)]


def test_stage_is_told_of_by_its_parts() -> None:
    told: list[StageSummary] = []

    def write(on_progress: ProgressCallback) -> tuple[str, StageSummary]:
        for part in PARTS:
            on_progress(part)
        return "store", WHOLE

    assert tell_progress(told.append)("write_tiles", write) == ("store", WHOLE)
    assert told == PARTS


def test_stage_without_parts_is_told_of_once() -> None:
    told: list[StageSummary] = []

    assert tell_progress(told.append)("write_tiles", lambda _: ("store", WHOLE)) == ("store", WHOLE)
    assert told == [WHOLE]

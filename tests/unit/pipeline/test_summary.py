from __future__ import annotations

import pytest

from pipeline.summary import StageSummary


def test_parts_add_up() -> None:
    first = StageSummary(
        stage="s", done=1, skipped=2, total=10, seconds=0.5, bytes_read=7, reasons={"a": 2}, notes={"n": 1}
    )
    second = StageSummary(
        stage="s", done=3, failed=1, seconds=1.5, bytes_written=5, reasons={"b": 1, "a": 1}, notes={"n": 2}
    )

    assert first + second == StageSummary(
        stage="s",
        done=4,
        skipped=2,
        failed=1,
        total=10,
        seconds=2.0,
        bytes_read=7,
        bytes_written=5,
        reasons={"a": 3, "b": 1},
        notes={"n": 3},
    )


def test_adding_is_commutative_down_to_the_order_of_reasons() -> None:
    first = StageSummary(stage="s", reasons={"b": 1})
    second = StageSummary(stage="s", reasons={"a": 1})

    assert list((first + second).to_dict()["reasons"]) == list((second + first).to_dict()["reasons"]) == ["a", "b"]


def test_stages_do_not_mix() -> None:
    with pytest.raises(ValueError, match=r"write_tiles.*select_tiles"):
        StageSummary(stage="select_tiles") + StageSummary(stage="write_tiles")


def test_plain_values_make_it_again() -> None:
    summary = StageSummary(stage="s", done=1, seconds=0.5, reasons={"a": 1}, notes={"n": 1})

    assert StageSummary(**summary.to_dict()) == summary

from __future__ import annotations

import pytest

from pipeline.report.words import MAX_REASONS_PER_STATUS, OTHER_REASONS, classify_reason, count_reasons


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("outside the area of interest", "outside the area of interest"),
        ("too little valid before (before 0.0%, after 100.0%, both 0.0%)", "too little valid before"),
        ("equal pixels on both dates (in the 97.3% that both show)", "equal pixels on both dates"),
        ("/data/x.tif cannot be read (Read failed)", "/data/x.tif cannot be read"),
        ("a (b) and (c) d", "a and d"),
    ],
)
def test_the_kind_of_a_reason_tells_of_no_single_tile(reason: str, expected: str) -> None:
    assert classify_reason(reason) == expected


def test_tiles_are_counted_by_status_and_kind_of_reason() -> None:
    outcomes = [
        ("no_data", "too little valid before (before 1%)"),
        ("no_data", "too little valid after (after 2%)"),
        ("no_data", "too little valid before (before 3%)"),
        ("analysed", None),
        ("analysed", ""),
        ("analysed", "yes and no"),
        ("failed", "x"),
    ]

    assert count_reasons(outcomes) == {
        "analysed": {"yes and no": 1},
        "failed": {"x": 1},
        "no_data": {"too little valid before": 2, "too little valid after": 1},
    }


def test_many_reasons_are_bounded_and_still_add_up() -> None:
    outcomes = [("failed", f"reason {n}") for n in range(100)] + [("failed", "the usual")] * 5

    counts = count_reasons(outcomes)["failed"]

    assert len(counts) == MAX_REASONS_PER_STATUS
    assert sum(counts.values()) == 105
    assert next(iter(counts.items())) == ("the usual", 5)
    assert counts[OTHER_REASONS] == 105 - 5 - (MAX_REASONS_PER_STATUS - 2)

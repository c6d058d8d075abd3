"""Times as searches write them."""

from __future__ import annotations

import datetime as dt

import pytest

from pipeline.dates import compile_name_pattern, format_moment, parse_interval, parse_moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:30:00Z", "2024-05-01T10:30:00Z/2024-05-01T10:30:00Z"),
        ("2024-05-01T12:30:00+02:00", "2024-05-01T10:30:00Z/2024-05-01T10:30:00Z"),
        ("2024-05-01", "2024-05-01T00:00:00Z/2024-05-01T23:59:59.999999Z"),
        ("2024-02", "2024-02-01T00:00:00Z/2024-02-29T23:59:59.999999Z"),
        ("2024-12", "2024-12-01T00:00:00Z/2024-12-31T23:59:59.999999Z"),
        ("2024", "2024-01-01T00:00:00Z/2024-12-31T23:59:59.999999Z"),
        ("2024-05-01/2024-06-15", "2024-05-01T00:00:00Z/2024-06-15T23:59:59.999999Z"),
        ("2024-05/..", "2024-05-01T00:00:00Z/.."),
        ("/2024-05", "../2024-05-31T23:59:59.999999Z"),
    ],
)
def test_text_becomes_a_span(text: str, expected: str) -> None:
    assert parse_interval(text).format() == expected


@pytest.mark.parametrize(
    "text",
    ["", "..", "../..", "yesterday", "2024-13", "2024-02-30", "2024-06/2024-05", "2024/2025/2026", "2024-05-01T9"],
)
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no date|before it starts"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("span", "item", "touches"),
    [
        ("2024-05", ("2024-05-31T23:59:59.999999Z", "2024-05-31T23:59:59.999999Z"), True),
        ("2024-05", ("2024-06-01T00:00:00Z", "2024-06-01T00:00:00Z"), False),
        ("2024-05-10", ("2024-05-01T00:00:00Z", "2024-05-31T00:00:00Z"), True),
        ("../2024-05-10", ("2024-05-11T00:00:00Z", "2024-05-31T00:00:00Z"), False),
        ("2024-05-10/..", ("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"), True),
    ],
)
def test_a_span_touches_a_span(span: str, item: tuple[str, str], touches: bool) -> None:
    start, end = (dt.datetime.fromisoformat(moment) for moment in item)
    assert parse_interval(span).touches(start, end) is touches


def test_a_moment_without_a_zone_is_utc() -> None:
    assert format_moment(dt.datetime(2024, 5, 1, 10, 30)) == "2024-05-01T10:30:00Z"


@pytest.mark.parametrize("moment", ["2024-05-01T23:59:59.5", "2024-05-01T23:59:59.999999", "2024-05-01T00:00:00"])
def test_the_last_second_of_a_day_is_in_it(moment: str) -> None:
    at = parse_moment(moment)

    assert parse_interval("2024-05-01").touches(at, at)
    assert parse_interval("2024-05").touches(at, at)
    assert not parse_interval("2024-05-02").touches(at, at)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("12345678_20250601.tif", "2025-06-01"),
        ("20251399_20250601.tif", "2025-06-01"),
        ("00000000_20250601T101112.TIF", "2025-06-01"),
        ("20250601_12345678.tif", "2025-06-01"),
    ],
)
def test_digits_that_are_no_date_are_an_id(name: str, expected: str) -> None:
    assert compile_name_pattern("*%Y%m%d*.tif").read_datetime(name).date().isoformat() == expected

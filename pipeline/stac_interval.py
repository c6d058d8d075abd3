"""Times as STAC searches write them: an instant, a day, a month, a year, or two of them with a slash between."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

_MOMENT = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(T.+)?)?)?")
_OPEN = {"", ".."}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A span of time whose two ends both belong to it."""

    start: dt.datetime | None
    """First moment, UTC; None: from ever."""
    end: dt.datetime | None
    """Last moment, UTC; None: for ever."""

    def touches(self, start: dt.datetime, end: dt.datetime) -> bool:
        """Tell whether anything from `start` to `end` lies in it."""
        return (self.end is None or start <= self.end) and (self.start is None or end >= self.start)

    def format(self) -> str:
        """Write it as APIs want it, RFC 3339 in UTC, with ``..`` for an open end."""
        return "/".join(".." if moment is None else format_moment(moment) for moment in (self.start, self.end))


def parse_interval(text: str) -> Interval:
    """Read an instant (RFC 3339), a day, month or year, or two of them such as ``2024-05-01/2024-06``.

    A day, a month or a year is meant whole. Either end may be ``..`` or nothing. Without a zone it is UTC.

    Raises:
        ValueError: it is none of these, or ends before it starts.
    """
    ends = text.strip().split("/")
    if len(ends) > 2 or all(end.strip() in _OPEN for end in ends):
        raise ValueError(f"{text!r} is no date and no interval; write for example 2024-05-01/2024-06-15")
    first, last = ends[0].strip(), ends[-1].strip()
    start = None if first in _OPEN else _parse_span(first)[0]
    end = None if last in _OPEN else _parse_span(last)[1]
    if start is not None and end is not None and end < start:
        raise ValueError(f"{text!r} ends before it starts; put the earlier date first")
    return Interval(start=start, end=end)


def format_moment(moment: dt.datetime) -> str:
    """Write a moment in ISO 8601, UTC, such as 2024-05-01T10:30:00Z; without a zone it is UTC."""
    aware = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware.isoformat().replace("+00:00", "Z")


def _parse_span(text: str) -> tuple[dt.datetime, dt.datetime]:
    match = _MOMENT.fullmatch(text.upper())
    if match is None:
        raise ValueError(f"{text!r} is no date; write for example 2024-05-01 or 2024-05-01T10:30:00Z")
    try:
        if match[4]:
            moment = dt.datetime.fromisoformat(text.upper())
            moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return moment, moment
        year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
        start = dt.datetime(year, month, day, tzinfo=dt.UTC)
        if match[3]:
            after = start + dt.timedelta(days=1)
        elif match[2]:
            after = start.replace(year=year + month // 12, month=month % 12 + 1)
        else:
            after = start.replace(year=year + 1)
    except (ValueError, OverflowError) as problem:
        raise ValueError(f"{text!r} is no date ({problem})") from None
    return start, after - dt.timedelta(seconds=1)

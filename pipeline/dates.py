"""Moments in UTC, and dates as names of files and STAC searches write them.

A pattern such as ``*/scene_%Y%m%d.tif`` finds the date in a name; an interval of STAC is an instant, a day, a month, a
year, or two of them with a slash between.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

_CODES = {
    "Y": r"(?:19|20)\d{2}", "m": r"(?:0[1-9]|1[0-2])", "d": r"(?:0[1-9]|[12]\d|3[01])", "j": r"[0-3]\d{2}",
    "H": r"(?:[01]\d|2[0-3])", "M": r"[0-5]\d", "S": r"[0-5]\d",
}  # fmt: skip
# ^ Digits that cannot be a date are an id, and the date comes further on.
_DIGITS = {code: r"\d" * {"Y": 4, "j": 3}.get(code, 2) for code in _CODES}
_TOKEN = re.compile(r"%.?|\*\*/?|\*|\?")
_DAYS = ({"Y", "m", "d"}, {"Y", "j"})


def to_utc(moment: dt.datetime) -> dt.datetime:
    """Give the same moment in UTC; without a zone it is UTC.

    Raises:
        ValueError: there it lies before the first year or after the last one.
    """
    try:
        return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is no moment in UTC") from None


def parse_moment(text: str) -> dt.datetime:
    """Read ISO 8601 as a moment in UTC; without a zone it is UTC.

    Raises:
        ValueError: it is no date.
    """
    return to_utc(dt.datetime.fromisoformat(text))


def format_moment(moment: dt.datetime) -> str:
    """Write a moment in ISO 8601, UTC, such as 2024-05-01T10:30:00Z; without a zone it is UTC."""
    return to_utc(moment).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class NamePattern:
    """A pattern of names that hold a date."""

    text: str
    """As it was given."""
    regex: re.Pattern[str]
    """The same as a regular expression with a group for each code, of digits that may be a date."""
    form: re.Pattern[str]
    """The same of any digits."""

    def matches(self, name: str) -> bool:
        """Tell whether a name has the form; its date may still be none, such as the 31st of February."""
        return self.form.fullmatch(name) is not None

    def read_datetime(self, name: str) -> dt.datetime:
        """Read the date out of a name that matches; UTC.

        Raises:
            ValueError: the digits are no date.
        """
        found = self.regex.fullmatch(name) or self.form.fullmatch(name)
        if found is None:
            raise ValueError(f"is not of the form {self.text}")
        digits = found.groupdict()
        try:
            moment = dt.datetime.strptime(" ".join(digits.values()), " ".join(f"%{code}" for code in digits))
        except ValueError:
            raise ValueError(f"has no date where {self.text} wants one: {'-'.join(digits.values())}") from None
        return to_utc(moment)


def compile_name_pattern(text: str) -> NamePattern:
    """Read a pattern of file names with ``*``, ``?``, ``**`` and codes of a date.

    ``*`` takes as little as it can, so that the first digits that may be a date, from 1900 to 2099, are the date.
    Capitals are as good as small letters.

    Raises:
        ValueError: it has an unknown code, one twice, or no whole day.
    """
    strict, loose = _translate(text, codes=_CODES), _translate(text, codes=_DIGITS)
    if not any(day <= set(strict.groupindex) for day in _DAYS):
        raise ValueError(f"{text!r} does not tell the day; write %Y, %m and %d (or %j) where the names have them")
    return NamePattern(text=text, regex=strict, form=loose)


def _translate(text: str, *, codes: Mapping[str, str]) -> re.Pattern[str]:
    parts: list[str] = []
    known: set[str] = set()
    end = 0
    for token in _TOKEN.finditer(text):
        parts += [re.escape(text[end : token.start()]), _translate_token(token[0], codes=codes, known=known)]
        end = token.end()
    return re.compile("".join([*parts, re.escape(text[end:])]), re.IGNORECASE)


def _translate_token(token: str, *, codes: Mapping[str, str], known: set[str]) -> str:
    if not token.startswith("%"):
        return {"*": "[^/]*?", "?": "[^/]", "**": ".*?", "**/": "(?:.*?/)?"}[token]
    code = token[1:]
    if code == "%":
        return "%"
    if code not in codes:
        raise ValueError(f"{token} is no code of a date; known are {', '.join('%' + each for each in codes)}")
    if code in known:
        # Such as a folder per year: what stands there has to be the same year.
        return f"(?P={code})"
    known.add(code)
    return f"(?P<{code}>{codes[code]})"


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


def _parse_span(text: str) -> tuple[dt.datetime, dt.datetime]:
    match = _MOMENT.fullmatch(text.upper())
    if match is None:
        raise ValueError(f"{text!r} is no date; write for example 2024-05-01 or 2024-05-01T10:30:00Z")
    try:
        if match[4]:
            moment = parse_moment(text.upper())
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
    return start, after - dt.timedelta.resolution

"""Dates in the names of files: a pattern such as ``*/scene_%Y%m%d.tif`` and what it makes of a name."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

_CODES = {"Y": r"\d{4}", "m": r"\d{2}", "d": r"\d{2}", "j": r"\d{3}", "H": r"\d{2}", "M": r"\d{2}", "S": r"\d{2}"}
_TOKEN = re.compile(r"%.?|\*\*/?|\*|\?")
_DAYS = ({"Y", "m", "d"}, {"Y", "j"})


@dataclass(frozen=True, kw_only=True)
class NamePattern:
    """A pattern of names that hold a date."""

    text: str
    """As it was given."""
    regex: re.Pattern[str]
    """The same as a regular expression with a group for each code."""

    def matches(self, name: str) -> bool:
        """Tell whether a name has the form; its date may still be none, such as the 31st of February."""
        return self.regex.fullmatch(name) is not None

    def read_datetime(self, name: str) -> dt.datetime:
        """Read the date out of a name that matches; UTC.

        Raises:
            ValueError: the digits are no date.
        """
        found = self.regex.fullmatch(name)
        if found is None:
            raise ValueError(f"is not of the form {self.text}")
        digits = found.groupdict()
        try:
            moment = dt.datetime.strptime(" ".join(digits.values()), " ".join(f"%{code}" for code in digits))
        except ValueError:
            raise ValueError(f"has no date where {self.text} wants one: {'-'.join(digits.values())}") from None
        return moment.replace(tzinfo=dt.UTC)


def compile_name_pattern(text: str) -> NamePattern:
    """Read a pattern of file names with ``*``, ``?``, ``**`` and codes of a date.

    ``*`` takes as little as it can, so that the first digits that may be a date are the date.

    Raises:
        ValueError: it has an unknown code, one twice, or no whole day.
    """
    parts: list[str] = []
    codes: list[str] = []
    end = 0
    for token in _TOKEN.finditer(text):
        parts += [re.escape(text[end : token.start()]), _translate(token[0], codes=codes)]
        end = token.end()
    parts.append(re.escape(text[end:]))
    if not any(day <= set(codes) for day in _DAYS):
        raise ValueError(f"{text!r} does not tell the day; write %Y, %m and %d (or %j) where the names have them")
    return NamePattern(text=text, regex=re.compile("".join(parts)))


def _translate(token: str, *, codes: list[str]) -> str:
    if not token.startswith("%"):
        return {"*": "[^/]*?", "?": "[^/]", "**": ".*?", "**/": "(?:.*?/)?"}[token]
    code = token[1:]
    if code == "%":
        return "%"
    if code not in _CODES:
        raise ValueError(f"{token} is no code of a date; known are {', '.join('%' + each for each in _CODES)}")
    if code in codes:
        # Such as a folder per year: what stands there has to be the same year.
        return f"(?P={code})"
    codes.append(code)
    return f"(?P<{code}>{_CODES[code]})"

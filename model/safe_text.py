"""Words that others wrote, made harmless for where they are shown: a terminal, a page, a document, a spreadsheet.

A model's answer, a scene's id, a zone's name, a file's name: none of them is ours. What a terminal would obey, what
turns the order of letters around and what no document may hold is left out here, before anything is shown; what is
markup in one kind of output alone is escaped by its writer, jinja, rich or python-docx.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SEQUENCES = (
    # What begins with ESC or its one-byte forms: a command with its parameters, or a string with its terminator.
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]",
    "(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)",
    "\x1b[ -/]*[0-~]?",
)
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]"
_TURNS = "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
_UNSEEN = "[\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufff9-\ufffb\U000e0000-\U000e0fff]"
# ^ Without a shape: words for a language model hide in them. Joiners, which scripts and emoji need, stay.
_UNSAFE = re.compile("|".join((*_SEQUENCES, _CONTROLS, _TURNS, _UNSEEN)))
_FORMULA = re.compile("[\\s'\"]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\n]")
# ^ What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), full-width signs among it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile("[\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]+")


def clean_text(text: str) -> str:
    """Leave out what no place shows; line feeds and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub("", _LONE_SURROGATE.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n"))


def clean_line(text: str) -> str:
    """Leave out what no place shows, and breaks between lines as well."""
    return clean_text(_BREAKS.sub(" ", text))


def clean_values(values: Any) -> Any:
    """Clean every text in plain values, such as those that become JSON."""
    if isinstance(values, str):
        return clean_text(values)
    if isinstance(values, Mapping):
        return {clean_values(key): clean_values(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [clean_values(value) for value in values]
    return values


def disarm_formula(text: str) -> str:
    """Put an apostrophe in front of what a spreadsheet would take for a formula."""
    text = clean_text(text)
    return f"'{text}" if _FORMULA.match(text) else text

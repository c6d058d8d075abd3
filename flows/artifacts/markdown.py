"""Text and links as Markdown that nobody's words can break out of."""

from __future__ import annotations

import re
from pathlib import Path

from model.redaction import redact_text
from model.safe_text import clean_line
from pipeline.uris import is_remote

_MARKUP = "\\`*_{}[]()#!|~"
_LINK_OPENING = re.compile(r"https?:|ftp:|mailto:|xmpp:|www|@", re.IGNORECASE)
_JOINER = "\u2060"


def make_link(path: str) -> str:
    """Give a file of a run as a URI for a browser, without credentials."""
    return redact_text(path if is_remote(path) else Path(path).absolute().as_uri())


def escape_markdown(text: str) -> str:
    """Make a model's words harmless in Markdown, in a table as well: no markup, no HTML, no link, one line."""
    text = clean_line(text)
    for character in _MARKUP:
        text = text.replace(character, f"\\{character}")
    text = _LINK_OPENING.sub(lambda found: f"{found[0]}{_JOINER}", text)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())

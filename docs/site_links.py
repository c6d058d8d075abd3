"""What `mkdocs` does to a page on top: links that lead out of docs/ go, as their files are not part of the site.

Such a file is named in the words of the link nearly always; where it is not, its path follows in brackets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
_LINK = re.compile(r"(?<!!)\[(?P<words>[^\]\[]+)\]\((?P<target>\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Name files of the repository instead of leading to them.

    Args:
        markdown: The page.
        page: What mkdocs knows of it.
    """
    place = DOCS / Path(page.file.src_uri).parent
    return _LINK.sub(lambda link: _name_file(link, place=place), markdown)


def _name_file(link: re.Match[str], *, place: Path) -> str:
    target = (place / link["target"].partition("#")[0]).resolve()
    if target.is_relative_to(DOCS) or not target.exists():
        # What is not there stays a link, for mkdocs to complain of.
        return link[0]
    return link["words"] if target.name in link["words"] else f"{link['words']} (`{target.relative_to(DOCS.parent)}`)"

"""From values to the text of a page: templates that escape all they are given, one style sheet, two scripts.

The page carries its own policy for the browser: it runs no script and takes no style but those whose hashes stand in
it, and the tile files beside it. A module script that imports others does not run from a file, so the modules of the
page are joined into one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
import markupsafe

from model.redaction import shorten_text
from model.safe_text import clean_text

_MODULES = (
    "columns",
    "choosing",
    "places",
    "words",
    "elements",
    "tile_files",
    "drawing",
    "tile_pictures",
    "live_map",
    "change_list",
    "tile_panel",
    "main",
)
"""Modules of the page's script, each after those it imports."""

_STYLE_SHEETS = ("page.css", "map.css")
_LONGEST_TEXT = 2_000
# ^ Characters of one text; a template shortens most of them to less. Pictures and paths, which the program draws, are
#   marked as safe.


def render_template(name: str, context: Mapping[str, Any], *, filters: Mapping[str, Callable[..., Any]]) -> str:
    """Fill a template.

    Args:
        name: Path of the template below the package ``pipeline``.
        context: What it is given; all text is escaped.
        filters: Functions for the template.
    """
    environment = _make_environment(tuple(filters.items()))
    assets = {"style": _read_styles(), "library": _read_library(), "script": join_modules()}
    digests = {f"{key}_digest": _digest(text) for key, text in assets.items()}
    trusted = {key: markupsafe.Markup(text) for key, text in assets.items()}
    return environment.get_template(name).render({**context, **trusted, **digests})


# Compiling a template takes longer than filling it: a process that makes several reports does it once.
@lru_cache(maxsize=4)
def _make_environment(filters: tuple[tuple[str, Callable[..., Any]], ...]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finish,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters)
    return environment


def _finish(value: Any) -> Any:
    """Clean what a template puts down, and cut it short; what the program made, such as its scripts, stays."""
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return shorten_text(clean_text(value), max_length=_LONGEST_TEXT)
    return value


@cache
def join_modules() -> str:
    """Join the modules of the page's script into one: what each imports stands before it."""
    folder = _package().joinpath("scripts")
    parts = [folder.joinpath(f"{name}.mjs").read_text(encoding="utf-8") for name in _MODULES]
    joined = "\n".join(re.sub(r"^import\b[^;]*;\n", "", part, flags=re.MULTILINE) for part in parts)
    return "\n" + re.sub(r"^export ", "", joined, flags=re.MULTILINE)


@cache
def _read_library() -> str:
    text = _package().joinpath("vendor", "leaflet", "leaflet.js").read_text(encoding="utf-8")
    # The map to its source would be asked for by the tools of a browser.
    return "\n" + re.sub(r"^//# sourceMappingURL=.*\n?", "", text, flags=re.MULTILINE)


@cache
def _read_styles() -> str:
    library = _package().joinpath("vendor", "leaflet", "leaflet.css").read_text(encoding="utf-8")
    # Rules with pictures are for markers and a switch of layers, which the page has none of.
    rules = re.sub(r"/\*.*?\*/", "", library, flags=re.DOTALL)
    parts = [re.sub(r"[^{}]*\{[^{}]*\burl\([^{}]*\}", "", rules)]
    parts += [_package().joinpath(name).read_text(encoding="utf-8") for name in _STYLE_SHEETS]
    return "\n" + "\n".join(parts)


def _package() -> Traversable:
    return resources.files("pipeline.report.page")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

"""Pages that `mkdocs` has of the code alone: every setting, every column, and what may be imported.

They are made while the site is built, so none of them can be older than the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from mkdocs.structure.files import File, Files

import model
import pipeline
from pipeline.config.region import RegionConfig
from pipeline.config.run import RunConfig
from pipeline.regions import schemas as of_regions
from pipeline.tables import schemas as of_runs
from pipeline.tables.fields import tabulate_fields

_DEFINITIONS = "#/$defs/"
_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "minItems": "of at least so many:",
    "minLength": "of at least so many characters:",
}
_TABLES: Mapping[str, pa.Schema] = {
    "report/tiles.parquet of a run": of_runs.FINDINGS_SCHEMA,
    "the same where dates are composed, on top": pa.schema(of_runs.COMPOSITE_FIELDS),
    "report/changes.parquet of a run": of_runs.CHANGES_SCHEMA,
    "report/zones.parquet of a run": of_runs.ZONES_SCHEMA,
    "tiles, once something is reviewed, on top": pa.schema(of_runs.TILE_REVIEW_FIELDS),
    "changes and events, once something is reviewed, on top": pa.schema(of_runs.CHANGE_REVIEW_FIELDS),
    "zones, once something is reviewed, on top": pa.schema(of_runs.ZONE_REVIEW_FIELDS),
    "report/events.parquet of a region": of_regions.EVENTS_SCHEMA,
    "report/changes/ of a region": of_regions.REGION_CHANGES_SCHEMA,
    "report/changelog.parquet of a region": of_regions.CHANGELOG_SCHEMA,
    "report/timeline.parquet of a region": of_regions.TIMELINE_SCHEMA,
    "the same of a region with blocks": of_regions.BLOCK_TIMELINE_SCHEMA,
    "report/seen/ of a region": of_regions.SEEN_SCHEMA,
    "truth.parquet of made scenes": of_runs.TRUTH_SCHEMA,
}


def on_files(files: Files, *, config: Any, **_: Any) -> Files:
    """Add the pages.

    Args:
        files: Those of docs/.
        config: What mkdocs was told.
    """
    pages: dict[str, Callable[[], str]] = {
        "config.md": describe_settings,
        "columns.md": describe_columns,
        "api.md": describe_api,
    }
    for name, describe in pages.items():
        files.append(File.generated(config, f"reference/{name}", content=describe()))
    return files


def describe_settings() -> str:
    """Give the page of all settings of runs and regions, in Markdown."""
    run, region = RunConfig.model_json_schema(), RegionConfig.model_json_schema()
    known: set[str] = set()
    return "\n".join(
        [
            "# Every setting",
            "",
            "Made from the code. A run takes these from `--config FILE` and `--set name=value`, names joined by dots "
            "(`--set grid.resolution_m=0.5`); `deltavlm monitor FILE` takes a region's. What is no setting is refused. "
            "Where a setting takes several forms, each has a part below; a part that several settings have stands "
            "under the first of them.",
            "",
            "## Of a run",
            "",
            *_tabulate(run, definitions=run["$defs"], path="", known=known),
            "## Of a region",
            "",
            "What a part above tells is not told again.",
            "",
            *_tabulate(region, definitions=region["$defs"], path="", known=known),
        ]
    )


def _tabulate(
    schema: Mapping[str, Any], *, definitions: Mapping[str, Any], path: str, known: set[str]
) -> Iterator[str]:
    """Give the lines of a part, and of the parts that its settings have."""
    yield from ("| setting | takes | left out | meaning |", "|---|---|---|---|")
    required = set(schema.get("required", ()))
    within: list[tuple[str, str]] = []
    for name, field in schema.get("properties", {}).items():
        inner = list(dict.fromkeys(_list_parts(field)))
        within += [(f"{path}{name}", each) for each in inner]
        default = "has to be given" if name in required else _show_default(field, has_parts=bool(inner))
        yield f"| `{path}{name}` | {_describe_kind(field)} | {default} | {_escape(field.get('description', ''))} |"
    yield ""
    for place, part in within:
        if part in known:
            continue
        known.add(part)
        kind = next(iter(_list_choices(definitions[part].get("properties", {}).get("kind", {}))), None)
        yield f"### {place}" + (f", kind {kind}" if kind is not None else "")
        yield ""
        yield _escape(" ".join(definitions[part].get("description", "").split("\n\n")[0].split()))
        yield ""
        yield from _tabulate(definitions[part], definitions=definitions, path=f"{place}.", known=known)


def _list_parts(field: Mapping[str, Any]) -> Iterator[str]:
    """Name the definitions that a setting's value may have."""
    if "$ref" in field:
        yield field["$ref"].removeprefix(_DEFINITIONS)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for each in field.get(key, ()):
            yield from _list_parts(each)
    for key in ("items", "additionalProperties"):
        if isinstance(field.get(key), Mapping):
            yield from _list_parts(field[key])


def _list_choices(field: Mapping[str, Any]) -> list[Any]:
    return [field["const"]] if "const" in field else list(field.get("enum", ()))


def _describe_kind(field: Mapping[str, Any]) -> str:
    """Say in words what a setting takes."""
    if forms := [each for key in ("anyOf", "oneOf", "allOf") for each in field.get(key, ())]:
        return " or ".join(dict.fromkeys(_describe_kind(each) for each in forms))
    if "$ref" in field:
        return "settings of its own"
    if choices := _list_choices(field):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = {"null": "nothing", "array": "list", "object": "settings by name", "string": "text"}.get(
        field.get("type", ""), field.get("type", "any value")
    )
    if field.get("type") == "array" and isinstance(field.get("items"), Mapping):
        kind = f"list of: {_describe_kind(field['items'])}"
    limits = [f"{words} {field[key]}" for key, words in _LIMITS.items() if key in field]
    return ", ".join([kind, *limits])


def _show_default(field: Mapping[str, Any], *, has_parts: bool) -> str:
    if "default" not in field:
        return "see there" if has_parts else "made when it is needed"
    if field["default"] is None:
        return "nothing"
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`".replace("|", "\\|")


def _escape(text: str) -> str:
    """Keep words from being taken for the form of a table or for a link."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def describe_columns() -> str:
    """Give the page of the columns of all tables, in Markdown."""
    head = (
        "# Every column\n\nMade from the code; the files have the same words in their metadata. Every table with a "
        "geometry has the covering `bbox` on top. What to do with them, [report.md](../report.md) and "
        "[monitoring.md](../monitoring.md) tell; what may change, [schema-versions.md](../schema-versions.md).\n"
    )
    return head + "".join(f"\n## {name}\n\n{_escape_angles(tabulate_fields(of))}" for name, of in _TABLES.items())


def _escape_angles(text: str) -> str:
    return text.replace("<", "&lt;")


def describe_api() -> str:
    """Give the page of what `import pipeline` and `import model` offer, in Markdown, for mkdocstrings."""
    lines = [
        "# What may be imported",
        "",
        "Made from the code: what these two packages name in `__all__`. Anything else may change without notice.",
    ]
    for package in (pipeline, model):
        lines += ["", f"## import {package.__name__}", "", (package.__doc__ or "").split("\n\n")[0].replace("\n", " ")]
        for name in package.__all__:
            thing = getattr(package, name)
            heading = f"{package.__name__}.{name}"
            options = {"heading": heading, "toc_label": name, "show_root_heading": True, "heading_level": 3}
            lines += ["", f"::: {thing.__module__}.{thing.__qualname__}", f"    options: {json.dumps(options)}"]
    return "\n".join([*lines, ""])

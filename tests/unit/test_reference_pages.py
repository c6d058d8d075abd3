"""The site's reference is what the code says: every setting, every column, every name that may be imported."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

import model
import pipeline
from pipeline.config.region import RegionConfig
from pipeline.config.run import RunConfig

pytest.importorskip("mkdocs", reason="mkdocs, of the extra dev, is not installed")


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_rows(text: str) -> dict[str, list[str]]:
    """Give the cells of each row of the tables by the first of them."""
    rows = [line.replace("\\|", "/").strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def list_settings(kind: type[BaseModel]) -> dict[tuple[str, str], str | None]:
    """Give the descriptions of a config's own settings, and of those in its parts, by class and name."""
    told: dict[tuple[str, str], str | None] = {}
    for name, field in kind.model_fields.items():
        told[kind.__name__, name] = field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            told |= list_settings(field.annotation)
    return told


@pytest.mark.parametrize("kind", [RunConfig, RegionConfig])
def test_every_setting_is_there_with_its_meaning(pages: ModuleType, kind: type[BaseModel]) -> None:
    text = pages.describe_settings()

    settings = list_settings(kind)
    assert len(settings) > 60
    for (_, name), description in settings.items():
        assert description
        # A part that several settings have stands under the first of them.
        assert re.search(
            rf"^\| `([\w.]+\.)?{name}` \|.*\| {re.escape(pages._escape(description))} \|$", text, re.MULTILINE
        )


def test_settings_tell_what_they_take(pages: ModuleType) -> None:
    rows = read_rows(pages.describe_settings())

    assert rows["grid.resolution_m"][0] == "number, more than 0, at most 1000"
    assert rows["output"][1] == "has to be given"
    assert rows["report.min_confidence"][:2] == ["number, at least 0, at most 1", "`0.5`"]


def test_every_column_of_every_table_is_there(pages: ModuleType) -> None:
    text = pages.describe_columns()

    rows: Any = read_rows(text)
    for title, schema in pages._TABLES.items():
        assert f"## {title}\n" in text
        assert set(schema.names) <= set(rows)
    assert all(cells[1] for cells in rows.values())


def test_every_name_that_may_be_imported_is_there(pages: ModuleType) -> None:
    text = pages.describe_api()

    for package in (pipeline, model):
        for name in package.__all__:
            thing = getattr(package, name)
            assert f"::: {thing.__module__}.{thing.__qualname__}\n" in text

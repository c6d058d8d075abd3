"""The data dictionary says what the schemas say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.regions.schemas import (
    CHANGELOG_SCHEMA,
    EVENTS_SCHEMA,
    LEFT_OUT_SCHEMA,
    REGION_CHANGES_SCHEMA,
    TIMELINE_SCHEMA,
    ZONE_SUMS_SCHEMA,
)
from pipeline.runs.export import FORMATS
from pipeline.tables.fields import DESCRIPTIONS_KEY, read_description, tabulate_fields
from pipeline.tables.schemas import CHANGES_SCHEMA, COMPOSITE_FIELDS, FINDINGS_SCHEMA, TRUTH_SCHEMA, ZONES_SCHEMA

REGION_FIELDS = [field for field in REGION_CHANGES_SCHEMA if field.name not in CHANGES_SCHEMA.names]

LOG_FIELDS = [field for field in CHANGELOG_SCHEMA if field.name not in EVENTS_SCHEMA.names]


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "fields",
    [
        *(FINDINGS_SCHEMA, COMPOSITE_FIELDS, CHANGES_SCHEMA, ZONES_SCHEMA, REGION_FIELDS),
        *(EVENTS_SCHEMA, LOG_FIELDS, TIMELINE_SCHEMA, ZONE_SUMS_SCHEMA, LEFT_OUT_SCHEMA),
    ],
    ids=[
        "tiles",
        "composites",
        "changes",
        "zones",
        "region",
        "events",
        "changelog",
        "timeline",
        "zone sums",
        "left out",
    ],
)
def test_columns_are_described_in_the_words_of_the_schemas(text: str, fields: list[object]) -> None:
    expected = tabulate_fields(fields)

    assert expected in text, f"put this table into docs/report.md:\n{expected}"


def test_every_column_has_a_description() -> None:
    schemas = [FINDINGS_SCHEMA, ZONES_SCHEMA, TRUTH_SCHEMA, REGION_CHANGES_SCHEMA, CHANGELOG_SCHEMA, TIMELINE_SCHEMA]
    schemas += [ZONE_SUMS_SCHEMA, LEFT_OUT_SCHEMA]

    assert [field.name for schema in schemas for field in schema if not read_description(field)] == []


def test_formats_and_key_are_named(text: str) -> None:
    assert DESCRIPTIONS_KEY in text
    assert [name for name in FORMATS if f"| `{name}` |" not in text] == []

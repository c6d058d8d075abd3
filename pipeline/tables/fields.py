"""Columns of tables and what a file tells about them: descriptions, and the version of the table.

The descriptions go into the files' metadata, per field for Arrow and as one JSON text under `DESCRIPTIONS_KEY`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

DESCRIPTIONS_KEY = "deltavlm:columns"
"""Key in a file's metadata of a JSON object with the description of every column."""

VERSION_KEY = "deltavlm:schema_version"
"""Key in a file's metadata of the version of its table's columns, a whole number in digits."""

TABLE_KEY = "deltavlm:table"
"""Key in a file's metadata of the kind of table that it is, one of `SCHEMA_VERSIONS`."""

SCHEMA_VERSIONS: Mapping[str, int] = {
    "tiles": 1,
    "changes": 1,
    "zones": 1,
    "truth": 1,
    "region_changes": 1,
    "timeline": 1,
    "seen": 1,
    "events": 1,
    "changelog": 1,
    "zone_sums": 1,
    "left_out": 1,
}
"""Raised when a column of a table goes away, or changes its type or meaning; docs/schema-versions.md says how."""


def describe_field(name: str, kind: pa.DataType, description: str, *, is_nullable: bool = True) -> pa.Field:
    """Make a column of a schema, with its description in the metadata of the file."""
    return pa.field(name, kind, nullable=is_nullable, metadata={"description": description})


def read_description(field: pa.Field) -> str:
    """Give what a column means; empty where nothing tells."""
    return ((field.metadata or {}).get(b"description") or b"").decode()


_KIND_NAMES = {pa.binary(): "WKB", pa.timestamp("us", "UTC"): "time, UTC"}


def tabulate_fields(fields: Iterable[pa.Field]) -> str:
    """Describe columns as a table in Markdown."""
    rows = ["| column | type | meaning |", "|---|---|---|"]
    for field in fields:
        kind = _KIND_NAMES.get(field.type, str(field.type))
        nullable = "" if field.nullable else ", never null"
        rows.append(f"| `{field.name}` | {kind}{nullable} | {read_description(field)} |")
    return "\n".join(rows) + "\n"


def insert_fields(schema: pa.Schema, fields: Iterable[pa.Field], *, before: str) -> pa.Schema:
    """Give a schema with further columns in front of one of its own."""
    position = schema.get_field_index(before)
    return pa.schema([*list(schema)[:position], *fields, *list(schema)[position:]], metadata=schema.metadata)


def make_table_schema(fields: Iterable[pa.Field], *, table: str) -> pa.Schema:
    """Give the schema of a table, which tells what table it is, and of which version.

    Args:
        fields: The columns.
        table: Kind of table, one of `SCHEMA_VERSIONS`.
    """
    return pa.schema(list(fields), metadata={TABLE_KEY: table, VERSION_KEY: str(SCHEMA_VERSIONS[table])})

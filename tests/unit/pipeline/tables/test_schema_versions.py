"""Files tell which table they are and of which version, and the page of versions tells the same."""

from __future__ import annotations

import io
import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.regions import schemas as region_schemas
from pipeline.tables import schemas
from pipeline.tables.fields import SCHEMA_VERSIONS, TABLE_KEY, VERSION_KEY, insert_fields
from pipeline.tables.geoparquet import encode_geoparquet, encode_table, make_frame

TABLES = {
    schema.metadata[TABLE_KEY.encode()].decode(): schema
    for schema in (*vars(schemas).values(), *vars(region_schemas).values())
    if isinstance(schema, pa.Schema)
}


def encode_empty(schema: pa.Schema) -> bytes:
    if "geometry" not in schema.names:
        return encode_table(schema.empty_table().to_pandas(), schema=schema)
    columns = {name: [] for name in schema.names if name != "geometry"}
    frame = make_frame(columns, schema=schema, geometry=np.empty(0, dtype=object), crs="EPSG:32614")
    return encode_geoparquet(frame, schema=schema, order=np.arange(0))


@pytest.mark.parametrize("table", sorted(SCHEMA_VERSIONS))
def test_file_tells_its_table_and_version(table: str) -> None:
    metadata = pq.read_metadata(io.BytesIO(encode_empty(TABLES[table]))).metadata

    assert metadata[TABLE_KEY.encode()] == table.encode()
    assert metadata[VERSION_KEY.encode()] == str(SCHEMA_VERSIONS[table]).encode()


def test_columns_of_the_users_own_keep_the_version() -> None:
    wider = insert_fields(schemas.ZONES_SCHEMA, [pa.field("mine", pa.string())], before="geometry")

    metadata = pq.read_metadata(io.BytesIO(encode_empty(wider))).metadata

    assert metadata[VERSION_KEY.encode()] == str(SCHEMA_VERSIONS["zones"]).encode()
    assert gpd.read_parquet(io.BytesIO(encode_empty(wider))).columns[-2] == "mine"


def test_page_of_versions_has_each_table_with_its_version_and_what_came_with_it(repository: Path) -> None:
    page = (repository / "docs" / "schema-versions.md").read_text(encoding="utf-8")
    listed, changed = page.split("## What changed")

    assert {table: int(version) for table, version in re.findall(r"\| `(\w+)` \| (\d+) \|", listed)} == SCHEMA_VERSIONS
    entries = re.findall(r"^- (.+?) (\d+):", changed, re.MULTILINE)
    told = {(table, int(version)) for tables, version in entries for table in re.findall(r"`(\w+)`", tables)}
    assert set(SCHEMA_VERSIONS.items()) <= told

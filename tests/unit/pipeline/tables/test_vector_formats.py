"""Columns of zones and prompts whose names a format has a meaning of its own for: what they hold comes through."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from pipeline.tables.vector_formats import VECTOR_FORMATS, write_layer

NAMES = (
    "zone_id",
    "fid",
    "geom",
    "lon",
    "lat",
    "begin",
    "end",
    "timestamp",
    "Icon",
    "Fid_",
    "tessellate",
    "id",
    "ogc_fid",
)


@pytest.mark.parametrize("name", VECTOR_FORMATS)
def test_no_column_is_lost_to_a_format(tmp_path: Path, name: str) -> None:
    rows = {column: [f"{column} of a", f"{column} of b"] for column in NAMES}
    frame = gpd.GeoDataFrame(rows, geometry=[shapely.box(i, 0, i + 1, 1) for i in (0, 1)], crs="EPSG:4326")
    frame.to_parquet(tmp_path / "zones.parquet")
    kind = VECTOR_FORMATS[name]
    path = tmp_path / f"zones{kind.suffix}"

    with pa.OSFile(str(tmp_path / "zones.parquet")) as source:
        write_layer(source, path, layer="zones", kind=kind)

    read = pd.read_csv(path) if name == "csv" else gpd.read_file(path)
    held = {value for column in read.columns if read[column].dtype == object for value in read[column]}
    held |= {value for column in read.select_dtypes("string").columns for value in read[column]}
    assert {value for values in rows.values() for value in values} <= held

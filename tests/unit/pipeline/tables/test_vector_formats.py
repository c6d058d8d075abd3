"""Columns of zones and prompts whose names a format has a meaning of its own for: what they hold comes through."""

from __future__ import annotations

import gzip
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import Compression, TileType

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


@pytest.mark.parametrize("n_rows", [0, 2])
def test_a_map_of_the_web_finds_the_layer_where_it_is(tmp_path: Path, n_rows: int) -> None:
    squares = [shapely.box(600_000 + 50 * i, 0, 600_040 + 50 * i, 40) for i in range(n_rows)]
    frame = gpd.GeoDataFrame({"kind": pd.array(["road"] * n_rows, "string")}, geometry=squares, crs="EPSG:32631")
    frame.to_parquet(tmp_path / "changes.parquet")
    path = tmp_path / "changes.pmtiles"

    with pa.OSFile(str(tmp_path / "changes.parquet")) as source:
        write_layer(source, path, layer="changes", kind=VECTOR_FORMATS["pmtiles"])

    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        header, layers = reader.header(), reader.metadata()["vector_layers"]
        lon = 3.8983
        n_tiles = 2**14
        tile = reader.get(14, int((lon + 180) / 360 * n_tiles), n_tiles // 2 - 1)
    assert (header["tile_type"], header["tile_compression"]) == (TileType.MVT, Compression.GZIP)
    assert (header["min_zoom"], header["max_zoom"]) == (0, 14)
    assert [layer["id"] for layer in layers] == ["changes"][:n_rows]
    if n_rows:
        assert header["min_lon_e7"] / 1e7 == pytest.approx(lon, abs=1e-3)
        assert b"road" in gzip.decompress(tile)
    else:
        assert tile is None

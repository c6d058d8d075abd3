"""Small files of polygons that are much larger than they look."""

from __future__ import annotations

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely.geometry import box

import pipeline.polygons.unfolding
from model.errors import InputError
from pipeline.polygons.files import read_polygons

ONE = gpd.GeoDataFrame({"name": ["a"]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n AS fid, geom, name FROM c, t"


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.polygons.unfolding, "MAX_BYTES", 1 << 20)


def change_tables(path: Path, *statements: str) -> str:
    """Write a GeoPackage with one table, and change it behind the back of GDAL."""
    ONE.to_file(path, layer="t", driver="GPKG")
    with closing(sqlite3.connect(path)) as base:
        for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{name}"')
        for statement in statements:
            base.execute(statement)
        base.commit()
    return str(path)


@pytest.mark.parametrize(
    "statements",
    [
        (f"CREATE VIEW v AS {ENDLESS}", "UPDATE gpkg_contents SET table_name = 'v'"),
        ("ALTER TABLE t ADD COLUMN x TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000000))) VIRTUAL",),
        ("ALTER TABLE t ADD COLUMN x TEXT AS /**/ (hex(zeroblob(1000000000)))",),
    ],
    ids=["an endless view", "a generated column", "another"],
)
def test_what_a_geopackage_computes_is_not_read(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = change_tables(tmp_path / "zones.gpkg", "PRAGMA foreign_keys = OFF", *statements)

    with pytest.raises(InputError, match="is computed when it is read"):
        read_polygons(path, key="zones")


def test_tables_beside_what_is_shown_may_be_views(tmp_path: Path) -> None:
    path = change_tables(tmp_path / "zones.gpkg", "CREATE VIEW names AS SELECT name FROM t")

    assert len(read_polygons(path, key="zones")) == 1


@pytest.mark.parametrize("name", ["doc.kml", "zones.gpkg"])
def test_an_archive_is_looked_through_first(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "zones.kmz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b" " * (2 << 20 if name == "doc.kml" else 1))

    with pytest.raises(InputError, match="unpacked" if name == "doc.kml" else "unpack it"):
        read_polygons(str(tmp_path / "zones.kmz"), key="zones")


def test_a_value_that_stands_in_a_million_rows_is_counted_as_often(tmp_path: Path) -> None:
    ONE.to_parquet(tmp_path / "zones.parquet")
    table = pq.read_table(tmp_path / "zones.parquet")
    assert len(read_polygons(str(tmp_path / "zones.parquet"), key="zones")) == 1
    rows = np.zeros(100_000, dtype=np.int64)
    pq.write_table(table.take(pa.array(rows)), tmp_path / "zones.parquet")
    assert (tmp_path / "zones.parquet").stat().st_size < 1 << 14

    with pytest.raises(InputError, match="unpacked"):
        read_polygons(str(tmp_path / "zones.parquet"), key="zones")

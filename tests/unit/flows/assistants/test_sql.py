"""Queries of strangers: they read the tables that are there, and nothing else."""

from __future__ import annotations

import datetime as dt
import io
import threading
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import shapely

from flows.assistants.sources import Source, describe_columns
from flows.assistants.sql import MAX_CELL_CHARACTERS, MAX_QUERY_CHARACTERS, QueryError, TableDatabase, gather_rows
from model.errors import InputError
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import encode_geoparquet, make_frame, order_along_hilbert
from pipeline.tables.schemas import CHANGES_SCHEMA

SEEN_AT = dt.datetime(2026, 6, 20, 15, 45, tzinfo=dt.UTC)


def make_changes(n_rows: int = 3) -> bytes:
    columns = {name: [None] * n_rows for name in CHANGES_SCHEMA.names if name != "geometry"}
    columns |= {"change_id": [f"c{number}" for number in range(n_rows)], "kind": ["building", "road", "road"][:n_rows]}
    columns |= dict.fromkeys(("area_m2", "cell_count", "tile_count"), [1] * n_rows)
    columns |= dict.fromkeys(("geometry_source", "tile_ids", "model_id", "run_id"), ["x"] * n_rows)
    columns |= {"first_seen": [SEEN_AT] * n_rows, "confidence": [0.9, None, None][:n_rows]}
    columns |= {"description": pa.array(["a \x1b[31mhouse"] * n_rows)}
    squares = shapely.box([600_000, 600_200, 600_400][:n_rows], 0, [600_100, 600_300, 600_500][:n_rows], 100)
    frame = make_frame(columns, schema=CHANGES_SCHEMA, geometry=squares, crs="EPSG:32614")
    return encode_geoparquet(frame, schema=CHANGES_SCHEMA, order=order_along_hilbert(frame, key="change_id"))


def make_source(name: str, data: bytes) -> Source:
    tables = {"changes": partial(io.BytesIO, data)}
    return Source(name=name, kind="run", folder=RunFolder("/runs/mine"), tables=tables, coverage={}, facts={})


@pytest.fixture(scope="module")
def database() -> TableDatabase:
    return TableDatabase([make_source("mine", make_changes())])


def test_a_query_gives_plain_rows(database: TableDatabase) -> None:
    answer = database.query(
        "SELECT change_id, kind, confidence, first_seen, description, round(lon), round(lat) FROM mine.changes "
        "ORDER BY change_id LIMIT 2 -- the first two"
    )

    assert answer["columns"][:3] == ["change_id", "kind", "confidence"]
    (first, second) = answer["rows"]
    assert first == ["c0", "building", pytest.approx(0.9), "2026-06-20T15:45:00+00:00", "a house", -98.0, 0.0]
    assert second[2] is None
    assert answer["is_cut"] is False


def test_rows_beyond_those_asked_for_are_left_off(database: TableDatabase) -> None:
    answer = database.query("FROM range(1000000000000)", max_rows=2)

    assert (answer["rows"], answer["is_cut"]) == ([[0], [1]], True)


def test_one_source_needs_no_name_and_several_can_be_compared(database: TableDatabase) -> None:
    # The order is that of the query, whatever stands around it.
    backwards = database.query("SELECT i FROM range(200000) t(i) ORDER BY i DESC;", max_rows=2)
    two = TableDatabase([make_source("former", make_changes(2)), make_source("latter", make_changes(3))])

    assert database.query("SELECT count(*) FROM changes")["rows"] == [[3]]
    assert backwards["rows"] == [[199_999], [199_998]]
    joined = two.query("SELECT change_id FROM latter.changes ANTI JOIN former.changes USING (change_id)")
    assert joined["rows"] == [["c2"]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT 1 WHERE 1 IN (SELECT 1 FROM Main.Read_Blob('/etc/passwd'))",
        "WITH files AS (FROM glob('/*')) SELECT * FROM files",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM enable_profiling(format := 'json', save_location := '/tmp/told.json')",
        "SELECT * FROM enable_logging(storage := 'file', storage_path := '/tmp/told')",
        "SELECT * FROM query('SELECT 1')",
        "ATTACH '/tmp/x.db'",
        "COPY changes TO '/tmp/x.csv'",
        "EXPORT DATABASE '/tmp/x'",
        "INSTALL spatial",
        "LOAD spatial",
        "PRAGMA database_list",
        "SET memory_limit = '1TB'",
        "INSERT INTO changes SELECT * FROM changes",
        "CREATE TABLE other AS SELECT 1",
        "DROP TABLE changes",
        "SELECT 1; DROP TABLE changes",
        "SELECT 1; SELECT 2",
        "BEGIN",
        "",
        "SELECT",
        f"SELECT '{'x' * MAX_QUERY_CHARACTERS}'",
        "SELECT '\ud800'",
    ],
)
def test_what_does_more_than_read_the_tables_is_refused(database: TableDatabase, sql: str) -> None:
    with pytest.raises(QueryError):
        database.query(sql)

    assert database.query("SELECT count(*) FROM changes")["rows"] == [[3]]


def test_the_database_itself_is_shut_as_well(database: TableDatabase, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")

    for sql in (f"SELECT * FROM '{tmp_path}/secret.csv'", "SELECT getenv('HOME')", "FROM duckdb_settings()"):
        with pytest.raises(QueryError):
            database.query(sql)


def test_an_endless_query_can_be_interrupted(database: TableDatabase) -> None:
    timer = threading.Timer(0.2, database.interrupt)
    timer.start()

    with pytest.raises(QueryError, match="too long"):
        database.query("WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t")

    timer.join()
    assert database.query("SELECT 1")["rows"] == [[1]]


def test_more_memory_than_there_is_to_have_is_refused() -> None:
    database = TableDatabase([make_source("mine", make_changes())], max_bytes=2**26)

    with pytest.raises(QueryError, match="Memory"):
        database.query("SELECT string_agg(repeat('x', 1000000)) FROM range(1000)")


def test_long_texts_and_long_answers_are_cut() -> None:
    table = pa.table({"text": ["x" * 10_000] * 1_000})

    answer = gather_rows(table.to_reader(), max_rows=1_000)

    assert answer["is_cut"] is True
    assert len(answer["rows"]) < 60
    assert len(answer["rows"][0][0]) == MAX_CELL_CHARACTERS + 3


def test_values_that_json_does_not_have_become_such_that_it_has(database: TableDatabase) -> None:
    answer = database.query("SELECT 'nan'::FLOAT, 1.5::DECIMAL(4, 2), DATE '2026-01-02', {'a': [1, NULL]}")

    assert answer["rows"] == [[None, "1.50", "2026-01-02", {"a": [1, None]}]]


@pytest.mark.parametrize("value", ["'infinity'::TIMESTAMP", "DATE '290000-01-01'", "['-infinity'::TIMESTAMPTZ]"])
def test_a_date_that_python_does_not_have_is_told(database: TableDatabase, value: str) -> None:
    with pytest.raises(QueryError, match=r"out of range|magnitude"):
        database.query(f"SELECT {value}")

    assert database.query("SELECT 1")["rows"] == [[1]]


def test_a_damaged_table_is_told() -> None:
    with pytest.raises(InputError, match="changes of mine cannot be read"):
        TableDatabase([make_source("mine", b"PAR1 no more")])


def test_columns_come_with_their_meaning() -> None:
    told = describe_columns(partial(io.BytesIO, make_changes()))

    meanings = {column["name"]: column["meaning"] for column in told["columns"]}
    assert told["n_rows"] == 3
    assert meanings["kind"] == "What changed: building or road."
    assert "degrees" in meanings["lon"]
    assert all(meanings.values())
    assert "geometry" not in meanings

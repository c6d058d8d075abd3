"""Parquet files that are much larger in memory than they are on disk."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.tables.unpacked import TooLargeError, read_rows, read_table

WORDS = pa.array(["x" * 10_000])


def pack(table: pa.Table) -> pq.ParquetFile:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return pq.ParquetFile(pa.BufferReader(sink.getvalue()))


def repeat(n_rows: int) -> pa.Table:
    return pa.table({"note": WORDS.take(pa.array(np.zeros(n_rows, dtype=np.int64)))})


def test_a_value_that_stands_in_many_rows_is_counted_in_each() -> None:
    file = pack(repeat(1_000))

    rows = read_rows(file, most=1_000_000)
    with pytest.raises(TooLargeError, match="more than 1 MB, unpacked"):
        list(rows)


def test_what_is_packed_too_large_is_not_unpacked() -> None:
    random = np.random.default_rng(1).bytes(2_000_000)

    with pytest.raises(TooLargeError):
        read_table(pack(pa.table({"note": [random]})), most=1_000_000)


@pytest.mark.parametrize("n_rows", [0, 1, 99])
def test_a_file_within_its_limit_is_read_whole(n_rows: int) -> None:
    assert read_table(pack(repeat(n_rows)), most=1_000_000) == repeat(n_rows)

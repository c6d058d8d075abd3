"""How much the rows of a Parquet file take in memory: a value that stands once in the file may stand in every row."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_AT_ONCE = 1 << 16


class TooLargeError(OSError):
    """A file whose rows take more memory than they may."""


def read_rows(file: pq.ParquetFile, *, most: int) -> Iterator[pa.RecordBatch]:
    """Read the rows of a file, some at a time, as long as they are no more than they may be.

    Args:
        file: The file.
        most: Bytes that its rows may take in memory.

    Raises:
        TooLargeError: they take more.
        pyarrow.ArrowException, OSError: it is damaged.
    """
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    packed, n_bytes = sum(group.total_byte_size for group in groups), 0
    # No row is larger than all that is packed.
    n_rows = max(1, min(_ROWS_AT_ONCE, most // max(1, packed)))
    batches = file.iter_batches(batch_size=n_rows, use_threads=False) if packed <= most else iter(())
    for batch in batches:
        n_bytes += batch.nbytes
        if n_bytes > most:
            break
        yield batch
    if max(packed, n_bytes) > most:
        raise TooLargeError(f"more than {most / 1e6:.0f} MB, unpacked")


def read_table(file: pq.ParquetFile, *, most: int) -> pa.Table:
    """Read a file whole, as `read_rows` does."""
    return pa.Table.from_batches(read_rows(file, most=most), schema=file.schema_arrow)

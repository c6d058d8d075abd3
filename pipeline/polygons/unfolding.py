"""Small files of polygons that unfold into what fills memory or never ends: archives, packed columns, computed rows."""

from __future__ import annotations

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

from model.errors import InputError

MAX_BYTES = 1 << 29
"""Bytes that an archive or the columns of a GeoParquet file may take, unpacked."""
_SQLITE = b"SQLite format 3\0"
_ZIP = b"PK\3\4"


def check_unfolding(path: str, *, key: str) -> None:
    """Refuse a file that is much larger than it looks, before it is read.

    Args:
        path: The file; a folder, as of a file geodatabase, is as large as it looks.
        key: The setting that names it, for messages.

    Raises:
        InputError: so it is.
        Exception: it is damaged; each format brings its own kinds.
    """
    if not Path(path).is_file():
        return
    with Path(path).open("rb") as file:
        head = file.read(len(_SQLITE))
    if head == _SQLITE:
        _check_tables(path, key=key)
    elif head.startswith(_ZIP):
        _check_archive(path, key=key)


def check_columns(path: str, *, key: str) -> None:
    """Refuse a GeoParquet file whose columns are more than the limit, unpacked, or whose shapes are nested too deep.

    A value that stands once in the file may stand in a million rows, so the rows are looked through.

    Raises:
        InputError: so it is.
        Exception: it is damaged.
    """
    import pyarrow.parquet as pq

    from pipeline.tables.nested_shapes import has_nested
    from pipeline.tables.unpacked import TooLargeError, read_rows

    with pq.ParquetFile(path) as file:
        try:
            is_deep = any(has_nested(rows) for rows in read_rows(file, most=MAX_BYTES))
        except TooLargeError:
            raise _refuse_size(path, key=key) from None
    if is_deep:
        raise InputError(
            f"{key} {path} holds shapes within shapes within shapes",
            expected="polygons",
            remedy="draw what is meant as one or more polygons",
        )


def _check_archive(path: str, *, key: str) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise _refuse_size(path, key=key)
    if found := [member.filename for member in members if member.filename.lower().endswith((".gpkg", ".sqlite"))]:
        raise InputError(
            f"{key} {path} holds {found[0][:200]!r}",
            expected="a GeoPackage by itself",
            remedy="unpack it",
        )


def _check_tables(path: str, *, key: str) -> None:
    """Refuse a GeoPackage in which what is shown is computed, which may take for ever."""
    place = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(place, uri=True)) as base:
        pages = dict(base.execute("SELECT lower(name), rootpage FROM sqlite_master WHERE type IN ('table', 'view')"))
        shown = [str(row[0]) for row in base.execute("SELECT table_name FROM gpkg_contents")]
        for name in shown:
            # Neither a view nor a virtual table has pages of its own; columns that are computed count as hidden.
            is_stored = bool(pages.get(name.lower(), 1))
            columns = base.execute("SELECT hidden FROM pragma_table_xinfo(?)", [name]) if is_stored else ()
            if not is_stored or any(hidden for (hidden,) in columns):
                raise InputError(
                    f"{key} {path} shows {name[:200]!r}, which is computed when it is read",
                    expected="polygons in a table of their own",
                    remedy="write the layer to a file of its own, for example with ogr2ogr",
                )


def _refuse_size(path: str, *, key: str) -> InputError:
    return InputError(
        f"{key} {path} is more than {MAX_BYTES / 1e6:.0f} MB, unpacked",
        expected="less",
        remedy="take fewer columns or simpler polygons, or write them to a GeoPackage",
    )

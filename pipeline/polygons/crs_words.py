"""The words by which files of polygons name their CRS, looked at before GDAL makes a CRS of them.

PROJ opens the files that such words name. They stand in a file of their own, within an archive or a database, or in
JSON, where each letter may be written by its number.
"""

from __future__ import annotations

import mmap
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from model.errors import InputError
from pipeline.grid.projections import refuse_named_in_bytes
from pipeline.polygons.unfolding import MAX_BYTES

_ARCHIVES = (".zip", ".shz", ".kmz")
_ZIP, _SQLITE = b"PK\3\4", b"SQLite format 3\0"
_ESCAPED_LETTER = re.compile(rb"\\u00[0-7][0-9a-fA-F]|\\[/\"bfnrt]")


def check_crs_words(path: str, *, key: str) -> None:
    """Refuse a file of polygons with a CRS that names a file.

    Args:
        path: The file, or the folder of a file geodatabase.
        key: The setting that names it, for messages.

    Raises:
        InputError: there is one, or archives lie in an archive.
        Exception: the file is damaged; each format brings its own kinds.
    """
    place, named_by = Path(path), f"{key} {path}"
    if place.is_dir():
        for file in sorted(place.iterdir()):
            with _map(file) as words:
                # Two bytes a letter, in the tables of a file geodatabase.
                refuse_named_in_bytes(bytes(words).replace(b"\0", b""), named_by=named_by)
        return
    for file in (place, *(place.with_suffix(suffix) for suffix in (".prj", ".PRJ"))):
        with _map(file) as words:
            head = words[: len(_SQLITE)]
            if head == _SQLITE:
                _check_database(file, named_by=named_by)
            elif head.startswith(_ZIP):
                _check_members(file, named_by=named_by)
            else:
                _check_text(words, named_by=named_by)


@contextmanager
def _map(file: Path) -> Iterator[bytes | mmap.mmap]:
    """Give the bytes of a file as they are asked for; none of what is no file, or not there."""
    if not file.is_file() or not file.stat().st_size:
        yield b""
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as words:
        yield words


def _check_text(words: bytes | mmap.mmap, *, named_by: str) -> None:
    refuse_named_in_bytes(words, named_by=named_by)
    if _ESCAPED_LETTER.search(words) is None:
        return
    if len(words) > MAX_BYTES:
        raise InputError(
            f"{named_by} is of more than {MAX_BYTES / 1e6:.0f} MB, with letters written by their numbers",
            expected="less, or letters as they are",
            remedy="write it anew, for example with ogr2ogr",
        )
    refuse_named_in_bytes(_ESCAPED_LETTER.sub(_read_letter, words), named_by=named_by)


def _read_letter(found: re.Match[bytes]) -> bytes:
    escaped = found.group()
    if len(escaped) > 2:
        return bytes([int(escaped[2:], 16)])
    return escaped[1:] if escaped[1:] in b'/"' else b" "


def _check_members(file: Path, *, named_by: str) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as opened:
                # No more than it is said to hold, which was looked at.
                words = opened.read(member.file_size)
            if words.startswith(_ZIP) or member.filename.lower().endswith(_ARCHIVES):
                raise InputError(
                    f"{named_by} holds the archive {member.filename[:200]!r}",
                    expected="one archive with the files themselves",
                    remedy="unpack it",
                )
            _check_text(words.replace(b"\0", b"") if ".gdb/" in member.filename else words, named_by=named_by)


def _check_database(file: Path, *, named_by: str) -> None:
    """Look at the definitions in a GeoPackage as they are read: long ones lie in pieces in the file."""
    place = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(place, uri=True)) as base:
        names = [str(name) for (name,) in base.execute("SELECT name FROM pragma_table_info('gpkg_spatial_ref_sys')")]
        for row in base.execute("SELECT * FROM gpkg_spatial_ref_sys") if names else ():
            for value in row:
                words = value if isinstance(value, bytes) else str(value).encode()
                refuse_named_in_bytes(words, named_by=named_by)

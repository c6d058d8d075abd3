"""A finished report in other formats: for GIS programs, spreadsheets, and people who read Word."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import InputError
from model.extras import require_extra
from pipeline.report.qgis_project import PROBABILITY_TITLE
from pipeline.report.qgis_styles import read_style
from pipeline.runs.export_probability import PROBABILITY_FORMAT, check_masks, has_masks, name_in_item, plan_probability
from pipeline.runs.export_qgis import (
    PICTURE_FILES,
    PROJECT_FILE,
    QGIS_FOLDER,
    TABLES_FILE,
    plan_pictures,
    title_pictures,
    write_project,
)
from pipeline.runs.read import check_unchanged, read_accuracy
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import ACCURACY_NAME, CHANGES_NAME, PROBABILITY_NAME, TILES_NAME, ZONES_NAME
from pipeline.storage.opening import find_run_folder
from pipeline.storage.plain_files import PlainFiles
from pipeline.tables.nested_shapes import read_frame
from pipeline.tables.vector_formats import VECTOR_FORMATS, VectorFormat, write_layer, write_style

SUMMARY_FORMAT = "docx"
QGIS_FORMAT = "qgis"
FORMATS = (*VECTOR_FORMATS, QGIS_FORMAT, PROBABILITY_FORMAT, SUMMARY_FORMAT)
"""Names of all formats."""

FORMATS_FOLDER = "formats"
"""Where they go in the folder of the run, if nowhere else."""

_NAMES = {"tiles": TILES_NAME, "changes": CHANGES_NAME, "zones": ZONES_NAME}
_STYLE_SUFFIX = ".qml"
_STEM = "report"
_SUMMARY_FILE = f"{_STEM}.{SUMMARY_FORMAT}"
_PROJECT_LAYERS = "gpkg"
# ^ Format of the tables beside a project.
_SUFFIXES = frozenset(
    {
        f".{SUMMARY_FORMAT}",
        Path(PROJECT_FILE).suffix,
        Path(PROBABILITY_NAME).suffix,
        *(kind.suffix for kind in VECTOR_FORMATS.values()),
    }
)


OpenTable = Callable[[], AbstractContextManager[Any]]
"""Opens the GeoParquet file of a table."""


def list_files(
    name: str, *, tables: Sequence[str], rasters: Sequence[str] = (PROBABILITY_NAME,)
) -> dict[str, list[str]]:
    """Name the files of a format, each with the tables that it holds.

    Args:
        name: One of `FORMATS`.
        tables: Names of the tables that there are.
        rasters: Names of the rasters of probability, one per CRS.
    """
    if name == SUMMARY_FORMAT:
        return {_SUMMARY_FILE: list(tables)}
    if name == PROBABILITY_FORMAT:
        return {raster: list(tables) for raster in rasters}
    if name == QGIS_FORMAT:
        # A region has no pictures of its own.
        pictures = [*PICTURE_FILES.values(), *rasters] if "tiles" in tables else []
        files = {PROJECT_FILE: list(tables), TABLES_FILE: list(tables), **{picture: [] for picture in pictures}}
        return {f"{QGIS_FOLDER}/{file}": held for file, held in files.items()}
    kind = VECTOR_FORMATS[name]
    if kind.has_layers:
        return {f"{_STEM}{kind.suffix}": list(tables)}
    styles = {f"{table}{_STYLE_SUFFIX}": [table] for table in tables} if kind.styles == "beside" else {}
    return {f"{table}{kind.suffix}": [table] for table in tables} | styles


def export_report(uri: str, *, formats: Sequence[str], output: str | None = None) -> list[str]:
    """Write a finished run's report in other formats.

    Args:
        uri: Folder of the run.
        formats: Some of `FORMATS`.
        output: Local folder to write to, made if it is not there, or a file's name where one format makes one file;
            None: `FORMATS_FOLDER` in the run's folder.

    Returns:
        Paths or URIs of the files.

    Raises:
        InputError: the run has not ended, a format is not known or its extra is missing, or the place does not fit or
            cannot be written to.
    """
    check_formats(formats, known=FORMATS)
    if SUMMARY_FORMAT in formats:
        require_extra("docx", use=f"--format {SUMMARY_FORMAT}")
    folder = find_run_folder(uri)
    record = read_record(folder)
    tables = open_tables(record, folder=folder)
    if PROBABILITY_FORMAT in formats:
        check_masks(record, uri=folder.uri)
    rasters = plan_probability(record, folder=folder) if has_masks(record) else {}
    pictures = plan_pictures(record, folder=folder) | rasters
    titles = title_pictures(record) | dict.fromkeys(rasters, PROBABILITY_TITLE)
    written = write_formats(
        formats,
        tables=tables,
        folder=folder,
        output=output,
        writers={
            _SUMMARY_FILE: partial(_write_summary, folder=folder, record=record),
            **plan_project(f"Changes, run {record.run_id}", tables=tables, pictures=titles),
            **{f"{QGIS_FOLDER}/{name}": write for name, write in pictures.items()},
            **rasters,
        },
        rasters=[*rasters],
    )
    if PROBABILITY_FORMAT in formats and output is None:
        name_in_item(folder, place=f"{FORMATS_FOLDER}/{PROBABILITY_NAME}")
    return written


def plan_project(
    title: str, *, tables: Mapping[str, OpenTable], pictures: Mapping[str, str]
) -> dict[str, Callable[[Path], None]]:
    """Give what writes the project for QGIS, by the name of its file, for `write_formats`.

    Args:
        title: Title of the project.
        tables: What opens the tables, by their names.
        pictures: Titles of the pictures beside it, by the names of their files.
    """
    write = partial(write_project, title=title, tables=tables, pictures=pictures)
    return {f"{QGIS_FOLDER}/{PROJECT_FILE}": write}


def open_tables(record: RunRecord, *, folder: RunFolder) -> dict[str, OpenTable]:
    """Give what opens each table of a run's report, by their names: tiles, changes, and zones where there are any.

    Raises:
        InputError: one is gone, or other than the run has left.
    """
    names = {table: name for table, name in _NAMES.items() if name in record.files}
    for name in names.values():
        check_unchanged(record, folder=folder, name=name)
    return {table: partial(folder.open_file, name) for table, name in names.items()}


def check_formats(formats: Sequence[str], *, known: Collection[str]) -> None:
    """Refuse what is no format.

    Raises:
        InputError: one of them is not known.
    """
    if unknown := sorted(set(formats) - set(known)):
        raise InputError(
            f"format {unknown[0]!r} is not known", expected=f"one of {', '.join(known)}", remedy="correct --format"
        )


def write_formats(
    formats: Sequence[str],
    *,
    tables: Mapping[str, OpenTable],
    folder: RunFolder,
    output: str | None,
    writers: Mapping[str, Callable[[Path], None]] = MappingProxyType({}),
    rasters: Sequence[str] = (),
) -> list[str]:
    """Write tables in other formats.

    Args:
        formats: Names of formats, which are known.
        tables: The tables by their names.
        folder: Folder whose tables they are.
        output: As of `export_report`.
        writers: What writes files that are more than tables, by their names.
        rasters: Names of those that are rasters of probability.

    Returns:
        Paths or URIs of the files.

    Raises:
        InputError: a table cannot be read, or the place does not fit or cannot be written to.
    """
    files = {
        file: (name, held)
        for name in dict.fromkeys(formats)
        for file, held in list_files(name, tables=[*tables], rasters=rasters).items()
    }
    places = choose_places(list(files), output=output)
    written = []
    for file, (name, held) in files.items():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, Path(file).name)
            try:
                if file in writers:
                    writers[file](path)
                else:
                    kind = VECTOR_FORMATS[_PROJECT_LAYERS if name == QGIS_FORMAT else name]
                    _write_file(path, kind=kind, tables={table: tables[table] for table in held})
            except (FileNotFoundError, pa.ArrowInvalid) as problem:
                raise InputError(
                    f"a table of {folder.uri} cannot be read ({problem})",
                    expected=f"the tables {', '.join(held)} as they were written",
                    remedy="write them anew: with `deltavlm report RUN`, or by a pass over the region",
                ) from None
            written.append(_hand_over(path, name=file, place=places.get(file), folder=folder))
    return written


def choose_places(files: Sequence[str], *, output: str | None) -> dict[str, Path]:
    """Decide where each file goes; nowhere named: into the folder of the run.

    Args:
        files: Their names.
        output: What was named: a folder, or the one file.

    Raises:
        InputError: it is the name of a file, and there are several, or one of another format.
    """
    if output is None:
        return {}
    place = Path(output).expanduser()
    # A folder may have a dot in its name, such as reports/v1.2.
    if place.suffix.lower() not in _SUFFIXES or place.is_dir():
        return {file: place / file for file in files}
    if len(files) > 1 or place.suffix.lower() != Path(files[0]).suffix:
        raise InputError(
            f"--output {output} is the name of one file; there are to be {', '.join(files)}",
            expected="a folder, or the name of the one file with the suffix of its format",
            remedy="name a folder, or one --format that makes one file",
        )
    return {files[0]: place}


def _write_file(path: Path, *, kind: VectorFormat, tables: Mapping[str, OpenTable]) -> None:
    for table, open_table in tables.items():
        if path.suffix == _STYLE_SUFFIX:
            path.write_text(read_style(table), encoding="utf-8")
            continue
        with open_table() as source:
            write_layer(source, path, layer=table, kind=kind)
        if kind.styles == "table":
            write_style(path, read_style(table), layer=table)


def _write_summary(path: Path, *, folder: RunFolder, record: RunRecord) -> None:
    # Not before it is asked for: it brings matplotlib.
    from pipeline.runs.export_docx import make_summary, read_ground

    tables = open_tables(record, folder=folder)
    with tables["tiles"]() as source:
        tiles = pq.read_table(
            source, columns=["row", "col", "status", "valid_fraction", "is_changed", "model_fit"]
        ).to_pandas()
    frames: dict[str, gpd.GeoDataFrame] = {}
    for table in ("changes", "zones"):
        if table in tables:
            with tables[table]() as source:
                frames[table] = read_frame(source.read())
    accuracy = read_accuracy(folder) if ACCURACY_NAME in record.files else None
    picture = read_ground(restore_store(record, folder=folder), tiles=tiles)
    path.write_bytes(
        make_summary(
            record,
            tiles=tiles,
            changes=frames["changes"],
            zones=frames.get("zones"),
            picture=picture,
            accuracy=accuracy,
        )
    )


def _hand_over(path: Path, *, name: str, place: Path | None, folder: RunFolder) -> str:
    """Put a finished file where it belongs; a former one is replaced at once."""
    if place is None:
        folder.put_file(f"{FORMATS_FOLDER}/{name}", path)
        return folder.join(f"{FORMATS_FOLDER}/{name}")
    try:
        # A link of that name is replaced, and not written through.
        PlainFiles(str(place.parent), is_made=False).put(place.name, path)
    except OSError as problem:
        raise InputError(
            f"--output {place} cannot be written ({problem.strerror})",
            expected="a folder that can be written to",
            remedy="choose another --output",
        ) from None
    return str(place)

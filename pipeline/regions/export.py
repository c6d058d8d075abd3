"""A region's events, changes and zones in other formats: one layer each, though changes lie in a file per pair."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import pandas as pd

from model.errors import InputError
from pipeline.regions.export_probability import name_in_collection, plan_region_probability
from pipeline.regions.record import REGION_NAME, read_file_facts
from pipeline.regions.schemas import LATER_COLUMNS, make_region_changes_schema
from pipeline.regions.tables import CHANGES_FOLDER, EVENTS_NAME, ZONE_SUMS_NAME, choose_told
from pipeline.runs.export import FORMATS_FOLDER, QGIS_FORMAT, OpenTable, check_formats, plan_project, write_formats
from pipeline.runs.export_probability import PROBABILITY_FORMAT
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import find_run_folder
from pipeline.tables.geoparquet import encode_geoparquet, order_along_hilbert
from pipeline.tables.nested_shapes import read_frame
from pipeline.tables.vector_formats import VECTOR_FORMATS


def is_region(uri: str) -> bool:
    """Tell whether a folder is that of a region whose report is whole."""
    return find_run_folder(uri).has(REGION_NAME)


def export_region(uri: str, *, formats: Sequence[str], output: str | None = None) -> list[str]:
    """Write what a region tells in other formats.

    Args:
        uri: Folder of the region.
        formats: Names of formats of GIS programs and spreadsheets.
        output: As of `export_report`.

    Returns:
        Paths or URIs of the files.

    Raises:
        InputError: a format is not known or none for regions, a table cannot be read, or the place does not fit or
            cannot be written to.
    """
    check_formats(formats, known=[*VECTOR_FORMATS, QGIS_FORMAT, PROBABILITY_FORMAT])
    folder = find_run_folder(uri)
    tables = open_region_tables(folder)
    project = plan_project("Changes of a region", tables=tables, pictures={})
    rasters = plan_region_probability(folder) if PROBABILITY_FORMAT in formats else {}
    written = write_formats(
        formats, tables=tables, folder=folder, output=output, writers={**project, **rasters}, rasters=[*rasters]
    )
    if rasters and output is None:
        name_in_collection(folder, places=[f"{FORMATS_FOLDER}/{name}" for name in rasters])
    return written


def open_region_tables(folder: RunFolder) -> dict[str, OpenTable]:
    """Give what opens the changes of all pairs that a region tells, as one table, its events, and the zones of blocks.

    Raises:
        InputError: the region tells no events.
    """
    names = sorted(read_file_facts(folder))
    if EVENTS_NAME not in names:
        raise InputError(
            f"{folder.uri} has no {EVENTS_NAME}",
            expected="a region whose report tells events",
            remedy="make a pass over it with `deltavlm monitor` first",
        )
    tables: dict[str, OpenTable] = {"events": partial(folder.open_file, EVENTS_NAME)}
    if ZONE_SUMS_NAME in names:
        tables["zones"] = partial(folder.open_file, ZONE_SUMS_NAME)
    parts = [name for name in names if name.startswith(f"{CHANGES_FOLDER}/")]
    if parts:
        tables = {"changes": lambda: io.BytesIO(_join_changes(parts, folder=folder)), **tables}
    return tables


def _join_changes(names: Sequence[str], *, folder: RunFolder) -> bytes:
    frames = [choose_told(read_frame(folder.read(name))) for name in names]
    joined = pd.concat(frames, ignore_index=True)
    schema = make_region_changes_schema(is_reviewed="review" in joined)
    joined = joined.assign(**{name: None for name in LATER_COLUMNS if name not in joined})[schema.names]
    keyed = joined.assign(key=joined["pair_id"] + "/" + joined["change_id"])
    return encode_geoparquet(joined, schema=schema, order=order_along_hilbert(keyed, key="key"))

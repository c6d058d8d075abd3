"""A report as a folder that QGIS opens: a project, the tables in a GeoPackage, and what both dates show as COGs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyproj
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterWindow

from model.errors import InputError
from pipeline.grid.window import UInt8Array
from pipeline.report.qgis_project import Place, make_project
from pipeline.runs.record import RunRecord
from pipeline.runs.restore import restore_store
from pipeline.scenes.pair import DATES
from pipeline.storage.folder import RunFolder
from pipeline.tiles.store import TileStore

QGIS_FOLDER = "qgis"
"""Folder of the files."""
TABLES_FILE, PROJECT_FILE = "report.gpkg", "report.qgz"
PICTURE_FILES = {"after": "after.tif", "before": "before.tif"}
"""By date, from top to bottom of the map."""

_BLOCK_PX = 512
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def write_project(
    path: Path,
    *,
    title: str,
    tables: Mapping[str, Callable[[], AbstractContextManager[Any]]],
    pictures: Mapping[str, str],
) -> None:
    """Write the project file.

    Args:
        path: Where to.
        title: Title of the project.
        tables: What opens the tables, by their names.
        pictures: As of `make_project`.
    """
    places = [_read_place(open_table) for open_table in tables.values()]
    # A table without rows is nowhere.
    bounds = np.array([place.bounds for place in places if np.isfinite(place.bounds).all()]).reshape(-1, 4)
    left, bottom = bounds[:, :2].min(axis=0, initial=np.inf).tolist()
    right, top = bounds[:, 2:].max(axis=0, initial=-np.inf).tolist()
    place = Place(crs=places[0].crs, bounds=(left, bottom, right, top))
    path.write_bytes(
        make_project(title=title, tables=[*tables], tables_file=TABLES_FILE, pictures=pictures, place=place)
    )


def _read_place(open_table: Callable[[], AbstractContextManager[Any]]) -> Place:
    with open_table() as source, pq.ParquetFile(source) as file:
        told = json.loads(file.metadata.metadata[b"geo"])["columns"]["geometry"]
    bounds = told.get("bbox") or [np.nan] * 4
    return Place(crs=pyproj.CRS.from_json_dict(told["crs"]), bounds=(bounds[0], bounds[1], bounds[2], bounds[3]))


def plan_pictures(record: RunRecord, *, folder: RunFolder) -> dict[str, Callable[[Path], None]]:
    """Give what writes the picture of each date, by the names in `PICTURE_FILES`."""
    store = restore_store(record, folder=folder)
    return {
        name: partial(write_picture, store=store, date=date, moment=record.inputs[date]["datetime"])
        for date, name in PICTURE_FILES.items()
    }


def title_pictures(record: RunRecord) -> dict[str, str]:
    """Give titles of the pictures, by their names."""
    days = {date: (record.inputs[date]["datetime"] or "").partition("T")[0] for date in PICTURE_FILES}
    return {name: f"{date.capitalize()} {days[date]}".rstrip() for date, name in PICTURE_FILES.items()}


def write_picture(path: Path, *, store: TileStore, date: str, moment: str | None) -> None:
    """Write what one date shows as a COG of red, green, blue and opacity, a shard of the tile store at a time.

    Args:
        path: Where to.
        store: The tile store; shards that could not be written stay empty.
        date: ``before`` or ``after``.
        moment: When it was taken, ISO 8601; None: nobody knows.

    Raises:
        InputError: the tile store is gone, or cannot be read.
    """
    grid = store.grid
    height, width = grid.shape_px
    profile = {"height": height, "width": width, "count": 4, "dtype": "uint8", "crs": grid.crs}
    layout = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "compress": "DEFLATE", "zlevel": 1}
    with tempfile.TemporaryDirectory() as scratch:
        # GDAL writes a COG from a whole raster alone.
        whole = Path(scratch, "whole.tif")
        with rasterio.open(
            whole, "w", driver="GTiff", transform=grid.transform, BIGTIFF="IF_SAFER", **profile, **layout
        ) as raster:
            raster.colorinterp = _COLOURS
            if moment is not None:
                raster.update_tags(ACQUISITION_DATETIME=moment)
            for top, left, pixels in _read_shards(store, date=date):
                _, rows, cols = pixels.shape
                raster.write(pixels, window=RasterWindow(left, top, cols, rows))
        rasterio.shutil.copy(
            whole,
            path,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=_BLOCK_PX,
            overview_resampling="AVERAGE",
            bigtiff="IF_SAFER",
        )


def _read_shards(store: TileStore, *, date: str) -> Iterator[tuple[int, int, UInt8Array]]:
    """Give the pixels of each shard with the row and column of its first: uint8 (band=4, y, x), opacity last."""
    grid, side, index = store.grid, store.shard_size_tiles, DATES.index(date)
    for row in range(-(-grid.n_rows // side)):
        for col in range(-(-grid.n_cols // side)):
            if (row, col) in store.failed_shards:
                continue
            try:
                window, pixels, is_valid = store.read_shard((row, col))
            except FileNotFoundError:
                raise InputError(
                    f"{store.folder.uri} has no pixels any more",
                    expected="a run with its tile store",
                    remedy="choose a format without pictures, or run `deltavlm run` again with this --output",
                ) from None
            opacity = np.where(is_valid[index], 255, 0).astype(np.uint8)
            yield window.top, window.left, np.concatenate([pixels[index], opacity[np.newaxis]])

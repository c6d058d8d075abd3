"""What a run holds, for notebooks and for programs that go on with it: all tiles as xarray, or one tile's pixels."""

from __future__ import annotations

import re
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rioxarray  # noqa: F401 - brings the accessor `.rio`, which knows the CRS
import xarray as xr

from model.errors import InputError
from model.sealing import unseal
from pipeline.accuracy.assess import FORMAT_VERSION
from pipeline.grid.grid import Grid
from pipeline.grid.window import UInt8Array
from pipeline.runs.record import RECORD_NAME, RunRecord
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import ACCURACY_NAME, STORE_NAME, TILES_NAME
from pipeline.storage.object_facts import describe_stream
from pipeline.storage.opening import find_run_folder
from pipeline.tables.nested_shapes import read_frame
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.marks import find_whole_shards
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile


def open_tiles(run: str) -> xr.Dataset:
    """Open the tile store of a run lazily, georeferenced, one Dask chunk per shard.

    Args:
        run: Folder of the run, or its ``s3://`` URI.

    Returns:
        ``pixels`` (date=2, band=3, y, x) and ``valid`` (date=2, y, x), both uint8; ``.rio.crs`` is the grid's CRS.

    Raises:
        InputError: there is no such folder, or it holds no tile store.
    """
    folder = find_run_folder(run)
    if not folder.has(f"{STORE_NAME}/zarr.json"):
        raise InputError(f"{run} holds no {STORE_NAME}", expected="the folder of a run", remedy="correct the path")
    # Left to itself, xarray makes a chunk of every tile, where reading a shard costs no more than reading a tile; and
    # it would turn bytes into floats to make room for a missing value that `valid` speaks of already.
    dataset: xr.Dataset = xr.open_zarr(
        folder.open_zarr_store(STORE_NAME), consolidated=False, mask_and_scale=False, chunks=None, decode_coords="all"
    )
    shards = dataset["pixels"].encoding["shards"]
    chunked: xr.Dataset = dataset.chunk(dict(zip(dataset["pixels"].dims, shards, strict=True)))
    return chunked


_UNSEEN = {TileStatus.NO_DATA, TileStatus.OUTSIDE, TileStatus.CLOUDY}


def read_tile_pair(run: str, tile_id: str) -> UInt8Array:
    """Read one tile of a finished run, the very pixels that its model saw.

    Args:
        run: Folder of the run.
        tile_id: Name of the tile, such as ``r0012_c0034``.

    Returns:
        uint8 (date=2, band=3, y, x); what is not valid on both dates is 0 on both.

    Raises:
        InputError: there is no such run or tile, the run did not look at it, or its pixels are gone.
    """
    folder = find_run_folder(run)
    record = read_record(folder)
    store = restore_store(record, folder=folder)
    row, col = _find_tile(tile_id, grid=store.grid, run=run)
    finding = _read_report(folder, columns=["tile_id", "status", "reason"], tile_id=tile_id)[0]
    if finding["status"] in _UNSEEN:
        raise InputError(
            f"tile {tile_id} of {run} has the status {finding['status']} ({finding['reason']})",
            expected="a tile that the run looked at",
            remedy="choose a tile whose status in tiles.parquet is analysed",
        )
    _check_pixels(store, row=row, col=col, run=run)
    tile = Tile(row=row, col=col, tile_id=tile_id, valid_fraction=1.0, status=None, reason="")
    pair: UInt8Array = store.read_pairs([tile])[0]
    return pair


def read_tile_row(run: str, tile_id: str) -> dict[str, Any]:
    """Read what a finished run tells of one tile: its row of ``tiles.parquet``, without geometry.

    Raises:
        InputError: there is no such run or tile, or the run's report is gone.
    """
    folder = find_run_folder(run)
    record = read_record(folder)
    _find_tile(tile_id, grid=Grid.from_dict(record.grid), run=run)
    return _read_report(folder, columns=None, tile_id=tile_id)[0]


def list_changed_tiles(run: str) -> list[str]:
    """List the ids of the changed tiles of a finished run, those with most changed buildings first.

    Raises:
        InputError: there is no such run, or its report is gone.
    """
    folder = find_run_folder(run)
    read_record(folder)
    rows = _read_report(folder, columns=["tile_id", "is_changed", "building_count"])
    changed = [row for row in rows if row["is_changed"]]
    return [row["tile_id"] for row in sorted(changed, key=lambda row: -(row["building_count"] or 0))]


def read_table(folder: RunFolder, name: str) -> gpd.GeoDataFrame:
    """Read a table of a finished run's report, or of a region, whole.

    Raises:
        InputError: it is gone, damaged or other than the run has left.
    """
    if folder.has(RECORD_NAME):
        check_unchanged(read_record(folder), folder=folder, name=name)
    try:
        return read_frame(folder.read(name))
    except (OSError, ValueError, pa.ArrowException) as problem:
        raise _miss_table(folder, name, problem) from None


def check_unchanged(record: RunRecord, *, folder: RunFolder, name: str) -> None:
    """Refuse a file that somebody has changed since the run told of it in ``run.json``.

    Raises:
        InputError: somebody has, or it is gone.
    """
    told = record.files.get(name)
    if told is None:
        return
    try:
        with folder.open_file(name) as file:
            found = describe_stream(file)
    except OSError as problem:
        raise _miss_table(folder, name, problem) from None
    if found["sha256"] != told["sha256"]:
        raise InputError(
            f"{folder.join(name)} is other than the run has left: its sha256 is not that of {RECORD_NAME}",
            expected="the report that the run has left",
            remedy="make it anew with `deltavlm report`",
        )


def _miss_table(folder: RunFolder, name: str, problem: Exception) -> InputError:
    return InputError(
        f"{folder.join(name)} cannot be read ({problem})",
        expected="the report that the run has left",
        remedy="make it anew with `deltavlm report`",
    )


def read_accuracy(folder: RunFolder) -> dict[str, Any]:
    """Read the ``accuracy.json`` of a run or a region.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is damaged.
    """
    try:
        values = unseal(folder.read(ACCURACY_NAME))
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {values['format_version']}")
        return values
    except (ValueError, KeyError, TypeError) as problem:
        raise InputError(
            f"{folder.join(ACCURACY_NAME)} cannot be read ({problem})",
            expected="what `deltavlm assess` wrote there",
            remedy="make it anew with `deltavlm report`",
        ) from None


def _find_tile(tile_id: str, *, grid: Grid, run: str) -> tuple[int, int]:
    """Give row and column of a tile by its id."""
    expected = f"one of the tiles {grid.tile_id(0, 0)} to {grid.tile_id(grid.n_rows - 1, grid.n_cols - 1)}"
    words = re.fullmatch(r"r(\d{1,9})_c(\d{1,9})", tile_id)
    if words is None:
        raise InputError(
            f"{tile_id!r} is no tile of {run}", expected=expected, remedy="take an id from the report or its map"
        )
    row, col = min(int(words[1]), grid.n_rows - 1), min(int(words[2]), grid.n_cols - 1)
    if grid.tile_id(row, col) != tile_id:
        raise InputError(
            f"tile {tile_id} is not in {run}", expected=expected, remedy=f"the nearest is {grid.tile_id(row, col)}"
        )
    return row, col


def _read_report(folder: RunFolder, *, columns: list[str] | None, tile_id: str | None = None) -> list[dict[str, Any]]:
    """Read some columns of ``tiles.parquet``, or all that hold no geometry, of all tiles or of one."""
    try:
        with pq.ParquetFile(folder.open_file(TILES_NAME)) as file:
            if columns is None:
                columns = [name for name in file.schema_arrow.names if name not in {"geometry", "bbox"}]
            # In this thread: threads of Arrow's own hold on to a file of Python's, and abort a program that ends.
            table = file.read(columns=columns, use_threads=False)
        if tile_id is not None:
            table = table.filter(pc.field("tile_id") == tile_id)
            if table.num_rows != 1:
                raise pa.ArrowInvalid(f"{table.num_rows} rows of tile {tile_id}")
    except (OSError, pa.ArrowException) as problem:
        raise _miss_table(folder, TILES_NAME, problem) from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _check_pixels(store: TileStore, *, row: int, col: int, run: str) -> None:
    """Refuse a tile whose shard was not written or is gone: it would read as black."""
    size = store.shard_size_tiles
    shard = row // size, col // size
    if shard in store.failed_shards or not find_whole_shards(
        store.folder, [shard], content_key=store.content_key, shard_size_tiles=size
    ):
        why = store.failed_shards.get(shard, "its shard of the tile store is gone")
        raise InputError(
            f"tile {store.grid.tile_id(row, col)} of {run} has no pixels ({why})",
            expected="a tile store that holds it",
            remedy="run `deltavlm run` again with this --output: it writes what is missing",
        )

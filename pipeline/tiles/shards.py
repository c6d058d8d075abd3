"""Shards of the tile store: the arrays they lie in, how one is written whole, and the mark that proves it.

A shard is the unit of write. One task reads a shard's pixels of both dates, writes them in one piece, reads
them back and only then puts a small JSON file, the mark, whose name is a hash of what the shard holds. A shard
without a mark is written again, whatever is on disk; a shard with one is never touched. The mark also keeps
what the pixels tell about each tile and a small view of them, so that nobody reads them again to find the tiles
worth a look or to draw a map of the region, and a checksum of each, as a worker of a run that was cut off may still
write after it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyproj
import zarr
import zarr.storage
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype

from model.errors import FolderError, InputError
from pipeline.config.limits import LimitsConfig, use_limits
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, UInt8Array, Window
from pipeline.scenes.pair import DATES, ScenePair
from pipeline.scenes.scene import Scene
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import STORE_NAME, is_run_file
from pipeline.summary import StageSummary
from pipeline.tiles.made_of import describe_dates, describe_unread
from pipeline.tiles.marks import (
    MARKS_FOLDER,
    TileFacts,
    describe_empty_shard,
    describe_shard,
    encode_mark,
    list_tiles_of_shard,
    name_mark,
)
from pipeline.workers.outcomes import call_in_time

_ZSTD_LEVEL = 3
_CONCURRENCY = 4
# ^ Every worker process brings its own event loop and threads; zarr's default is for a process alone.


def open_store(folder: RunFolder) -> zarr.Group:
    """Open the store of a run to read it.

    Raises:
        FileNotFoundError: there is none.
    """
    # Of a stated format, as zarr would otherwise ask for the files of older ones, one request each.
    return zarr.open_group(folder.open_zarr_store(STORE_NAME), mode="r", zarr_format=3)


def create_store(folder: RunFolder, pair: ScenePair, *, shard_size_tiles: int) -> None:
    """Make the empty arrays of a pair with coordinates and CRS, after removing the store that was there.

    The description of the whole comes last: a store without it was left half-made.

    Raises:
        FolderError: the folder cannot be written to.
    """
    # Marks first: a mark must never outlive the shard that it speaks of.
    folder.delete([name for name in folder.list_names(MARKS_FOLDER) if is_run_file(name)])
    delete_store(folder)
    _put_objects(folder, _make_empty_store(pair, shard_size_tiles=shard_size_tiles))


def delete_store(folder: RunFolder) -> None:
    """Remove the objects of a store; what else may lie in its folder stays."""
    folder.delete([name for name in folder.list_names(STORE_NAME) if is_run_file(name)])


def _put_objects(folder: RunFolder, objects: Mapping[str, bytes]) -> None:
    for name in sorted(objects, key=lambda name: name == "zarr.json"):
        folder.put(f"{STORE_NAME}/{name}", objects[name])


def _make_empty_store(pair: ScenePair, *, shard_size_tiles: int) -> dict[str, bytes]:
    objects: dict[str, Buffer] = {}
    grid, side = pair.grid, shard_size_tiles * pair.grid.stride_px
    tile = pair.grid.stride_px
    group = zarr.open_group(zarr.storage.MemoryStore(objects), mode="w", zarr_format=3)
    for name, dims, leading in (
        ("pixels", ("date", "band", "y", "x"), (2, 3)),
        ("valid", ("date", "y", "x"), (2,)),
    ):
        group.create_array(
            name,
            shape=(*leading, *grid.shape_px),
            shards=(*leading, side, side),
            chunks=(*leading, tile, tile),
            dtype="uint8",
            fill_value=0,
            compressors=ZstdCodec(level=_ZSTD_LEVEL),
            dimension_names=dims,
            attributes={"grid_mapping": "spatial_ref", "coordinates": "spatial_ref datetime"},
        )
    _write_coordinates(group, grid)
    _describe_scenes(group, pair)
    group.attrs.update({"content_key": pair.content_key, "shard_size_tiles": shard_size_tiles})
    return {name: data.to_bytes() for name, data in objects.items()}


def describe_store(folder: RunFolder, pair: ScenePair, *, shard_size_tiles: int) -> None:
    """Put what describes a store, where something else is there: damage, or other words about the same scenes."""
    objects = _make_empty_store(pair, shard_size_tiles=shard_size_tiles)
    found = folder.read_many(f"{STORE_NAME}/{name}" for name in objects)
    _put_objects(
        folder, {name: data for (name, data), former in zip(objects.items(), found, strict=True) if data != former}
    )


def _describe_scenes(group: zarr.Group, pair: ScenePair) -> None:
    scenes = {date: _describe_scene(getattr(pair, date)) for date in DATES}
    # As texts: netCDF, which xarray writes stores as, knows no attributes in attributes.
    told = {"scenes": json.dumps(scenes), "stretch": json.dumps(pair.stretch.to_dict())}
    moments = [getattr(pair, date).datetime or "" for date in DATES]
    _put_strings(group, "datetime", moments, dimension="date")
    group.attrs.update({"title": "Tiles of two scenes of one area", **told})


class SlowSceneError(InputError):
    """A scene that could not be read for longer than its server may be silent."""


def write_shard_in_time(
    folder: RunFolder, pair: ScenePair, shard_size_tiles: int, shard_row: int, shard_col: int, limits: LimitsConfig
) -> StageSummary:
    """Do as `write_shard` does, or fail in time; the body of a Dask task.

    Raises:
        SlowSceneError: a scene could not be read, or the shard not be written, and it took long to find out.
        InputError: as of `write_shard`.
    """
    start = time.monotonic()
    write = partial(write_shard, folder, pair, shard_size_tiles, shard_row, shard_col)
    try:
        with use_limits(limits):
            return call_in_time(write, limit_s=limits.shard_s, what=f"shard {(shard_row, shard_col)}")
    except TimeoutError as problem:
        raise SlowSceneError(
            str(problem), expected="less than limits.shard_s", remedy="raise it, or run again"
        ) from None
    except FolderError:
        raise
    except InputError as problem:
        if time.monotonic() - start < limits.server_silence_s:
            raise
        raise SlowSceneError(problem.found, expected=problem.expected, remedy=problem.remedy) from None


def write_shard(
    folder: RunFolder, pair: ScenePair, shard_size_tiles: int, shard_row: int, shard_col: int
) -> StageSummary:
    """Write one whole shard of both dates, read it back and put its mark.

    Raises:
        InputError: a scene cannot be read.
        FolderError: the store cannot be written to.
        OSError: what comes back from the store is not what was written, or the store is another pair's by now.
    """
    start = time.perf_counter()
    shard, grid = (shard_row, shard_col), pair.grid
    ys, xs = _find_extent(grid, shard, shard_size_tiles=shard_size_tiles)
    window = Window(ys.start, xs.start, ys.stop - ys.start, xs.stop - xs.start)
    blocks = [pair.read_block(date, window=window) for date in DATES]
    notes = describe_unread(blocks)
    tiles = list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)
    with folder.clear_errors(), zarr.config.set({"async.concurrency": _CONCURRENCY}):
        group = open_store(folder)
    if group.attrs.get("content_key") != pair.content_key:
        raise OSError(f"{folder.join(STORE_NAME)} is the store of another pair by now; this shard is not written")
    if all(block.is_empty for block in blocks):
        objects: dict[str, bytes | None] = dict.fromkeys(_list_objects(shard))
        mark = describe_empty_shard(len(tiles), has_classes=pair.has_classes, tile_size_px=grid.stride_px)
    else:
        pixels, is_valid = (np.stack([getattr(block, name) for block in blocks]) for name in ("pixels", "is_valid"))
        is_cloudy = np.logical_or(*(block.is_cloudy for block in blocks)) if pair.has_classes else None
        dates = describe_dates(blocks, pair=pair, tile_size_px=grid.stride_px)
        del blocks
        contents = zip(("pixels", "valid"), (pixels, is_valid.view(np.uint8)), strict=True)
        encoded = [encode_shard(_get_array(group, name), content, ys=ys, xs=xs) for name, content in contents]
        objects = dict(zip(_list_objects(shard), encoded, strict=True))
        mark = describe_shard(pixels, is_valid, is_cloudy=is_cloudy, tile_size_px=grid.stride_px) | dates
    mark |= {"objects": _put_shard(folder, objects)} | ({"unread": sorted(notes)} if notes else {})
    data = encode_mark(mark)
    folder.put(name_mark(pair.content_key, shard, shard_size_tiles=shard_size_tiles), data)
    return StageSummary(
        stage="write_tiles",
        done=len(tiles),
        seconds=time.perf_counter() - start,
        # Three bands of two dates.
        bytes_read=6 * window.height * window.width,
        bytes_written=sum(mark["objects"].values()) + len(data),
        notes=notes,
    )


def _put_shard(folder: RunFolder, objects: Mapping[str, bytes | None]) -> dict[str, int]:
    """Put the objects of a shard, none where it has nothing but zeros, and give their sizes.

    One put replaces what is there, so at no time is there less than before: a worker of a run that was cut off may
    write the same shard while this run reads it already.
    """
    sizes = {}
    for name, data in objects.items():
        if data is None:
            folder.delete([name])
            continue
        sizes[name] = folder.put(name, data)
        if folder.read(name) != data:
            raise OSError(f"{folder.join(name)} reads back other than it was written")
    return sizes


def encode_shard(array: zarr.Array[Any], content: UInt8Array, *, ys: slice, xs: slice) -> bytes | None:
    """Give the object that zarr makes of one shard, whatever lies under its name; None for one of zeros alone.

    Zarr itself would read a shard at the edge of an array before it writes it, and merge into what it finds.
    """
    objects: dict[str, Buffer] = array.metadata.to_buffer_dict(default_buffer_prototype())
    blank = zarr.open_array(zarr.storage.MemoryStore(objects), mode="r+")
    with zarr.config.set({"async.concurrency": _CONCURRENCY}):
        blank[..., ys, xs] = content
    shards = [data for name, data in objects.items() if name.startswith("c/")]
    return shards[0].to_bytes() if shards else None


class StoreReader:
    """The open arrays of a store; opening one costs as much as reading a tile."""

    def __init__(self, group: zarr.Group) -> None:
        """Open none yet.

        Args:
            group: The open store.
        """
        self._group = group
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def read_pixels(self, window: Window) -> UInt8Array:
        """Read a rectangle of the grid's pixels, uint8 (date=2, band=3, height, width)."""
        return self._read("pixels", window)

    def read_valid(self, window: Window) -> BoolArray:
        """Read what is valid in a rectangle, bool (date=2, height, width)."""
        return self._read("valid", window).astype(np.bool_)

    def _read(self, name: str, window: Window) -> UInt8Array:
        if name not in self._arrays:
            self._arrays[name] = _get_array(self._group, name)
        row, col, height, width = window
        with zarr.config.set({"async.concurrency": _CONCURRENCY}):
            return np.asarray(self._arrays[name][..., row : row + height, col : col + width])


def parse_mark(mark: dict[str, Any], shard: tuple[int, int], *, grid: Grid, shard_size_tiles: int) -> list[TileFacts]:
    """Turn the counts in a mark into facts per tile."""
    n_pixels = grid.stride_px**2
    tiles = list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)
    clouds = mark["cloudy"] or [None] * len(tiles)
    columns = zip(tiles, mark["before"], mark["after"], mark["both"], clouds, mark["identical"], strict=True)
    return [
        TileFacts(
            row=row,
            col=col,
            before_valid_fraction=before / n_pixels,
            after_valid_fraction=after / n_pixels,
            valid_fraction=both / n_pixels,
            cloud_fraction=None if cloudy is None else cloudy / n_pixels,
            is_identical=is_identical,
        )
        for (row, col), before, after, both, cloudy, is_identical in columns
    ]


def _find_extent(grid: Grid, shard: tuple[int, int], *, shard_size_tiles: int) -> tuple[slice, slice]:
    side = shard_size_tiles * grid.stride_px
    ys, xs = (
        slice(index * side, min((index + 1) * side, length)) for index, length in zip(shard, grid.shape_px, strict=True)
    )
    return ys, xs


def _list_objects(shard: tuple[int, int]) -> list[str]:
    row, col = shard
    return [f"{STORE_NAME}/pixels/c/0/0/{row}/{col}", f"{STORE_NAME}/valid/c/0/{row}/{col}"]


def _get_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} in {group.store} is no array")
    return array


def _describe_scene(scene: Scene) -> dict[str, Any]:
    return {
        "scene_id": scene.scene_id,
        "datetime": scene.datetime,
        "checksum": scene.checksum,
        "assets": [{"checksum": asset.checksum, "crs": asset.crs} for asset in scene.assets],
        "bands": [[source.band for source in part.colours] for part in scene.parts],
    }


def _write_coordinates(group: zarr.Group, grid: Grid) -> None:
    height_px, width_px = grid.shape_px
    resolution_m = grid.resolution_m
    # Pixel centres, as CF and xarray have it; the affine transform counts from pixel corners.
    xs = grid.origin_x + (np.arange(width_px) + 0.5) * resolution_m
    ys = grid.origin_y - (np.arange(height_px) + 0.5) * resolution_m
    for name, values in (("x", xs), ("y", ys)):
        group.create_array(
            name,
            data=values,
            dimension_names=(name,),
            attributes={
                "standard_name": f"projection_{name}_coordinate",
                "units": "metre",
                "axis": name.upper(),
            },
        )
    _put_strings(group, "date", DATES, dimension="date")
    _put_strings(group, "band", ("red", "green", "blue"), dimension="band")
    crs = pyproj.CRS.from_user_input(grid.crs)
    geotransform = f"{grid.origin_x!r} {resolution_m!r} 0.0 {grid.origin_y!r} 0.0 {-resolution_m!r}"
    group.create_array(
        "spatial_ref",
        data=np.array(0, dtype=np.int64),
        dimension_names=(),
        attributes={**crs.to_cf(), "spatial_ref": crs.to_wkt(), "GeoTransform": geotransform},
    )


def _put_strings(group: zarr.Group, name: str, values: Sequence[str], *, dimension: str) -> None:
    array = group.create_array(name, shape=(len(values),), dtype="str", dimension_names=(dimension,), overwrite=True)
    array[:] = np.array(values, dtype=object)

"""Shards of the tile store: the arrays they lie in, how one is written whole, and the mark that proves it.

A shard is the unit of write. One task reads a shard's pixels of both dates, writes them in one piece, reads
them back and only then puts a small JSON file, the mark, whose name is a hash of what the shard holds. A shard
without a mark is written again, whatever is on disk; a shard with one is never touched. The mark also keeps
what the pixels tell about each tile, so that nobody reads them again to find the tiles worth a look.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyproj
import zarr
from zarr.codecs import ZstdCodec

from pipeline.assets import Scene
from pipeline.grid import Grid
from pipeline.run_folder import RunFolder
from pipeline.scenes import DATES, ScenePair
from pipeline.sources import BoolArray, UInt8Array
from pipeline.summary import StageSummary
from pipeline.tile_facts import TileFacts, count_valid

STORE_NAME = "tiles.zarr"
"""Name of the store in the folder of its run."""

_ZSTD_LEVEL = 3
_CONCURRENCY = 4
# ^ Every worker process brings its own event loop and threads; zarr's default is for a process alone.


def list_shards(grid: Grid, *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of all shards of a grid, row-major."""
    n_rows, n_cols = -(-grid.n_rows // shard_size_tiles), -(-grid.n_cols // shard_size_tiles)
    return [(row, col) for row in range(n_rows) for col in range(n_cols)]


def list_tiles_of_shard(grid: Grid, shard: tuple[int, int], *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the tiles in a shard, row-major."""
    rows, cols = (range(index * shard_size_tiles, (index + 1) * shard_size_tiles) for index in shard)
    return [(row, col) for row in rows for col in cols if row < grid.n_rows and col < grid.n_cols]


def name_mark(content_key: str, shard: tuple[int, int], *, shard_size_tiles: int) -> str:
    """Name the proof that a shard is whole, after what the shard holds."""
    content = f"{content_key} {shard[0]} {shard[1]} {shard_size_tiles}"
    return f"marks/{hashlib.sha256(content.encode()).hexdigest()}.json"


def open_store(folder: RunFolder, *, is_read_only: bool = True) -> zarr.Group:
    """Open the store of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    return zarr.open_group(folder.open_zarr_store(STORE_NAME), mode="r" if is_read_only else "r+")


def create_store(folder: RunFolder, pair: ScenePair, *, shard_size_tiles: int) -> None:
    """Make the empty arrays of a pair with coordinates and CRS, after removing the store that was there.

    The content key comes last: a store without it was left half-made.
    """
    # Marks first: a mark must never outlive the shard that it speaks of.
    folder.delete(folder.list_names("marks"))
    folder.delete(folder.list_names(STORE_NAME))
    grid, side = pair.grid, shard_size_tiles * pair.grid.stride_px
    tile = pair.grid.stride_px
    group = zarr.open_group(folder.open_zarr_store(STORE_NAME), mode="w")
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
    describe_store(group, pair)
    group.attrs.update({"content_key": pair.content_key, "shard_size_tiles": shard_size_tiles})


def describe_store(group: zarr.Group, pair: ScenePair) -> None:
    """Write what people want to know about the scenes and no pixel depends on."""
    scenes = {date: _describe_scene(getattr(pair, date)) for date in DATES}
    if (group.attrs.get("scenes"), group.attrs.get("stretch")) == (scenes, pair.stretch.to_dict()):
        return
    moments = [getattr(pair, date).datetime or "" for date in DATES]
    _put_strings(group, "datetime", moments, dimension="date")
    group.attrs.update(
        {"title": "Tiles of two scenes of one area", "scenes": scenes, "stretch": pair.stretch.to_dict()}
    )


def write_shard(
    folder: RunFolder, pair: ScenePair, shard_size_tiles: int, shard_row: int, shard_col: int
) -> StageSummary:
    """Write one whole shard of both dates, read it back and put its mark; the body of a Dask task.

    Raises:
        InputError: a scene cannot be read.
        OSError: what comes back from the store is not what was written.
    """
    start = time.perf_counter()
    shard, grid = (shard_row, shard_col), pair.grid
    ys, xs = _find_extent(grid, shard, shard_size_tiles=shard_size_tiles)
    window = ys.start, xs.start, ys.stop - ys.start, xs.stop - xs.start
    blocks = [pair.read_block(date, window=window) for date in DATES]
    pixels, is_valid = (np.stack([getattr(block, name) for block in blocks]) for name in ("pixels", "is_valid"))
    is_cloudy = np.logical_or(*(block.is_cloudy for block in blocks)) if pair.has_classes else None
    del blocks
    names = _list_objects(shard)
    # An older try may have left something that zarr would otherwise read and merge into.
    folder.delete([name for name in names if folder.has(name)])
    with zarr.config.set({"async.concurrency": _CONCURRENCY}):
        group = open_store(folder, is_read_only=False)
        for name, content in (("pixels", pixels), ("valid", is_valid.astype(np.uint8))):
            array = _get_array(group, name)
            array[..., ys, xs] = content
            if not np.array_equal(np.asarray(array[..., ys, xs]), content):
                raise OSError(f"shard {shard} of {name} in {folder.uri} reads back other than it was written")
    # Shards of zeros alone leave no object behind.
    sizes = {name: len(folder.read(name)) for name in names if folder.has(name)}
    mark = count_valid(pixels, is_valid, is_cloudy=is_cloudy, tile_size_px=grid.stride_px)
    mark |= {"objects": sorted(sizes)}
    data = json.dumps(mark, sort_keys=True, separators=(",", ":")).encode()
    folder.put(name_mark(pair.content_key, shard, shard_size_tiles=shard_size_tiles), data)
    return StageSummary(
        stage="write_tiles",
        done=len(list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)),
        seconds=time.perf_counter() - start,
        bytes_read=pixels.nbytes,
        bytes_written=sum(sizes.values()) + len(data),
    )


def read_window(group: zarr.Group, window: tuple[int, int, int, int]) -> tuple[UInt8Array, BoolArray]:
    """Read a rectangle of the store.

    Args:
        group: The open store.
        window: First row, first column, height and width in pixels of the grid.

    Returns:
        Pixels, uint8 (date=2, band=3, height, width), and validity, bool (date=2, height, width).
    """
    row, col, height, width = window
    ys, xs = slice(row, row + height), slice(col, col + width)
    with zarr.config.set({"async.concurrency": _CONCURRENCY}):
        pixels, valid = (np.asarray(_get_array(group, name)[..., ys, xs]) for name in ("pixels", "valid"))
    return pixels, valid.astype(np.bool_)


def find_whole_shards(
    folder: RunFolder, shards: Sequence[tuple[int, int]], *, content_key: str, shard_size_tiles: int
) -> dict[tuple[int, int], dict[str, Any]]:
    """Read the marks of those shards that are whole, with all objects that their marks speak of."""
    marks = set(folder.list_names("marks"))
    objects = set(folder.list_names(STORE_NAME))
    whole = {}
    for shard in shards:
        name = name_mark(content_key, shard, shard_size_tiles=shard_size_tiles)
        if name in marks:
            mark = json.loads(folder.read(name))
            if objects.issuperset(mark["objects"]):
                whole[shard] = mark
    return whole


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

"""The raster of probabilities of a run: which ground it looked at, and which changes it tells."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyproj

from model.errors import InputError
from pipeline.answers.outlines import choose_outline_kinds
from pipeline.findings.coverage import SEEN
from pipeline.grid.grid import Grid
from pipeline.report.stac_assets import describe_raster, encode_stac
from pipeline.report.stac_item import ITEM_NAME
from pipeline.runs.probability import Bounds, Layer, OpenTable, RunGround, write_probability
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record, withdraw_record, write_record
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock
from pipeline.storage.names import CHANGES_NAME, PROBABILITY_NAME, TILES_NAME
from pipeline.storage.object_facts import describe_bytes, describe_stream

PROBABILITY_FORMAT = "probability"

_SLACK = 1e-6


def plan_probability(record: RunRecord, *, folder: RunFolder) -> dict[str, Callable[[Path], None]]:
    """Give what writes the probability of change of a run, by the name of its file.

    Raises:
        InputError: the run has no masks.
    """
    check_masks(record, uri=folder.uri)
    layer = partial(make_layer, record, folder=folder, open_changes=partial(folder.open_file, CHANGES_NAME))
    grid = Grid.from_dict(record.grid)
    write = partial(
        write_probability,
        layers=[layer],
        crs=pyproj.CRS.from_user_input(grid.crs),
        resolution_m=grid.resolution_m,
        bounds=grid.shared_bounds,
    )
    return {PROBABILITY_NAME: write}


def has_masks(record: RunRecord) -> bool:
    """Tell whether a run's changes were outlined by masks."""
    return bool(choose_outline_kinds(record.config["model"].get("outlines", "auto"), mask_labels=record.mask_labels))


def check_masks(record: RunRecord, *, uri: str) -> None:
    """Refuse a run without masks: nobody knows how probable a change of it is at any pixel.

    Raises:
        InputError: it has none.
    """
    if not has_masks(record):
        raise InputError(
            f"{uri} has no masks: {record.model['model_id']} gives none, or model.outlines was off",
            expected="a run whose changes were outlined by the model's masks",
            remedy=f"leave --format {PROBABILITY_FORMAT} out, or run with a model that has masks",
        )


def make_layer(
    record: RunRecord,
    *,
    folder: RunFolder,
    open_changes: OpenTable,
    is_told_only: bool = False,
    own_tiles: Container[str] | None = None,
) -> Layer:
    """Give what a run tells, to be drawn.

    Args:
        record: The run.
        folder: Its folder.
        open_changes: Opens the table of its changes.
        is_told_only: As of `Layer`.
        own_tiles: Ids of the tiles whose ground counts; None: all that the run looked at.

    Raises:
        InputError: its table of tiles cannot be read.
    """
    store = restore_store(record, folder=folder)
    shape = (store.grid.n_rows, store.grid.n_cols)
    names = ["tile_id", "row", "col", "status", "is_changed", "valid_fraction"]
    with folder.open_file(TILES_NAME) as source, pq.ParquetFile(source) as file:
        if file.metadata.num_rows != shape[0] * shape[1]:
            raise _miss_tiles(folder, f"{file.metadata.num_rows} rows for {shape[0]} x {shape[1]} tiles")
        # In this thread: threads of Arrow's own hold on to a file of Python's, and abort a program that ends.
        table = file.read(columns=names, use_threads=False)
    tiles = table.to_pandas()
    is_seen, is_full = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    is_known = tiles["status"].isin([status.value for status in SEEN]) & tiles["is_changed"].notna()
    if own_tiles is not None:
        is_known &= tiles["tile_id"].map(own_tiles.__contains__)
    places = (tiles["row"].to_numpy(np.int64), tiles["col"].to_numpy(np.int64))
    # The table is as long as the grid has tiles: at least one.
    if not all(each.min() >= 0 and each.max() < side for each, side in zip(places, shape, strict=True)):
        raise _miss_tiles(folder, "tiles that the grid does not have")
    is_seen[places] = is_known
    is_full[places] = tiles["valid_fraction"] >= 1
    ground = RunGround(store=store, is_seen=is_seen, is_full=is_full)
    return Layer(ground=ground, open_changes=open_changes, is_told_only=is_told_only)


def _miss_tiles(folder: RunFolder, found: str) -> InputError:
    return InputError(
        f"{folder.join(TILES_NAME)} is not the table of its run ({found})",
        expected="a row for every tile of the grid",
        remedy=f"make it anew with `deltavlm report {folder.uri}`",
    )


def unite_bounds(grids: list[Grid]) -> Bounds:
    """Give left, bottom, right and top of what any of some grids of one CRS shows, on the pixels of the first."""
    first = grids[0]
    sides = np.array([grid.shared_bounds for grid in grids])
    origin = np.array([first.origin_x, first.origin_y] * 2)
    steps = (sides - origin) / first.resolution_m
    # What lies on a pixel's edge but for the last digits asks for no further pixel.
    low, high = np.floor(steps[:, :2].min(axis=0) + _SLACK), np.ceil(steps[:, 2:].max(axis=0) - _SLACK)
    left, bottom, right, top = (origin + np.concatenate([low, high]) * first.resolution_m).tolist()
    return left, bottom, right, top


def make_asset(folder: RunFolder, *, place: str) -> tuple[str, dict[str, Any]]:
    """Give name and values of the STAC asset of a raster.

    Args:
        folder: Folder in which it lies, of a run or of a region.
        place: Its name there.
    """
    with folder.open_file(place) as source:
        facts = describe_stream(source)
    return PurePosixPath(place).stem, describe_raster(PurePosixPath("..", place), facts=facts).to_dict()


def name_in_item(folder: RunFolder, *, place: str) -> None:
    """Name the raster among the assets of the STAC item of its run, until the report is made anew.

    Args:
        folder: Folder of the run, in which the raster lies.
        place: Its name there.

    Raises:
        InputError: somebody else is at work on the run.
    """
    with hold_lock(folder) as lock, contextlib.suppress(FileNotFoundError):
        guarded = folder.guarded(lock.check, owner=lock.owner)
        record = read_record(guarded)
        # Scenes without dates have no item.
        item = json.loads(guarded.read(ITEM_NAME))
        item["assets"] |= dict([make_asset(guarded, place=place)])
        data = encode_stac(item)
        withdraw_record(guarded)
        guarded.put(ITEM_NAME, data)
        write_record(replace(record, files={**record.files, ITEM_NAME: dict(describe_bytes(data))}), folder=guarded)

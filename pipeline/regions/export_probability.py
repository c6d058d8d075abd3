"""The rasters of probabilities of a region: of all pairs that it tells of, one per UTM zone that its runs lie in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pyproj

from model.errors import InputError
from model.sealing import unseal
from pipeline.grid.grid import Grid
from pipeline.regions.pair_records import PairState, open_pair_folder, read_states, take_current
from pipeline.regions.record import REGION_NAME, read_file_facts, withdraw_region_record, write_region_record
from pipeline.regions.stac_collection import COLLECTION_NAME
from pipeline.regions.tables import name_changes, name_seen
from pipeline.report.stac_assets import encode_stac
from pipeline.runs.export_probability import check_masks, make_asset, make_layer, unite_bounds
from pipeline.runs.probability import DrawnGround, Layer, write_probability
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock
from pipeline.storage.names import PROBABILITY_NAME
from pipeline.storage.object_facts import describe_bytes
from pipeline.tables.nested_shapes import read_frame


def plan_region_probability(folder: RunFolder) -> dict[str, Callable[[Path], None]]:
    """Give what writes the rasters of a region, by the names of their files.

    A pair whose run is let go of counts by what the region keeps of it: its changes, and those of the tiles that it
    looked at that were valid throughout.

    Raises:
        InputError: no run is there any more, which the pixels could be taken from, or one has no masks.
    """
    names = read_file_facts(folder)
    states = [state for state in take_current(read_states(folder)) if state.has_result and name_changes(state) in names]
    records = {
        state.pair_id: read_record(open_pair_folder(folder, state.record)) for state in states if state.has_folder
    }
    if not records:
        raise InputError(
            f"{folder.uri} has no run of a pair any more",
            expected="a region with at least one run, whose pixels the raster has",
            remedy="make a pass over it with `deltavlm monitor` first",
        )
    for record in records.values():
        check_masks(record, uri=f"run {record.run_id} of {folder.uri}")
    by_crs: dict[str, list[Grid]] = {}
    for record in records.values():
        grid = Grid.from_dict(record.grid)
        by_crs.setdefault(grid.crs, []).append(grid)
    own_crs = next(iter(by_crs)) if len(by_crs) == 1 else None
    files: dict[str, Callable[[Path], None]] = {}
    for crs, grids in by_crs.items():
        grids.sort(key=lambda grid: grid.resolution_m)
        told = [state for state in states if _find_crs(state, records=records, own_crs=own_crs) == crs]
        files[_name_file(crs, is_alone=own_crs is not None)] = partial(
            write_probability,
            layers=[
                partial(_make_layer, state, record=records.get(state.pair_id), crs=crs, folder=folder) for state in told
            ],
            crs=pyproj.CRS.from_user_input(crs),
            resolution_m=grids[0].resolution_m,
            bounds=unite_bounds(grids),
        )
    return files


def _find_crs(state: PairState, *, records: Mapping[str, RunRecord], own_crs: str | None) -> str | None:
    """Give the CRS of a pair's grid; None: its run is let go of, and nothing tells."""
    if (record := records.get(state.pair_id)) is not None:
        return str(record.grid["crs"])
    return own_crs if state.record.block is None else state.record.block.crs


def _name_file(crs: str, *, is_alone: bool) -> str:
    """Name a raster, by its CRS where there are several."""
    if is_alone:
        return PROBABILITY_NAME
    place = PurePosixPath(PROBABILITY_NAME)
    code = pyproj.CRS.from_user_input(crs).to_authority() or ("local", "0")
    return f"{place.stem}_{'_'.join(code).lower()}{place.suffix}"


def _make_layer(state: PairState, *, record: RunRecord | None, crs: str, folder: RunFolder) -> Layer | None:
    """Give what a pair tells; None: nothing is left that tells which ground it looked at."""
    open_changes = partial(folder.open_file, name_changes(state))
    try:
        seen = read_frame(folder.read(name_seen(state)))
    except FileNotFoundError:
        return None
    if record is not None:
        run = open_pair_folder(folder, state.record)
        tiles = frozenset(seen["tile_id"])
        return make_layer(record, folder=run, open_changes=open_changes, is_told_only=True, own_tiles=tiles)
    full = seen[seen["valid_fraction"] >= 1].to_crs(crs).geometry.to_numpy()
    if not len(full):
        return None
    return Layer(ground=DrawnGround(tiles=np.asarray(full, object)), open_changes=open_changes, is_told_only=True)


def name_in_collection(folder: RunFolder, *, places: Sequence[str]) -> None:
    """Name rasters among the assets of the STAC collection of a region, until the next pass writes it anew.

    Args:
        folder: Folder of the region, in which they lie.
        places: Their names there.

    Raises:
        InputError: somebody else is at work on the region.
    """
    with hold_lock(folder) as lock, contextlib.suppress(FileNotFoundError):
        guarded = folder.guarded(lock.check, owner=lock.owner)
        record = unseal(guarded.read(REGION_NAME))
        # Pairs without dates have no collection.
        collection = json.loads(guarded.read(COLLECTION_NAME))
        collection.setdefault("assets", {}).update(make_asset(guarded, place=place) for place in places)
        data = encode_stac(collection)
        withdraw_region_record(guarded)
        guarded.put(COLLECTION_NAME, data)
        record["files"][COLLECTION_NAME] = describe_bytes(data)
        write_region_record(record, folder=guarded)

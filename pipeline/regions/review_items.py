"""What there is to review of a region: its events, each as the first pair that still has its pixels shows it.

What the border of two blocks runs through is one event, which each of two runs has a part of. All of it is outlined, on
the pictures of the run that has most of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import geopandas as gpd
import pandas as pd

from model.errors import InputError
from pipeline.findings.changes import rank_changes
from pipeline.regions.assess import find_assessed_run
from pipeline.regions.pair_records import PairState, open_pair_folder, read_states, take_current
from pipeline.regions.tables import CHANGES_FOLDER
from pipeline.report.page.map import frame_close_up
from pipeline.reviews.review import Subject
from pipeline.runs.read import read_table
from pipeline.runs.record_files import read_record
from pipeline.runs.review_items import (
    MAX_REVIEWED_CHANGES,
    ReviewBook,
    ReviewGround,
    ReviewHome,
    ReviewItem,
    describe_told,
    list_sample,
)
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import TILES_NAME, is_pair_table


def open_region_book(folder: RunFolder) -> ReviewBook:
    """List what there is to review of a region: its events, and the sample of its last pair.

    Raises:
        InputError: the folder holds no region, or no pair of it has a result.
    """
    assessed = find_assessed_run(folder.uri)
    if assessed.events is None:
        raise InputError(f"{folder.uri} is no region", expected="a region's folder", remedy="correct the path")
    home = ReviewHome(folder=folder, run_id=assessed.events.name, model_id=assessed.record.model["model_id"])
    states = take_current(read_states(folder))
    there = {state.pair_id: state for state in states if state.has_result and state.has_folder}
    sightings = read_sightings(folder)
    shown = rank_changes(_choose_first(sightings, pairs=there))
    items = list(_list_events(shown.head(MAX_REVIEWED_CHANGES), home=home, folder=folder, pairs=there))
    run = ReviewHome(folder=assessed.folder, run_id=assessed.record.run_id, model_id=home.model_id)
    tiles = read_table(assessed.folder, TILES_NAME)
    ground = ReviewGround.open(assessed.record, folder=assessed.folder, tiles=tiles)
    n_left_out = sightings.loc[_find_offered(sightings), "event_id"].nunique() - len(items)
    items += list_sample(run, ground=ground, tiles=tiles)
    return ReviewBook(title=home.run_id, items={item.key: item for item in items}, n_left_out=n_left_out)


def read_sightings(folder: RunFolder) -> gpd.GeoDataFrame:
    """Read the changes of all pairs as the region's report has them."""
    frames = [read_table(folder, name) for name in filter(is_pair_table, folder.list_names(CHANGES_FOLDER))]
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), crs=frames[0].crs)


def _find_offered(sightings: gpd.GeoDataFrame) -> pd.Series[bool]:
    """Tell which are of events that are told, or were until people rejected them: they may think again."""
    is_offered: pd.Series[bool] = sightings["is_told"].astype(bool)
    if "review" in sightings:
        is_offered = is_offered | sightings["review"].notna()
    return is_offered


def _choose_first(sightings: gpd.GeoDataFrame, *, pairs: Mapping[str, PairState]) -> gpd.GeoDataFrame:
    """Give the first sighting of each event in a pair whose pixels are there, with all of it that its dates tell.

    Of several of the same dates, parts of one event in blocks side by side, it is the largest.
    """
    found = sightings[_find_offered(sightings) & sightings["pair_id"].isin(list(pairs))]
    by = ["after_datetime", "before_datetime", "area_m2", "change_id"]
    ordered = found.sort_values(by, ascending=[True, True, False, True], kind="stable")
    first = ordered.drop_duplicates("event_id")
    dates = ["event_id", "before_datetime", "after_datetime"]
    parts = ordered.merge(first[dates], on=dates)
    whole = parts.dissolve("event_id", aggfunc={"area_m2": "sum"}).loc[first["event_id"]]
    return first.assign(area_m2=whole["area_m2"].to_numpy()).set_geometry(whole.geometry.to_numpy(), crs=found.crs)


def _list_events(
    rows: gpd.GeoDataFrame, *, home: ReviewHome, folder: RunFolder, pairs: Mapping[str, PairState]
) -> Iterator[ReviewItem]:
    grounds = {pair_id: _open_ground(folder, pair=pairs[pair_id]) for pair_id in rows["pair_id"].unique()}
    shapes = {
        pair_id: rows.geometry[rows["pair_id"] == pair_id].to_crs(ground.store.grid.crs)
        for pair_id, ground in grounds.items()
    }
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        ground, shape = grounds[row["pair_id"]], shapes[row["pair_id"]].loc[index]
        yield ReviewItem(
            home=home,
            subject=Subject.EVENT,
            subject_id=row["first_sighting"],
            ground=ground,
            window=frame_close_up(shape, grid=ground.store.grid),
            shape=shape,
            told=describe_told(row),
        )


def _open_ground(folder: RunFolder, *, pair: PairState) -> ReviewGround:
    found = open_pair_folder(folder, pair.record)
    return ReviewGround.open(read_record(found), folder=found, tiles=read_table(found, TILES_NAME))

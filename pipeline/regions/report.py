"""What a region's report is made of beside its tables: zones, plots, the page and the STAC collection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np

from model.sealing import encode_sealed
from pipeline.regions.assess import gather_accuracy
from pipeline.regions.blocks import RegionBlock
from pipeline.regions.ground import GroundPictures, find_ground, join_grounds
from pipeline.regions.page import count_events, render_region_page
from pipeline.regions.pair_records import PairState, read_report_file
from pipeline.regions.schemas import REGION_CHANGES_SCHEMA
from pipeline.regions.stac_collection import COLLECTION_NAME, make_region_collection
from pipeline.regions.tables import ZONE_SUMS_NAME, RegionTables, encode_tables
from pipeline.report.plot_figures import summarise_timeline
from pipeline.report.plots import PLOTS_FOLDER, describe_plots, draw_plots
from pipeline.report.stac_assets import encode_stac
from pipeline.report.stac_item import ITEM_NAME
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import ACCURACY_NAME, ZONES_NAME
from pipeline.storage.object_facts import describe_bytes
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.nested_shapes import read_frame

REPORT_FOLDER = "report"
ZONES_FOLDER = "report/zones"
PAGE_NAME = "report/index.html"


def make_region_files(
    states: Sequence[PairState],
    *,
    tables: RegionTables,
    folder: RunFolder,
    name: str,
    crs: str,
    bounds: tuple[float, float, float, float] | None = None,
    blocks: Sequence[RegionBlock] = (),
) -> dict[str, bytes]:
    """Make every file of a region's report; equal pairs give equal files.

    Args:
        states: The pairs that count, in the order of time.
        tables: What they have told.
        folder: Folder of the region.
        name: Name of the region.
        crs: CRS of the tables.
        bounds: Left, bottom, right and top of the area in it, for the map of a region of several blocks.
        blocks: These; none where it is a single one.

    Returns:
        Content by name in the region's folder.
    """
    told = [state for state in states if state.has_result]
    files = dict(encode_tables(tables))
    zones = dict(_copy_zones(told, folder=folder))
    files |= zones
    has_blocks = "block_id" in tables.time_line
    figures = summarise_timeline(tables.overview)
    files |= {f"{PLOTS_FOLDER}/{plot}": png for plot, png in draw_plots(figures).items()}
    accuracy = gather_accuracy(told, folder=folder)
    if accuracy is not None:
        files[ACCURACY_NAME] = encode_sealed(accuracy)
    changes = tables.join_changes()
    page = render_region_page(
        _make_empty(crs) if changes is None else changes,
        timeline=tables.time_line,
        name=name,
        overview=tables.overview,
        ground=_find_ground(told, folder=folder, crs=crs, bounds=bounds if has_blocks else None),
        # The last pair's zones are those of one block.
        zones=tables.zones if has_blocks else _read_zones(zones, crs=crs),
        zones_file=_name_zones_file(zones, has_blocks=has_blocks),
        bounds=bounds if has_blocks else None,
        blocks=blocks,
        states=states,
        plots=describe_plots(figures),
        reviews=tables.reviews,
        accuracy=accuracy["pairs"] if accuracy is not None else {},
        notes=(told[-1].figures or {}).get("notes", ()) if told else (),
    )
    files[PAGE_NAME] = page.encode()
    items = dict(_read_items(told, folder=folder))
    if items:
        described = {each: describe_bytes(data) for each, data in files.items()}
        collection = make_region_collection(
            region_id=name,
            title=name,
            description=f"Changes in the region {name}, pair by pair of scenes.",
            items=items,
            files=described,
            event_counts=count_events(changes) if changes is not None else None,
            is_reviewed=tables.reviews is not None,
            has_blocks=has_blocks,
            zones_schema=tables.zones_schema,
        )
        files[COLLECTION_NAME] = encode_stac(collection)
    return files


def _make_empty(crs: str) -> gpd.GeoDataFrame:
    columns: dict[str, list[Any]] = {column.name: [] for column in REGION_CHANGES_SCHEMA if column.name != "geometry"}
    return make_frame(columns, schema=REGION_CHANGES_SCHEMA, geometry=np.empty(0, dtype=object), crs=crs)


def _copy_zones(told: Sequence[PairState], *, folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Give the zones of each pair: its run's file, or the region's own copy once the run is let go of."""
    for state in told:
        name = f"{ZONES_FOLDER}/after_year={state.record.pair.after.start.year}/{state.pair_id}.parquet"
        try:
            yield name, read_report_file(state, ZONES_NAME, folder=folder) if state.has_folder else folder.read(name)
        except FileNotFoundError:
            # Its run was told of no zones.
            continue


def _read_zones(files: dict[str, bytes], *, crs: str) -> gpd.GeoDataFrame | None:
    """Read the zones of the last pair that has some, for the page."""
    if not files:
        return None
    frame = read_frame(list(files.values())[-1])
    return frame if frame.crs == crs else frame.to_crs(crs)


def _name_zones_file(files: Mapping[str, bytes], *, has_blocks: bool) -> str:
    """Name the file that has all zones, as seen from the page."""
    name = ZONE_SUMS_NAME if has_blocks or not files else list(files)[-1]
    return name.removeprefix(f"{REPORT_FOLDER}/")


def _find_ground(
    told: Sequence[PairState], *, folder: RunFolder, crs: str, bounds: tuple[float, float, float, float] | None
) -> GroundPictures | None:
    if bounds is None:
        return find_ground(told, folder=folder, crs=crs)
    return join_grounds(told, folder=folder, crs=crs, bounds=bounds)


def _read_items(told: Sequence[PairState], *, folder: RunFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the STAC items of the pairs whose runs are there, by their place relative to the collection."""
    for state in told:
        if not state.has_folder:
            continue
        try:
            item = json.loads(read_report_file(state, ITEM_NAME, folder=folder))
        except FileNotFoundError:
            # Scenes without dates have no item.
            continue
        yield f"../{state.record.run_name}/{ITEM_NAME}", item

"""Makes an archive of scenes of a place that changes, under clouds and over the border of two UTM zones."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import geopandas as gpd
import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from model.synthesis.clouds import draw_sky
from model.synthesis.pairs import DEFAULT_CHANGE_LEVEL, SyntheticPair, synthesize_pair
from pipeline.tables.geoparquet import encode_geoparquet
from pipeline.tables.schemas import TRUTH_SCHEMA
from pipeline.training_data.archives import NEW_BASELINE, OLD_BASELINE, ArchiveDate, remove_items, write_archive
from pipeline.training_data.scenes import check_dates, check_request, make_folder, tabulate_truth

WEST, EAST = "EPSG:32614", "EPSG:32615"
"""CRS of the two zones; the landscape is drawn in the first."""

CLOUD_SHARE: Final = 0.3
"""Share of each scene that is under clouds."""

_BORDER = (-96.0, 30.2348)
# ^ Where the border of the zones runs through the middle row: open country near Navasota, Texas.
_WEST_SHARE = 0.75
# ^ Of the scenes west of the border.
_OVERLAP = 0.1
# ^ So far the files of a zone reach over its border, in widths of the scenes.
_EDGE_M = 8.0
# ^ The outermost metres are not watched: what is warped into the other zone frays there.
_GAINS = (0.97, 1.03)


@dataclass(frozen=True, kw_only=True)
class SyntheticArchive:
    """Where the files of a synthetic archive lie."""

    catalog: Path
    """The static STAC catalog."""
    area: Path
    """GeoJSON with the ground that all scenes show."""
    truth: Path
    """GeoParquet with one row per building and road."""


def write_synthetic_archive(
    folder: Path,
    *,
    dates: Sequence[dt.date],
    seed: int,
    size_px: int = 1344,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = 0.0,
) -> SyntheticArchive:
    """Make scenes of several dates as an archive has them; equal arguments give equal pixels.

    The first half of the dates shows a place before it changes and the other half after. A third of each is under
    clouds, and their shadows beside them. The former are of an old processing baseline, the latter of a new one.

    Args:
        folder: Where the files go; made when missing. Those of an earlier call are replaced.
        dates: At least two days, ascending.
        seed: Any integer from 0.
        size_px: Height and width in pixels.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that a district is built up or torn down, 0 to 1.
        removal_level: Probability that it is torn down then, 0 to 1.

    Raises:
        InputError: The dates, the seed, the size, the resolution, a level or the folder cannot be used.
    """
    check_dates(dates)
    check_request(seed, (size_px, size_px), resolution_m, {"change": change_level, "removal": removal_level})
    pair = synthesize_pair(
        seed,
        height_px=size_px,
        width_px=size_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    crs, place = CRS.from_user_input(WEST), _find_place(size_px, resolution_m)
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as name:
        drafts = Path(name)
        write_archive(drafts, _draw_dates(pair, dates=dates), crs=crs, transform=place, zones=_share_columns(size_px))
        _outline_area(crs, place, size_px=size_px).to_file(drafts / "area.geojson", driver="GeoJSON")
        truth = tabulate_truth(pair, place, crs)
        (drafts / "truth.parquet").write_bytes(
            encode_geoparquet(truth, schema=TRUTH_SCHEMA, order=np.arange(len(truth)))
        )
        remove_items(folder)
        for draft in drafts.iterdir():
            draft.replace(folder / draft.name)
    return SyntheticArchive(
        catalog=folder / "catalog.json", area=folder / "area.geojson", truth=folder / "truth.parquet"
    )


def _draw_dates(pair: SyntheticPair, *, dates: Sequence[dt.date]) -> list[ArchiveDate]:
    drawn = []
    height_px, width_px = pair.change_mask.shape
    for number, day in enumerate(dates):
        rng = np.random.default_rng([pair.seed, number])
        is_before = number < len(dates) // 2
        clear = (pair.before if is_before else pair.after) * rng.uniform(*_GAINS)
        ground = np.clip(np.rint(clear), 0, 255).astype(np.uint8)
        sky = draw_sky(rng, height_px=height_px, width_px=width_px, cloud_share=CLOUD_SHARE)
        drawn.append(
            ArchiveDate(
                day=day,
                pixels=sky.cover(ground),
                classes=sky.classify(ground),
                baseline=OLD_BASELINE if is_before else NEW_BASELINE,
            )
        )
    return drawn


def _find_place(size_px: int, resolution_m: float) -> Affine:
    """Lay the scenes over the border of the zones."""
    (x,), (y,) = transform("EPSG:4326", WEST, *([each] for each in _BORDER))
    left, top = x - _WEST_SHARE * size_px * resolution_m, y + size_px * resolution_m / 2
    left, top = (round(each / resolution_m) * resolution_m for each in (left, top))
    return Affine(resolution_m, 0.0, left, 0.0, -resolution_m, top)


def _share_columns(size_px: int) -> dict[str, slice]:
    """Give the columns that each zone's files show, those at the border twice."""
    west, east = (round((_WEST_SHARE + side * _OVERLAP) * size_px) for side in (1, -1))
    return {WEST: slice(0, west), EAST: slice(east, size_px)}


def _outline_area(crs: CRS, place: Affine, *, size_px: int) -> gpd.GeoSeries:
    side_m = size_px * place.a
    frame = shapely.box(place.c, place.f - side_m, place.c + side_m, place.f).buffer(-_EDGE_M, join_style="mitre")
    return gpd.GeoSeries([frame], crs=crs).to_crs("EPSG:4326")

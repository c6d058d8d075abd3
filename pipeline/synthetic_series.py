"""Writes a made series of dated scenes, as a folder that a region is watched by."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from model.training.synthesis import DEFAULT_CHANGE_LEVEL, synthesize_pair
from pipeline.errors import InputError
from pipeline.synthetic import DEFAULT_CRS, DEFAULT_ORIGIN, check_request, make_folder, resolve_crs, write_cog

STRIP_PX: Final = 256
"""Borders between strips lie on whole multiples of this, so that they run between tiles of that size."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSeries:
    """Where the files of a synthetic series lie."""

    scenes: tuple[Path, ...]
    """RGB COG of each date, the first first: ``scene_YYYYMMDD.tif``."""
    area: Path
    """GeoJSON with the outline of the scenes."""


def write_synthetic_series(
    folder: Path,
    *,
    dates: Sequence[dt.date],
    seed: int,
    size_px: int = 2048,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = 0.0,
) -> SyntheticSeries:
    """Makes scenes of several dates in which a place changes from west to east; equal arguments give equal pixels.

    The first and the last scene are the two dates of a synthetic pair. A scene between them is put together of both,
    as a mosaic of two flights is: strips in the west show the last date, the others the first. So each pair of
    neighbouring dates has the changes of one strip, and no change goes away again.

    Args:
        folder: Where the files go; made when missing.
        dates: At least two days, ascending.
        seed: Any integer from 0.
        size_px: Height and width in pixels.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that a district is built up or torn down over the series, 0 to 1.
        removal_level: Probability that it is torn down then, 0 to 1.

    Raises:
        InputError: The dates, the seed, the size, the resolution, a level or the folder cannot be used.
    """
    if len(dates) < 2 or any(later <= earlier for earlier, later in pairwise(dates)):
        raise InputError(
            f"the dates are {', '.join(str(date) for date in dates) or 'none'}",
            expected="at least two days, each later than the one before",
            remedy="pass for example --dates 2024-06-15,2025-06-18",
        )
    check_request(seed, (size_px, size_px), resolution_m, {"change": change_level, "removal": removal_level})
    crs = resolve_crs(DEFAULT_CRS)
    pair = synthesize_pair(
        seed,
        height_px=size_px,
        width_px=size_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    transform = Affine(resolution_m, 0.0, DEFAULT_ORIGIN[0], 0.0, -resolution_m, DEFAULT_ORIGIN[1])
    files = SyntheticSeries(
        scenes=tuple(folder / f"scene_{date:%Y%m%d}.tif" for date in dates), area=folder / "area.geojson"
    )
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as name:
        for index, (date, path) in enumerate(zip(dates, files.scenes, strict=True)):
            pixels = _compose(pair.before, pair.after, n_changed_px=place_border(index, len(dates), width_px=size_px))
            write_cog(Path(name, path.name), pixels, crs=crs, transform=transform, datetime=f"{date}T15:30:00Z")
        side_m = size_px * resolution_m
        outline = shapely.box(transform.c, transform.f - side_m, transform.c + side_m, transform.f)
        area = gpd.GeoSeries([outline], crs=crs).to_crs("EPSG:4326")
        area.to_file(Path(name, files.area.name), driver="GeoJSON")
        for path in (*files.scenes, files.area):
            Path(name, path.name).replace(path)
    return files


def place_border(index: int, n_dates: int, *, width_px: int) -> int:
    """Give the column up to which the scene of a date shows the last date: 0 for the first, all for the last."""
    if index == n_dates - 1:
        return width_px
    return min(width_px, round(width_px * index / (n_dates - 1) / STRIP_PX) * STRIP_PX)


def _compose(before: NDArray[np.uint8], after: NDArray[np.uint8], *, n_changed_px: int) -> NDArray[np.uint8]:
    return np.concatenate([after[:, :n_changed_px], before[:, n_changed_px:]], axis=1)

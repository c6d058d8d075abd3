"""Writes made pairs of scenes, and series of dated ones, with their truth, as the files that real scenes come in.

The pixels come from `model.training.synthesis`; this module gives them a place on the earth. A pair serves as the
demonstration's input and as test data whose every change is known; a series as a folder that a region is watched by.
"""

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
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.transform import Affine

from model.errors import InputError, refuse_unwritable
from model.synthesis.pairs import (
    DEFAULT_CHANGE_LEVEL,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    RESOLUTION_RANGE_M,
    SyntheticPair,
    synthesize_pair,
)
from model.synthesis.truth import SyntheticObject
from pipeline.tables.geoparquet import encode_geoparquet
from pipeline.tables.schemas import TRUTH_SCHEMA

DEFAULT_CRS: Final = "EPSG:32614"
DEFAULT_ORIGIN: Final = (621_000.0, 3_362_000.0)
"""Easting and northing of the top left corner in `DEFAULT_CRS`: open country near Austin, Texas."""

BEFORE_DATETIME: Final = "2024-06-15T15:30:00Z"
AFTER_DATETIME: Final = "2026-06-20T15:45:00Z"

_COG_BLOCK_PX = 512


@dataclass(frozen=True, kw_only=True)
class SyntheticFiles:
    """Where the files of a synthetic pair lie."""

    before: Path
    """RGB COG of the first date."""
    after: Path
    """RGB COG of the second date."""
    change_mask: Path
    """One-band COG: 0 unchanged, 128 road changed, 255 building changed."""
    truth: Path
    """GeoParquet with one row per building and road."""


def write_synthetic_pair(
    folder: Path,
    *,
    seed: int,
    size_px: int | tuple[int, int] = 2048,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = 0.0,
    crs: str = DEFAULT_CRS,
    origin: tuple[float, float] = DEFAULT_ORIGIN,
) -> SyntheticFiles:
    """Makes a pair of scenes and writes two COGs, a mask and the truth; equal arguments give equal pixels.

    Each file appears complete under its name or not at all; files of an earlier call are replaced.

    Args:
        folder: Where the files go; made when missing.
        seed: Any integer from 0.
        size_px: Height and width in pixels, or one number for both.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that a district is built up or torn down between the dates, 0 to 1.
        removal_level: Probability that it is torn down then, 0 to 1.
        crs: A projected CRS in metres.
        origin: Easting and northing of the top left corner.

    Raises:
        InputError: The seed, a size, the resolution, a level, the CRS or the folder cannot be used.
    """
    height_px, width_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    check_request(seed, (height_px, width_px), resolution_m, {"change": change_level, "removal": removal_level})
    scene_crs = resolve_crs(crs)
    pair = synthesize_pair(
        seed,
        height_px=height_px,
        width_px=width_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    transform = Affine(resolution_m, 0.0, origin[0], 0.0, -resolution_m, origin[1])
    truth = tabulate_truth(pair, transform, scene_crs)
    files = SyntheticFiles(
        before=folder / "before.tif",
        after=folder / "after.tif",
        change_mask=folder / "change_mask.tif",
        truth=folder / "truth.parquet",
    )
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as name:
        drafts = Path(name)
        before_draft, after_draft = drafts / files.before.name, drafts / files.after.name
        mask_draft, truth_draft = drafts / files.change_mask.name, drafts / files.truth.name
        write_cog(before_draft, pair.before, crs=scene_crs, transform=transform, datetime=BEFORE_DATETIME)
        write_cog(after_draft, pair.after, crs=scene_crs, transform=transform, datetime=AFTER_DATETIME)
        mask = pair.change_mask[:, :, None]
        write_cog(mask_draft, mask, crs=scene_crs, transform=transform, datetime=None)
        truth_draft.write_bytes(encode_geoparquet(truth, schema=TRUTH_SCHEMA, order=np.arange(len(truth))))
        before_draft.replace(files.before)
        after_draft.replace(files.after)
        mask_draft.replace(files.change_mask)
        truth_draft.replace(files.truth)
    return files


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        InputError: It cannot be made.
    """
    with refuse_unwritable(folder, remedy="choose another one"):
        folder.mkdir(parents=True, exist_ok=True)


def check_request(seed: int, size_px: tuple[int, int], resolution_m: float, levels: dict[str, float]) -> None:
    """Raises InputError for a number outside its range."""
    low_m, high_m = RESOLUTION_RANGE_M
    if seed < 0:
        raise InputError(f"the seed is {seed}", expected="an integer from 0", remedy="pass another seed")
    if not all(MIN_SIZE_PX <= size <= MAX_SIZE_PX for size in size_px):
        raise InputError(
            f"the size is {size_px[0]} x {size_px[1]} px",
            expected=f"{MIN_SIZE_PX} to {MAX_SIZE_PX} px on both sides",
            remedy="pass a size in this range",
        )
    if not low_m <= resolution_m <= high_m:
        raise InputError(
            f"the resolution is {resolution_m} m",
            expected=f"{low_m} to {high_m} m per pixel, at which houses can be seen",
            remedy="pass a resolution in this range, 0.5 for imagery like LEVIR-CD",
        )
    for name, level in levels.items():
        if not 0.0 <= level <= 1.0:
            raise InputError(
                f"the {name} level is {level}",
                expected="a probability from 0 (never) to 1 (always)",
                remedy="pass another one",
            )


def check_dates(dates: Sequence[dt.date]) -> None:
    """Raises InputError for days that make no series."""
    if len(dates) < 2 or any(later <= earlier for earlier, later in pairwise(dates)):
        raise InputError(
            f"the dates are {', '.join(str(date) for date in dates) or 'none'}",
            expected="at least two days, each later than the one before",
            remedy="pass for example --dates 2024-06-15,2025-06-18",
        )


def resolve_crs(crs: str) -> CRS:
    """Returns the CRS of a name, which must be projected and in metres."""
    expected = "a projected CRS in metres"
    remedy = f"pass a UTM zone such as {DEFAULT_CRS}"
    try:
        resolved = CRS.from_user_input(crs)
    except CRSError as error:
        raise InputError(f"the CRS {crs!r} is not known", expected=expected, remedy=remedy) from error
    if not resolved.is_projected or resolved.linear_units_factor[1] != 1.0:
        raise InputError(f"the CRS {crs!r} is not in metres", expected=expected, remedy=remedy)
    return resolved


def tabulate_truth(pair: SyntheticPair, transform: Affine, crs: CRS) -> gpd.GeoDataFrame:
    """Returns one row per building and road, its outline cut at the scene's border."""
    height_px, width_px = pair.change_mask.shape
    frame = shapely.box(0.0, 0.0, float(width_px), float(height_px))
    outlines = [_outline_of(thing).intersection(frame) for thing in pair.objects]
    geometry = shapely.transform(np.array(outlines, dtype=object), lambda xy: _to_crs(xy, transform))
    return gpd.GeoDataFrame(
        {
            "object_id": np.arange(len(outlines), dtype=np.int32),
            "kind": [thing.kind for thing in pair.objects],
            "is_in_before": np.array([thing.is_in_before for thing in pair.objects], dtype=np.bool_),
            "is_in_after": np.array([thing.is_in_after for thing in pair.objects], dtype=np.bool_),
            "area_m2": shapely.area(geometry),
        },
        geometry=geometry,
        crs=crs,
    )


def _outline_of(thing: SyntheticObject) -> shapely.Geometry:
    """Returns an object's outline as a valid polygon in pixels, x before y as geometry libraries want it."""
    polygon = shapely.Polygon([(x, y) for y, x in thing.polygon_px])
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _to_crs(xy: NDArray[np.float64], transform: Affine) -> NDArray[np.float64]:
    """Converts (N, 2) pixel positions (x, y) to CRS coordinates."""
    x, y = transform @ (xy[:, 0], xy[:, 1])
    return np.stack([x, y], axis=1)


def write_cog(path: Path, pixels: NDArray[np.uint8], *, crs: CRS, transform: Affine, datetime: str | None) -> None:
    """Writes (height, width, bands) uint8 pixels as a COG.

    Args:
        path: File to write.
        pixels: One band (a mask, averaged overviews would invent classes) or three (RGB).
        crs: The scene's CRS.
        transform: The scene's transform.
        datetime: Acquisition time in ISO 8601, or None.
    """
    height_px, width_px, bands = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=height_px,
        width=width_px,
        count=bands,
        dtype="uint8",
        crs=crs,
        transform=transform,
        compress="DEFLATE",
        predictor="YES",
        blocksize=_COG_BLOCK_PX,
        overview_resampling="NEAREST" if bands == 1 else "AVERAGE",
    ) as dataset:
        dataset.write(np.moveaxis(pixels, 2, 0))
        if bands == 3:
            dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        if datetime is not None:
            tiff_datetime = datetime.replace("-", ":").replace("T", " ").removesuffix("Z")
            dataset.update_tags(ACQUISITION_DATETIME=datetime, TIFFTAG_DATETIME=tiff_datetime)


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
    check_dates(dates)
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

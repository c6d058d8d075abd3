"""Writes pictures of one place as an archive of a satellite would hold them: STAC items with a file per band.

As with Sentinel-2, each zone has files of its own, in its own CRS, and those of neighbouring zones overlap. Values are
10,000 times the reflectance in 16 bits, 0 where there is none, and 1000 higher since processing baseline 04.00;
classes have pixels twice as large.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject, transform_bounds, transform_geom

from model.errors import InputError
from model.synthesis.clouds import CLOUD, DENSE_CLOUD

COLLECTION: Final = "made-l2a"
OLD_BASELINE, NEW_BASELINE = "03.01", "05.11"

MAX_REFLECTANCE: Final = 0.3
"""What a picture shows as white."""

_QUANTIFICATION, _OFFSET = 10_000, 1000
_COLOURS = ("red", "green", "blue")
_CLASSES = "scl"
_CLASS_STEP = 2
# ^ Pixels of classes are so many times as large.
_COG = {"driver": "COG", "compress": "DEFLATE", "level": 1, "blocksize": 512}
_OWN_NAMES = re.compile(rf"made_\d+_\d{{8}}_[\d.]+(\.json|/({'|'.join((*_COLOURS, _CLASSES))})\.tif)?")
# ^ Of what lies in the folder of the items.
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"


@dataclass(frozen=True, kw_only=True)
class ArchiveDate:
    """What was seen on one day."""

    day: dt.date
    """The day."""
    pixels: npt.NDArray[np.uint8]
    """(height, width, 3) RGB."""
    classes: npt.NDArray[np.uint8]
    """(height, width) classes as in Sentinel-2's SCL."""
    baseline: str
    """Processing baseline, `OLD_BASELINE` or `NEW_BASELINE`."""


@dataclass(frozen=True, kw_only=True)
class _Granule:
    """Where the files of a zone lie."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    @property
    def outline(self) -> shapely.Polygon:
        height, width = self.shape
        left, top = self.transform.c, self.transform.f
        return shapely.box(left, top + height * self.transform.e, left + width * self.transform.a, top)


def write_archive(
    folder: Path, dates: Sequence[ArchiveDate], *, crs: CRS, transform: Affine, zones: Mapping[str, slice]
) -> Path:
    """Write a static STAC catalog with an item per date and zone; gives the catalog.

    Args:
        folder: Where it goes; is there.
        dates: What was seen, all of one size.
        crs: CRS of the pictures.
        transform: Their place.
        zones: Columns of the pictures that the files of each zone show, by its CRS.
    """
    names = []
    for zone, columns in zones.items():
        left, right, _ = columns.indices(dates[0].classes.shape[1])
        shape = len(dates[0].classes), right - left
        own = _Granule(crs=crs, transform=transform @ Affine.translation(left, 0), shape=shape)
        granule = _place_granule(CRS.from_user_input(zone), own=own)
        for date in dates:
            item_id = f"made_{zone.rpartition(':')[2]}_{date.day:%Y%m%d}_{date.baseline}"
            names.append(item_id)
            target = folder / "items" / item_id
            target.mkdir(parents=True)
            pixels, classes = _warp(date.pixels[:, columns], date.classes[:, columns], own=own, granule=granule)
            _write_bands(target, pixels=pixels, classes=classes, granule=granule, baseline=date.baseline)
            item = _describe(item_id, date, classes=classes, granule=granule)
            _write_json(folder / "items" / f"{item_id}.json", item)
    _write_json(folder / "collection.json", _describe_collection(names, dates=dates))
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "made", "description": "A made archive."}
    links = [{"rel": "child", "href": "collection.json", "type": "application/json"}]
    return _write_json(folder / "catalog.json", {**catalog, "links": links})


def remove_items(folder: Path) -> None:
    """Remove the items of an archive that `write_archive` wrote into a folder, if there is one.

    Raises:
        InputError: Among them lies something that it did not write; nothing is removed then.
    """
    items = folder / "items"
    if not items.is_symlink() and not items.exists():
        return
    foreign = (path for path in (items, *items.rglob("*")) if path.is_symlink() or not _is_own(path, items))
    if (stranger := next(foreign, None)) is not None:
        raise InputError(
            f"{stranger} is not of a made archive",
            expected="an empty folder, or one with a made archive, which is replaced",
            remedy="choose another folder",
        )
    shutil.rmtree(items)


def _is_own(path: Path, items: Path) -> bool:
    """Whether `write_archive` gives such a name in the folder of the items, or it is that folder."""
    return path.is_dir() if path == items else bool(_OWN_NAMES.fullmatch(path.relative_to(items).as_posix()))


def _place_granule(crs: CRS, *, own: _Granule) -> _Granule:
    """Give the smallest granule of a zone, in whole pixels of its CRS, that holds all of the pictures."""
    if crs == own.crs:
        return own
    size = own.transform.a
    left, bottom, right, top = transform_bounds(own.crs, crs, *own.outline.bounds)
    columns, rows = np.floor(left / size), np.ceil(top / size)
    height, width = int(rows - np.floor(bottom / size)), int(np.ceil(right / size) - columns)
    place = Affine(size, 0.0, columns * size, 0.0, -size, rows * size)
    return _Granule(crs=crs, transform=place, shape=(height, width))


def _warp(
    pixels: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8], *, own: _Granule, granule: _Granule
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Give bands and classes of a zone's granule; where the pictures show nothing, both are 0."""
    # 0 is what nobody has seen, in values as in classes.
    bands = np.maximum(np.moveaxis(pixels, 2, 0), 1)
    if granule is own:
        return bands, classes
    warped = []
    for source, resampling in ((bands, Resampling.cubic), (classes[None], Resampling.nearest)):
        seen = np.zeros((len(source), *granule.shape), dtype=np.uint8)
        reproject(
            np.ascontiguousarray(source),
            seen,
            src_transform=own.transform,
            src_crs=own.crs,
            src_nodata=0,
            dst_transform=granule.transform,
            dst_crs=granule.crs,
            dst_nodata=0,
            resampling=resampling,
        )
        warped.append(seen)
    return warped[0], warped[1][0]


def _write_bands(
    target: Path,
    *,
    pixels: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.uint8],
    granule: _Granule,
    baseline: str,
) -> None:
    values = np.rint(pixels * (MAX_REFLECTANCE * _QUANTIFICATION / 255)).astype(np.uint16)
    values[values > 0] += _OFFSET if baseline == NEW_BASELINE else 0
    for name, band in zip(_COLOURS, values, strict=True):
        _write_band(target / f"{name}.tif", band, granule=granule, step=1)
    _write_band(target / f"{_CLASSES}.tif", classes[::_CLASS_STEP, ::_CLASS_STEP], granule=granule, step=_CLASS_STEP)


def _write_band(path: Path, values: npt.NDArray[Any], *, granule: _Granule, step: int) -> None:
    height, width = values.shape
    place = granule.transform @ Affine.scale(step)
    profile = {"height": height, "width": width, "count": 1, "dtype": values.dtype, "nodata": 0, "crs": granule.crs}
    options = _COG | {"overview_resampling": "NEAREST" if step > 1 else "AVERAGE"}
    with rasterio.open(path, "w", transform=place, **profile, **options) as file:
        file.write(values, 1)


def _describe(item_id: str, date: ArchiveDate, *, classes: npt.NDArray[np.uint8], granule: _Granule) -> dict[str, Any]:
    """Describe a date of a zone as an archive would; its clouds are those of the class band."""
    outline = transform_geom(granule.crs, "EPSG:4326", shapely.geometry.mapping(granule.outline))
    clouds = np.isin(classes, (CLOUD, DENSE_CLOUD)).sum() / max(1, np.count_nonzero(classes))
    media = "image/tiff; application=geotiff; profile=cloud-optimized"
    assets = {
        name: {
            "href": f"{item_id}/{name}.tif",
            "type": media,
            "roles": ["data"],
            **({"eo:bands": [{"name": name, "common_name": name}]} if name in _COLOURS else {}),
        }
        for name in (*_COLOURS, _CLASSES)
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [_PROJECTION, _EO],
        "id": item_id,
        "collection": COLLECTION,
        "geometry": outline,
        "bbox": list(shapely.geometry.shape(outline).bounds),
        "properties": {
            "datetime": _tell_moment(date.day),
            "eo:cloud_cover": round(100 * float(clouds), 1),
            "s2:processing_baseline": date.baseline,
            "proj:code": f"EPSG:{granule.crs.to_epsg()}",
            "proj:shape": list(granule.shape),
            "proj:transform": list(granule.transform)[:6],
        },
        "links": [{"rel": "collection", "href": "../collection.json", "type": "application/json"}],
        "assets": assets,
    }


def _describe_collection(names: Sequence[str], *, dates: Sequence[ArchiveDate]) -> dict[str, Any]:
    days = sorted(date.day for date in dates)
    interval = [_tell_moment(days[0]), _tell_moment(days[-1])]
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "description": "Made scenes in the shape of Sentinel-2 L2A.",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [interval]}},
        "links": [{"rel": "item", "href": f"items/{name}.json", "type": "application/geo+json"} for name in names],
    }


def _tell_moment(day: dt.date) -> str:
    return f"{day}T17:00:00Z"


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path

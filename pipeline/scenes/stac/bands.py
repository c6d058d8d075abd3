"""Which asset of an item, and which band of it, a name stands for, and what its stored values mean.

A name is a key, common name, band name or title. Values have a scale and an offset as an item tells them, Sentinel-2's
offset among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from model.errors import InputError
from pipeline.scenes.band_names import contradicts_order, find_colours, tell_colours

Assets = Mapping[str, Mapping[str, Any]]
"""JSON of an item's assets by their keys."""

_COLOURS = ("red", "green", "blue")
_OTHER_FORMATS = {
    "grib": "GRIB", "grib2": "GRIB", "grb": "GRIB", "grb2": "GRIB", "nc": "NetCDF", "nc4": "NetCDF", "hdf": "HDF",
    "h4": "HDF", "h5": "HDF", "zarr": "Zarr", "vrt": "VRT", "zip": "an archive", "tar": "an archive",
    "gz": "an archive", "safe": "a folder", "xml": "text", "json": "text", "geojson": "vectors", "parquet": "a table",
    "csv": "a table", "txt": "text", "html": "text", "pdf": "a document", "laz": "points", "las": "points",
    "svg": "a drawing", "gpkg": "vectors", "shp": "vectors",
}  # fmt: skip
"""What ends like this is no raster that stands for itself; a VRT may lead anywhere."""
_FORMAT_WORDS = {"grib": "GRIB", "wmo-": "GRIB", "netcdf": "NetCDF", "hdf": "HDF", "zarr": "Zarr"}
_UNTOLD_TYPES = {"", "application/octet-stream", "binary/octet-stream"}
_PREVIEW_ROLES = {"thumbnail", "overview"}
_LISTED_ASSETS = 12


def leave_out(found: str) -> InputError:
    """Make the error of an item that can be no part of a scene; the other items go on without it.

    Args:
        found: What is wrong with it, to follow on its id.
    """
    return InputError(
        found,
        expected="an item that fits, with georeferenced rasters of red, green and blue",
        remedy="correct bands, or widen datetime, bbox or the cloud limit",
    )


@dataclass(frozen=True, kw_only=True)
class BandChoice:
    """A band of an asset."""

    key: str
    """Key of the asset."""
    band: int | None
    """1-based number of the band; None: a colour raster, whose own header tells."""


def choose_bands(assets: Assets, *, wanted: Sequence[str]) -> tuple[BandChoice, BandChoice, BandChoice]:
    """Find red, green and blue.

    Where none of the plain names red, green and blue is there, the asset ``visual`` or the only raster stands in.

    Args:
        assets: Those of the item.
        wanted: Three names, or that of one asset which holds all three.

    Raises:
        InputError: one of them is not there, is no raster, or a name fits an asset of several bands; says which.
    """
    if len(wanted) == 1:
        return _choose_colour(assets, key=_find_key(assets, wanted[0]))
    choices = [find_band(assets, name) for name in wanted]
    missing = [name for name, choice in zip(wanted, choices, strict=True) if choice is None]
    if missing == list(_COLOURS) and (key := _find_visual(assets)) is not None:
        return _choose_colour(assets, key=key)
    if missing:
        raise leave_out(f"has no {', '.join(missing)}; its assets are {_list_assets(assets)}")
    red, green, blue = (choice for choice in choices if choice is not None)
    return red, green, blue


def find_band(assets: Assets, name: str) -> BandChoice | None:
    """Find a band by asset key, then as ``key.2``, then by its common or own name, then by the asset's title.

    Of several bands of one name the one in the asset with the fewest bands counts, then the one of the finest
    ground sampling distance, then the first key.

    Raises:
        InputError: the name is that of an asset which is no raster or has several bands.
    """
    if (key := _match(assets, name)) is not None:
        return _take_only_band(assets, key=key, name=name)
    key, _, number = name.rpartition(".")
    if number.isdigit() and (found := _match(assets, key)) is not None:
        _check_raster(assets, key=found)
        return BandChoice(key=found, band=int(number))
    named = [
        (len(bands), _read_gsd(asset), key, index + 1)
        for key, asset in assets.items()
        if find_other_format(asset) is None and not _PREVIEW_ROLES.intersection(_list_roles(asset))
        for bands in [list_band_names(asset)]
        for index, names in enumerate(bands)
        if name.casefold() in names
    ]
    if named:
        _, _, key, band = min(named)
        return BandChoice(key=key, band=band)
    titled = [key for key, asset in assets.items() if str(asset.get("title", "")).casefold() == name.casefold()]
    return _take_only_band(assets, key=titled[0], name=name) if titled else None


def list_band_names(asset: Mapping[str, Any]) -> list[set[str]]:
    """Give the names of an asset's bands in lower case, one set per band; empty where it does not tell its bands."""
    tables = [asset.get(name) for name in ("bands", "eo:bands", "raster:bands")]
    bands = next((table for table in tables if isinstance(table, list) and table), [])
    names = [_lower(_read_names(band)) for band in bands]
    # A single band may be described on the asset itself.
    if len(names) <= 1 and (common := asset.get("eo:common_name")):
        names = [_lower([common]).union(*names)]
    return names


def find_other_format(asset: Mapping[str, Any]) -> str | None:
    """Name the format of an asset that is no raster to be read here, by media type and ending; None: it may be one."""
    path = urlsplit(str(asset.get("href", ""))).path
    ending = PurePosixPath(path).suffix.lower().lstrip(".")
    if ending in _OTHER_FORMATS:
        return _OTHER_FORMATS[ending]
    media_type = str(asset.get("type") or "").partition(";")[0].strip().lower()
    if media_type in _UNTOLD_TYPES or media_type.startswith("image/") or "geotiff" in media_type:
        return None
    return next((word for part, word in _FORMAT_WORDS.items() if part in media_type), media_type)


def _take_only_band(assets: Assets, *, key: str, name: str) -> BandChoice:
    _check_raster(assets, key=key)
    names = list_band_names(assets[key])
    fitting = [index + 1 for index, band in enumerate(names) if name.casefold() in band]
    if len(names) > 1 and len(fitting) != 1:
        raise leave_out(f"has {len(names)} bands in its asset {key}; write {key}.1 for the first of them")
    return BandChoice(key=key, band=fitting[0] if len(names) > 1 else 1)


def _choose_colour(assets: Assets, *, key: str) -> tuple[BandChoice, BandChoice, BandChoice]:
    names = list_band_names(assets[key])
    if 0 < len(names) < 3:
        raise leave_out(f"has only {len(names)} of red, green and blue in its asset {key}")
    told = [_tell_colour(band) for band in names]
    for known in (told, tell_colours([next(iter(sorted(band)), "") for band in names])):
        if (found := find_colours(known)) is not None:
            red, green, blue = (BandChoice(key=key, band=number) for number in found)
            return red, green, blue
        if contradicts_order(known):
            words = ", ".join(" or ".join(sorted(band)) or "no name" for band in names)
            raise leave_out(f"has in its asset {key} other bands than red, green and blue ({words})")
    whole = BandChoice(key=key, band=None)
    return whole, whole, whole


def _tell_colour(names: set[str]) -> str | None:
    # A common name tells more than the band's own, such as B04.
    return next((colour for colour in _COLOURS if colour in names), None)


def _find_visual(assets: Assets) -> str | None:
    rasters = [
        key
        for key, asset in assets.items()
        if find_other_format(asset) is None and len(list_band_names(asset)) not in {1, 2}
    ]
    data = [key for key in rasters if not _PREVIEW_ROLES.intersection(_list_roles(assets[key]))]
    visual = [key for key in rasters if key.casefold() == "visual"]
    visual += [key for key in data if "visual" in _list_roles(assets[key])]
    return visual[0] if visual else data[0] if len(data) == 1 else None


def _find_key(assets: Assets, name: str) -> str:
    titled = (key for key, asset in assets.items() if str(asset.get("title", "")).casefold() == name.casefold())
    key = _match(assets, name) or next(titled, None)
    if key is None:
        raise leave_out(f"has no {name}; its assets are {_list_assets(assets)}")
    _check_raster(assets, key=key)
    return key


def _check_raster(assets: Assets, *, key: str) -> None:
    if other := find_other_format(assets[key]):
        raise leave_out(f"has {other} in its asset {key}, no raster such as GeoTIFF or JPEG 2000")


def _match(assets: Iterable[str], name: str) -> str | None:
    keys = list(assets)
    return name if name in keys else next((key for key in keys if key.casefold() == name.casefold()), None)


def _read_names(band: Any) -> list[Any]:
    fields = ("name", "common_name", "eo:common_name")
    return [band.get(field) for field in fields] if isinstance(band, Mapping) else []


def _lower(names: Iterable[Any]) -> set[str]:
    return {name.casefold() for name in names if isinstance(name, str)}


def _list_roles(asset: Mapping[str, Any]) -> list[str]:
    roles = asset.get("roles")
    return [role for role in roles if isinstance(role, str)] if isinstance(roles, list) else []


def _read_gsd(asset: Mapping[str, Any]) -> float:
    gsd = asset.get("gsd")
    return float(gsd) if isinstance(gsd, int | float) and 0 < gsd < 1e9 else math.inf


def _list_assets(assets: Assets) -> str:
    words = []
    for key, asset in list(assets.items())[:_LISTED_ASSETS]:
        names = sorted(name for band in list_band_names(asset) for name in band)
        told = find_other_format(asset) or ", ".join(names[:_LISTED_ASSETS])
        words.append(f"{key} ({told})" if told else key)
    more = len(assets) - _LISTED_ASSETS
    return (", ".join(words) or "none") + (f" and {more} more" if more > 0 else "")


SENTINEL2_OFFSET = -1000
"""Added to the stored values of products of processing baseline 04.00 or later (BOA_ADD_OFFSET, RADIO_ADD_OFFSET)."""
SENTINEL2_QUANTIFICATION = 10_000
"""Stored value of a Sentinel-2 band at reflectance 1."""
_OFFSET_BASELINE = (4, 0)
_APPLIED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a stored value becomes a physical one; what is None the item does not tell."""

    scale: float | None = None
    """Physical value = stored value * scale + offset."""
    offset: float | None = None
    """Added after scaling."""


def read_scaling(asset: Mapping[str, Any], *, band: int, properties: Mapping[str, Any]) -> Scaling:
    """Find scale and offset of a band: the raster extension's, versions 1 and 2, else what is known of Sentinel-2.

    The band's own words go over the asset's. Scale and offset in ``eo:bands`` mean something else with every
    provider and are not believed.

    Args:
        asset: JSON of the asset.
        band: 1-based number of the band in it.
        properties: Those of the item.

    Raises:
        InputError: a scale or offset is no finite number, or the scale is 0.
    """
    described = describe_band(asset, band=band)
    told = Scaling(
        scale=_read_number(described, asset, name="scale"), offset=_read_number(described, asset, name="offset")
    )
    if told.scale == 0:
        raise leave_out("its scale is 0")
    is_bytes = described.get("data_type", asset.get("data_type")) == "uint8" or "visual" in _list_roles(asset)
    return told if is_bytes else settle_sentinel2(told, properties=properties)


def settle_sentinel2(told: Scaling, *, properties: Mapping[str, Any]) -> Scaling:
    """Complete the scaling of a Sentinel-2 band so that both sides of baseline 04.00 mean the same.

    Earth Search takes the offset out of some of its files and says so with a flag, while ``raster:bands`` may still
    name it: the flag counts. Where nothing is said, the baseline tells.
    """
    if not is_sentinel2(properties):
        return told
    is_applied = next((properties[name] for name in _APPLIED_FLAGS if name in properties), None)
    baseline = _read_baseline(properties)
    if is_applied is True:
        return Scaling(scale=told.scale or 1 / SENTINEL2_QUANTIFICATION, offset=0.0)
    if told.offset is not None or baseline is None:
        return told
    scale = told.scale or 1 / SENTINEL2_QUANTIFICATION
    return Scaling(scale=scale, offset=SENTINEL2_OFFSET * scale if baseline >= _OFFSET_BASELINE else 0.0)


def is_sentinel2(properties: Mapping[str, Any]) -> bool:
    """Tell of an item whether it is one of Sentinel-2's."""
    platform = str(properties.get("constellation") or properties.get("platform") or "").lower()
    return platform.startswith("sentinel-2") or any(name.startswith("s2:") for name in properties)


def describe_band(asset: Mapping[str, Any], *, band: int) -> dict[str, Any]:
    """Merge what ``raster:bands`` and ``bands`` say of a band, the latter over the former."""
    merged: dict[str, Any] = {}
    for name in ("raster:bands", "bands"):
        bands = asset.get(name)
        if isinstance(bands, list) and 0 < band <= len(bands) and isinstance(bands[band - 1], Mapping):
            merged |= bands[band - 1]
    return merged


def _read_number(described: Mapping[str, Any], asset: Mapping[str, Any], *, name: str) -> float | None:
    found = next(
        (
            value
            for value in (described.get(f"raster:{name}"), described.get(name), asset.get(f"raster:{name}"))
            if value is not None
        ),
        None,
    )
    if found is None:
        return None
    try:
        # JSON's true is no 1.
        number = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise leave_out(f"its {name} is {found!r}, no number")
    return number


def _read_baseline(properties: Mapping[str, Any]) -> tuple[int, int] | None:
    for name in _BASELINES:
        major, _, minor = str(properties.get(name, "")).partition(".")
        if major.isdigit() and (minor.isdigit() or not minor):
            return int(major), int(minor or 0)
    return None

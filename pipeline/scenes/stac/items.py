"""From one STAC item to a part of a scene: which files, what their values mean, when and where."""

from __future__ import annotations

import datetime as dt
import json
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import pystac
from odc.geo.geobox import GeoBox
from odc.stac import parse_item
from shapely import make_valid
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.dates import to_utc
from pipeline.grid.date_line import make_box, unwrap_shape, wrap_shape
from pipeline.grid.grid import compute_footprint as compute_raster_outline
from pipeline.grid.projections import refuse_named_files
from pipeline.scenes.bands import SENTINEL2_NODATA
from pipeline.scenes.classes import BIT_NAMES
from pipeline.scenes.days import ScenePiece
from pipeline.scenes.files import BandFile, PartFiles
from pipeline.scenes.stac.bands import (
    Assets,
    BandChoice,
    Scaling,
    choose_bands,
    describe_band,
    find_band,
    is_sentinel2,
    leave_out,
    read_scaling,
)
from pipeline.scenes.stac.hrefs import Place, resolve_href
from pipeline.uris import is_remote

_DEFAULT_NIR, _OTHER_NIR = "nir", ("nir08",)
# ^ Landsat's is called otherwise, and is narrower.
DEFAULT_CLASSES = "scl"
"""Class band that is taken where it is there, and not missed where it is not; or one of another archive."""
_CLASSES_NAME = re.compile(r"scl[_-].*|scene[_-]?classification.*")
_LONGEST_ID = 200
MAX_ASSETS = 1000
"""Assets of an item."""
_LARGEST = 1e9
# ^ Of numbers that tell a place or a share.
_AGREEMENT = 0.5
# ^ Part of the smaller of geometry and outline that lies in the other, where both speak of one place.


@dataclass(frozen=True, kw_only=True)
class FoundItem:
    """An item as it was found, and where its hrefs may lead."""

    content: dict[str, Any]
    """The item's JSON."""
    place: Place
    """Where it lies."""


@dataclass(frozen=True, kw_only=True)
class SceneItem(ScenePiece):
    """A STAC item that can be a part of a scene."""

    end: dt.datetime
    """Last moment of the acquisition, UTC."""
    properties: Mapping[str, Any]
    """All its properties."""
    footprint: BaseGeometry
    """What it shows, in WGS84 longitude and latitude."""
    part: PartFiles
    """Its files."""


def read_item(found: FoundItem, *, config: StacConfig) -> SceneItem:
    """Find the files of an item and what they mean, without opening them.

    Raises:
        InputError: it cannot be a part of a scene, or an href leads where it may not.
    """
    item = _parse(found.content)
    start, end = _read_times(item)
    assets: Assets = {key: asset.to_dict() for key, asset in item.assets.items()}
    red, green, blue = choose_bands(assets, wanted=config.bands)
    classes = _choose_classes(assets, name=config.classes)
    make_file = partial(_make_file, assets, item=item, place=found.place, alternate=config.alternate)
    nir = None
    # Who needs it says that it is missing; nobody else is kept from an item by a band that he does not read.
    with suppress(InputError):
        nir = None if (choice := _choose_nir(assets, name=config.nir)) is None else make_file(choice)
    part = PartFiles(
        red=make_file(red),
        green=make_file(green),
        blue=make_file(blue),
        classes=None if classes is None else make_file(classes, is_class=True),
        nir=nir,
    )
    return SceneItem(
        piece_id=item.id,
        collection=item.collection_id,
        start=start,
        end=end,
        cloud_percent=_read_clouds(item.properties),
        properties=item.properties,
        footprint=compute_footprint(item, key=red.key),
        version=describe_version(item.properties),
        processed=describe_processing(item.properties),
        part=part,
        is_colour=red.band is None or red.key == green.key == blue.key,
    )


def compute_footprint(item: pystac.Item, *, key: str) -> BaseGeometry:
    """Tell what an item shows: its geometry within the outline of its raster, or the one of the two that it tells.

    The raster's outline comes from the projection extension in any of its dialects, at the item or at the asset.

    Raises:
        InputError: it tells neither, nor a bbox.
    """
    outline, seen = _read_outline(item, key=key), _read_geometry(item)
    if outline is not None and seen is not None:
        both = outline.intersection(seen)
        # Where the two contradict each other, what the pixels are read by counts.
        return both if both.area >= _AGREEMENT * min(outline.area, seen.area) else outline
    known = outline if outline is not None else seen
    if known is not None:
        return known
    bounds = item.bbox or []
    if len(bounds) not in {4, 6} or not all(map(_is_number, bounds)):
        raise leave_out("has neither geometry nor bbox nor projection to tell where it lies")
    # With heights there are six.
    return make_box(bounds[0], bounds[1], bounds[len(bounds) // 2], bounds[len(bounds) // 2 + 1])


def describe_version(properties: Mapping[str, Any]) -> str:
    """Tell of an item what changes when its pixels do: the version of its processing, else when it was updated."""
    known = _find_processing(properties) or properties.get("updated") or properties.get("created")
    return str(known or "")


def describe_processing(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Tell of an item what puts versions of one acquisition in order."""
    # What is marked as replaced by its catalog comes before whatever is not.
    is_valid = "" if properties.get("deprecated") is True else "valid"
    parts = (is_valid, _find_processing(properties), properties.get("created"), properties.get("updated"))
    return tuple(str(part or "") for part in parts)


def _find_processing(properties: Mapping[str, Any]) -> object:
    names = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version", "version")
    return next((properties[name] for name in names if properties.get(name)), None)


def _parse(content: Any) -> pystac.Item:
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise leave_out("is no STAC item with an id")
    if isinstance(assets := content.get("assets"), dict) and len(assets) > MAX_ASSETS:
        raise leave_out(f"has {len(assets)} assets")
    # Links are followed nowhere here, and pystac would bend asset hrefs by a self link that may be wrong.
    plain = {**deepcopy(content), "links": []}
    try:
        with warnings.catch_warnings():
            # Such as two codes of a CRS that contradict each other.
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(plain, migrate=True, preserve_dict=False)
    # pystac lets through whatever its parsing of a malformed document runs into.
    except Exception as problem:
        raise leave_out(f"is no sound STAC item ({type(problem).__name__}: {str(problem)[:_LONGEST_ID]})") from None
    if len(item.id) > _LONGEST_ID:
        raise leave_out(f"has an id of {len(item.id)} characters")
    return item


def _read_times(item: pystac.Item) -> tuple[dt.datetime, dt.datetime]:
    try:
        told = (item.common_metadata.start_datetime, item.common_metadata.end_datetime)
    except (ValueError, TypeError, AttributeError):
        told = (None, None)
    start = item.datetime or told[0]
    end = item.datetime or told[1] or start
    if start is None or end is None:
        raise leave_out("has no datetime")
    try:
        moments = to_utc(start), to_utc(end)
    except ValueError as problem:
        raise leave_out(f"has a datetime that is none ({problem})") from None
    if moments[0] > moments[1]:
        raise leave_out("ends before it begins")
    return moments


def _choose_classes(assets: Assets, *, name: str | None) -> BandChoice | None:
    if name is None:
        return None
    if name != DEFAULT_CLASSES:
        if (choice := find_band(assets, name)) is None:
            raise leave_out(f"has no classes {name}; its assets are {', '.join(assets)}")
        return choice
    # Some have it in more than one resolution: 20 m comes before 60 m.
    named = sorted(key for key in assets if _CLASSES_NAME.fullmatch(key.casefold()))
    for wanted in (name, *named, *BIT_NAMES):
        with suppress(InputError):
            if (choice := find_band(assets, wanted)) is not None:
                return choice
    return None


def _choose_nir(assets: Assets, *, name: str) -> BandChoice | None:
    for wanted in (name, *(_OTHER_NIR if name == _DEFAULT_NIR else ())):
        with suppress(InputError):
            if (choice := find_band(assets, wanted)) is not None:
                return choice
    return None


def _make_file(
    assets: Assets,
    choice: BandChoice,
    *,
    item: pystac.Item,
    place: Place,
    alternate: str | None,
    is_class: bool = False,
) -> BandFile:
    asset = assets[choice.key]
    # Of a colour raster all bands mean the same; the first one tells.
    band = choice.band or 1
    try:
        scaling = Scaling() if is_class else read_scaling(asset, band=band, properties=item.properties)
        nodata = _read_nodata(asset, band=band, properties=item.properties)
    except InputError as problem:
        raise leave_out(f"has an asset {choice.key} that cannot be understood: {problem.found}") from None
    if nodata is None and not is_class and is_sentinel2(item.properties):
        nodata = SENTINEL2_NODATA
    href = _choose_href(asset, wanted=alternate)
    return BandFile(
        uri=resolve_href(href, place=place, what=f"the asset {choice.key} of item {item.id}"),
        band=choice.band,
        scale=scaling.scale,
        offset=scaling.offset,
        nodata=nodata,
        root=place.root,
    )


def _choose_href(asset: Mapping[str, Any], *, wanted: str | None) -> str:
    href, alternates = str(asset["href"]), asset.get("alternate")
    others = {
        str(key): str(other.get("href"))
        for key, other in (alternates.items() if isinstance(alternates, Mapping) else ())
        if isinstance(other, Mapping)
    }
    if wanted in others:
        return others[wanted]
    # Only where the asset's own href is of a kind that is not read, such as gs://, another place of the same stands in.
    if "://" not in href or is_remote(href) or href.lower().startswith("file:"):
        return href
    return next((other for other in others.values() if is_remote(other)), href)


def _read_nodata(asset: Mapping[str, Any], *, band: int, properties: Mapping[str, Any]) -> float | None:
    told = (describe_band(asset, band=band).get("nodata"), asset.get("nodata"), properties.get("nodata"))
    found = next((value for value in told if value is not None), None)
    if found is None:
        return None
    try:
        if not isinstance(found, bool):
            return float(found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise leave_out(f"its nodata is {str(found)[:_LONGEST_ID]!r}, no number")


def _read_clouds(properties: Mapping[str, Any]) -> float | None:
    # The second is Maxar's.
    value = next((properties[name] for name in ("eo:cloud_cover", "tile:clouds_percent") if name in properties), None)
    return float(value) if _is_number(value) and 0 <= value <= 100 else None


def _is_number(value: object) -> TypeGuard[float]:
    """Tell whether this is a number of ordinary size; JSON's true is none, and its numbers may have any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _read_outline(item: pystac.Item, *, key: str) -> BaseGeometry | None:
    # odc-stac reads all assets of an item and gives up where one of them is odd: it is shown the one that counts.
    asset = item.assets[key].clone()
    asset.extra_fields.pop("eo:bands", None)
    asset.media_type, asset.roles = pystac.MediaType.GEOTIFF, ["data"]
    alone = pystac.Item(
        id=item.id,
        geometry=None,
        bbox=None,
        datetime=dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
        properties=dict(item.properties),
        stac_extensions=item.stac_extensions,
    )
    alone.add_asset(key, asset)
    told = [value for name, value in {**item.properties, **asset.extra_fields}.items() if name.startswith("proj:")]
    try:
        for value in told:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            refuse_named_files(text, named_by=item.id)
        geoboxes = parse_item(alone, asset_absolute_paths=False).geoboxes()
        outline = _outline(geoboxes[0]) if geoboxes else None
        return None if outline is None or outline.is_empty or not outline.is_valid else outline
    # A CRS or a transform that makes no sense: odc, pyproj and shapely each bring their own kinds.
    except Exception:
        return None


def _outline(geobox: GeoBox) -> BaseGeometry:
    size = {"width": geobox.width, "height": geobox.height}
    return wrap_shape(compute_raster_outline(crs=str(geobox.crs), transform=geobox.affine, **size))


def _read_geometry(item: pystac.Item) -> BaseGeometry | None:
    try:
        # Rings that jump over the date line cross themselves as long as they do.
        geometry = wrap_shape(make_valid(unwrap_shape(shape(item.geometry)))) if item.geometry else None
    # As malformed as a stranger makes it.
    except Exception:
        return None
    return geometry if geometry is not None and geometry.area > 0 else None

"""From a scene's settings to the scene: every header read, every band chosen, the pixels looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import shapely
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.extras import require_extra
from pipeline.config.scene import SceneConfig
from pipeline.dates import format_moment, parse_moment
from pipeline.scenes.bands import (
    check_types,
    choose_band,
    choose_colours,
    describe_choice,
    make_source,
    settle_alpha,
)
from pipeline.scenes.classes import choose_hidden
from pipeline.scenes.cloud_finder import name_cloud_method
from pipeline.scenes.files import BandFile, PartFiles, SceneFiles
from pipeline.scenes.footprints import join_footprints, move_beside, place_raster
from pipeline.scenes.headers import RasterHeader, read_header
from pipeline.scenes.integrity import check_alpha, check_pixels
from pipeline.scenes.locate import resolve_files
from pipeline.scenes.rasters import resolve_uri
from pipeline.scenes.scene import Asset, BandSource, Scene, ScenePart
from pipeline.scenes.signing import use_signer
from pipeline.scenes.threads import map_at_once
from pipeline.uris import read_path

_NIR_KEY = "clouds.band"
_Rasters = Mapping[str, tuple[RasterHeader, Asset]]


def read_scene(
    config: SceneConfig, *, date: str, area: BaseGeometry | None = None, allow_private: bool = False
) -> Scene:
    """Read what the rasters of a scene tell about themselves and refuse what cannot be worked on.

    Args:
        config: Where it is, and what the user knows better than the files.
        date: ``before`` or ``after``, to name the config key in errors.
        area: Where a scene that has to be searched for is to be, in WGS84 longitude and latitude.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: a file is missing or damaged, has no place on Earth, nothing to see or no colours.
    """
    try:
        files = resolve_files(config, date=date, area=area, allow_private=allow_private)
        return open_scene(files, config=config, date=date, allow_private=allow_private)
    except InputError as refusal:
        raise refusal.about(f"{date}: ") from None


def open_scene(
    files: SceneFiles, *, config: SceneConfig, date: str, allow_private: bool = False, is_quick: bool = False
) -> Scene:
    """Read the headers of a scene's files and look at their pixels.

    Args:
        files: Where they are.
        config: What the user knows better than the files.
        date: ``before`` or ``after``, to name the config key in errors.
        allow_private: Whether servers, and VRTs on them, may lead to hosts of closed networks.
        is_quick: Whether to look at the lengths of files alone, as of scenes that others may stand in for.

    Raises:
        InputError: a file is missing or damaged, has no place on Earth, nothing to see or no colours.
    """
    with use_signer(config.sign):
        return _open_scene(files, config=config, date=date, allow_private=allow_private, is_quick=is_quick)


def _open_scene(files: SceneFiles, *, config: SceneConfig, date: str, allow_private: bool, is_quick: bool) -> Scene:
    files = replace(files, parts=tuple(_settle_nir(part, config=config, date=date) for part in files.parts))
    rasters = _open_rasters(files, config=config, date=date, allow_private=allow_private)
    notes = dict.fromkeys(files.notes)
    parts = tuple(_make_part(part, rasters=rasters, date=date, notes=notes) for part in files.parts)
    for asset in {source.asset.uri: source.asset for part in parts for source in part.colours}.values():
        check_alpha(asset, date=date, is_meant=config.has_alpha is True)
    _check_pixels(parts, is_quick=is_quick)
    told = files.datetime or next((header.datetime for header, _ in rasters.values() if header.datetime), None)
    return Scene(
        scene_id=files.scene_id,
        datetime=None if told is None else format_moment(parse_moment(told)),
        parts=parts,
        mosaic=files.mosaic,
        hidden=choose_hidden(_name_classes(files.parts, rasters=rasters), settings=config),
        cloud_method=name_cloud_method() if any(part.nir is not None for part in parts) else None,
        footprint=join_footprints([part.footprint for part in parts]),
        notes=tuple(notes),
        sign=config.sign,
    )


def _settle_nir(part: PartFiles, *, config: SceneConfig, date: str) -> PartFiles:
    """Keep near infrared where clouds are to be found by it, and refuse what lacks it there."""
    if config.clouds is None or part.classes is not None:
        return replace(part, nir=None)
    require_extra("clouds", use=f"{date}.clouds.method is {config.clouds.method}")
    if part.nir is None:
        raise InputError(
            f"{part.red.uri} has no class band, and beside it is no near infrared",
            expected=f"red, green and near infrared, by which {config.clouds.method} tells clouds",
            remedy="name the band in stac.nir, or leave out clouds.method",
        )
    return part


def _open_rasters(files: SceneFiles, *, config: SceneConfig, date: str, allow_private: bool) -> _Rasters:
    """Open every file once, several at a time: of a mosaic far away, each one takes its time to answer."""

    def open_one(uri: str) -> tuple[RasterHeader, Asset]:
        header = read_header(resolve_uri(uri), root=roots[uri], allow_private=allow_private)
        header = settle_alpha(header, has_alpha=config.has_alpha)
        check_types(header)
        return header, place_raster(header, assume_crs=config.assume_crs, date=date)

    roots = {file.uri: file.root for part in files.parts for file in _list_files(part)}
    uris = list(roots)
    return dict(zip(uris, map_at_once(open_one, uris), strict=True))


def _name_classes(parts: tuple[PartFiles, ...], *, rasters: _Rasters) -> Iterator[str]:
    """Give what the class bands and their files are called."""
    for file in (part.classes for part in parts if part.classes is not None):
        header, _ = rasters[file.uri]
        number = choose_band(header, file.band, key="classes.band")
        yield from (PurePosixPath(read_path(file.uri)).name, header.bands[number - 1].description)


def _list_files(part: PartFiles) -> list[BandFile]:
    others = (file for file in (part.classes, part.nir) if file is not None)
    return [part.red, part.green, part.blue, *others]


def _make_part(part: PartFiles, *, rasters: _Rasters, date: str, notes: dict[str, None]) -> ScenePart:
    red, green, blue = _choose_colours(part, rasters=rasters, date=date, notes=notes)
    classes = None
    if part.classes is not None:
        header, asset = rasters[part.classes.uri]
        number = choose_band(header, part.classes.band, key=f"{date}.classes.band")
        classes = make_source(asset, number, header=header, file=part.classes)
    nir = None
    if part.nir is not None:
        header, asset = rasters[part.nir.uri]
        nir = make_source(asset, choose_band(header, part.nir.band, key=_NIR_KEY), header=header, file=part.nir)
    return ScenePart(
        red=red,
        green=green,
        blue=blue,
        classes=classes,
        nir=nir,
        footprint=_share([source.asset for source in (red, green, blue)]),
    )


def _choose_colours(
    part: PartFiles, *, rasters: _Rasters, date: str, notes: dict[str, None]
) -> tuple[BandSource, BandSource, BandSource]:
    files = (part.red, part.green, part.blue)
    header, _ = rasters[part.red.uri]
    numbers: list[int]
    if len({file.uri for file in files}) == 1 and all(file.band is None for file in files):
        chosen = choose_colours(header, date=date)
        if (note := describe_choice(header, chosen)) is not None:
            notes[note] = None
        numbers = list(chosen)
    else:
        numbers = [choose_band(rasters[file.uri][0], file.band, key=f"{date}.bands") for file in files]
    red, green, blue = (
        make_source(rasters[file.uri][1], number, header=rasters[file.uri][0], file=file)
        for file, number in zip(files, numbers, strict=True)
    )
    return red, green, blue


def _share(assets: list[Asset]) -> shapely.Geometry:
    footprint = assets[0].footprint
    for asset in assets[1:]:
        if asset.footprint == assets[0].footprint:
            continue
        footprint = footprint.intersection(move_beside(asset.footprint, lon=footprint.envelope.centroid.x))
        if footprint.is_empty:
            raise InputError(
                f"{assets[0].uri} and {asset.uri} do not overlap",
                expected="red, green and blue of one place",
                remedy="name the rasters of each band in the same order",
            )
    return footprint


def _check_pixels(parts: tuple[ScenePart, ...], *, is_quick: bool) -> None:
    colours: dict[str, list[BandSource]] = {}
    classes: dict[str, list[BandSource]] = {}
    for part in parts:
        for source in part.colours:
            colours.setdefault(source.asset.uri, []).append(source)
        if part.classes is not None:
            classes.setdefault(part.classes.asset.uri, []).append(part.classes)
    check = partial(check_pixels, is_quick=is_quick)
    has_valid = map_at_once(check, colours.values())
    map_at_once(check, classes.values())
    if not any(has_valid):
        uris = list(colours)
        raise InputError(
            f"{uris[0]} has no valid pixel, all are nodata or masked" + (", like the others" if uris[1:] else ""),
            expected="a scene that shows something",
            remedy="check its nodata value with gdalinfo, or choose another scene",
        )

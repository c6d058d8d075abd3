"""From what a run is told of a scene to where its pixels are."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.scene import BandFilesConfig, ClassesConfig, CompositeConfig, SceneConfig, list_uris
from pipeline.config.stac import StacConfig
from pipeline.dates import format_moment, to_utc
from pipeline.scenes.files import BandFile, PartFiles, SceneFiles
from pipeline.uris import read_path

_SHORTEST_NAME = 3


def resolve_files(
    config: SceneConfig, *, date: str, area: BaseGeometry | None = None, allow_private: bool = False
) -> SceneFiles:
    """Find the files of a scene, however its settings name them; opens no raster.

    Args:
        config: The scene's settings.
        date: ``before`` or ``after``, to name the config key in errors.
        area: Where a scene that has to be searched for is to be, in WGS84 longitude and latitude.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: there are other numbers of scenes and of rasters of classes, or STAC describes no scene that fits.
    """
    # Each kind of `SCENE_SOURCES` has its branch here.
    if config.stac is not None:
        return _override(_find_described(config.stac, area=area, allow_private=allow_private), config=config, date=date)
    if config.band_files is not None:
        colours = _list_band_files(config.band_files, config=config)
    else:
        colours = _list_colour_rasters(list_uris(config.uri or ()), config=config)
    uris = [part[0].uri for part in colours]
    classes = _list_classes(config.classes, uris=uris, date=date)
    nir = _list_nir(config, uris=uris, date=date)
    return SceneFiles(
        scene_id=_name_scene([[file.uri for file in part] for part in colours]),
        datetime=config.datetime.isoformat() if config.datetime is not None else None,
        parts=tuple(
            PartFiles(red=red, green=green, blue=blue, classes=file, nir=near)
            for (red, green, blue), file, near in zip(colours, classes, nir, strict=True)
        ),
        mosaic=config.mosaic,
    )


def resolve_dates(
    config: SceneConfig,
    *,
    composite: CompositeConfig,
    date: str,
    area: BaseGeometry | None = None,
    allow_private: bool = False,
) -> tuple[list[SceneFiles], list[str]]:
    """Find the files of a scene that is made of several dates; opens no raster.

    Args:
        config: The scene's settings.
        composite: Which dates are meant, and in which order they count.
        date: As of `resolve_files`.
        area: Likewise.
        allow_private: Likewise.

    Returns:
        The files of each date, in the order in which dates count, and what people should know of how they were found.

    Raises:
        InputError: as of `resolve_files`.
    """
    if config.stac is not None:
        # What reads STAC takes a while to import, and most runs do without.
        from pipeline.scenes.stac.scene import find_stac_dates

        dates, notes = find_stac_dates(config.stac, composite=composite, area=area, allow_private=allow_private)
        return [replace(_override(files, config=config, date=date), notes=()) for files in dates], notes
    files = resolve_files(config, date=date)
    parts: dict[dt.datetime, list[PartFiles]] = {}
    for moment, part in zip(composite.datetimes, files.parts, strict=True):
        parts.setdefault(to_utc(moment), []).append(part)
    return [
        replace(
            files,
            scene_id=_name_scene([[file.uri for file in (part.red, part.green, part.blue)] for part in parts[moment]]),
            datetime=format_moment(moment),
            parts=tuple(parts[moment]),
        )
        for moment in sorted(parts, reverse=True)
    ], []


def _find_described(stac: StacConfig, *, area: BaseGeometry | None, allow_private: bool) -> SceneFiles:
    # What reads STAC takes a while to import, and most runs do without.
    from pipeline.scenes.stac.scene import find_stac_scene

    return find_stac_scene(stac, area=area, allow_private=allow_private).files


def _override(files: SceneFiles, *, config: SceneConfig, date: str) -> SceneFiles:
    parts = files.parts
    classes = _list_classes(config.classes, uris=[part.red.uri for part in parts], date=date)
    notes, asked = list(files.notes), config.stac.classes if config.stac is not None else None
    if (
        asked is not None
        and config.clouds is None
        and not any(file or part.classes for part, file in zip(parts, classes, strict=True))
    ):
        notes.append(f"has no class band {asked}: its clouds are not known, and none are masked")
    known = {name: getattr(config, name) for name in ("scale", "offset", "nodata") if getattr(config, name) is not None}
    return replace(
        files,
        datetime=config.datetime.isoformat() if config.datetime is not None else files.datetime,
        mosaic=config.mosaic,
        notes=tuple(notes),
        # What the scene's own settings say goes over the items.
        parts=tuple(
            PartFiles(
                red=replace(part.red, **known),
                green=replace(part.green, **known),
                blue=replace(part.blue, **known),
                classes=file or part.classes,
                nir=None if part.nir is None else replace(part.nir, **known),
            )
            for part, file in zip(parts, classes, strict=True)
        ),
    )


def _list_colour_rasters(uris: tuple[str, ...], *, config: SceneConfig) -> list[tuple[BandFile, BandFile, BandFile]]:
    red, green, blue = config.bands or (None, None, None)
    return [
        (_make_band_file(uri, red, config), _make_band_file(uri, green, config), _make_band_file(uri, blue, config))
        for uri in uris
    ]


def _list_band_files(files: BandFilesConfig, *, config: SceneConfig) -> list[tuple[BandFile, BandFile, BandFile]]:
    bands = config.bands or (None, None, None)
    columns = [
        [_make_band_file(uri, band, config) for uri in list_uris(uris)]
        for uris, band in zip((files.red, files.green, files.blue), bands, strict=True)
    ]
    return list(zip(*columns, strict=True))


def _make_band_file(uri: str, band: int | str | None, config: SceneConfig) -> BandFile:
    return BandFile(uri=uri, band=band, scale=config.scale, offset=config.offset, nodata=config.nodata)


def _list_classes(config: ClassesConfig | None, *, uris: list[str], date: str) -> list[BandFile | None]:
    if config is None:
        return [None] * len(uris)
    places = list(uris) if config.uri is None else list(list_uris(config.uri))
    if len(places) == 1:
        places *= len(uris)
    if len(places) != len(uris):
        raise InputError(
            f"{date}.classes.uri names {len(places)} rasters, {date} has {len(uris)} parts",
            expected="one raster of classes, or one for each part",
            remedy=f"correct {date}.classes.uri",
        )
    # One raster of classes may serve many parts: outside of it, no class is known.
    return [BandFile(uri=place, band=config.band) for place in places]


def _list_nir(config: SceneConfig, *, uris: list[str], date: str) -> list[BandFile | None]:
    clouds = config.clouds
    if clouds is None:
        return [None] * len(uris)
    places = list(uris) if clouds.uri is None else list(list_uris(clouds.uri))
    if len(places) != len(uris):
        raise InputError(
            f"{date}.clouds.uri names {len(places)} rasters, {date} has {len(uris)} parts",
            expected="one raster of near infrared for each part",
            remedy=f"correct {date}.clouds.uri",
        )
    return [_make_band_file(place, clouds.band, config) for place in places]


def _name_scene(parts: list[list[str]]) -> str:
    stems = [Path(read_path(uri)).stem for uri in dict.fromkeys(parts[0])]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    shared = "".join(letters[0] for letters in alike).rstrip("_-. ")
    name = shared if len(shared) >= _SHORTEST_NAME else stems[0]
    return name if len(parts) == 1 else f"{name} and {len(parts) - 1} more"

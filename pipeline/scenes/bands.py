"""Which bands of a raster are red, green and blue: by number, by name or by what the header tells."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from model.errors import InputError
from pipeline.scenes.band_names import Colours, contradicts_order, find_colours, tell_colours
from pipeline.scenes.files import BandFile
from pipeline.scenes.headers import RasterHeader, clean_nodata
from pipeline.scenes.scene import COLOURS, Asset, BandSource

_UNTOLD_MEANINGS = frozenset({"undefined", "gray", "grey"})
# ^ What GDAL takes the bands for of a file that tells nothing.
_LISTED_BANDS = 12
SENTINEL2_NODATA = 0.0
"""What Sentinel-2's products hold where nothing was seen; their JPEG 2000 files do not say so."""
_SENTINEL2_NAME = re.compile(r"T\d{2}[A-Z]{3}_\d{8}T\d{6}_(B\d[0-9A]|TCI)(_\d0m)?\.\w+", re.IGNORECASE)
# ^ Files of a product, such as T32TQM_20240501T101601_B04_10m.jp2.
_READABLE = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def check_types(header: RasterHeader) -> None:
    """Refuse a raster that has no band at all that could be shown.

    Raises:
        InputError: all of its values are of a type that is no brightness.
    """
    types = {band.dtype for band in header.bands}
    if types and not types & set(_READABLE):
        raise _refuse_type(header.uri, header.bands[0].dtype)


def settle_alpha(header: RasterHeader, *, has_alpha: bool | None) -> RasterHeader:
    """Take the flag of an alpha band from bands that are something else.

    Writers of rasters flag the fourth of four bands so unless they are told otherwise, near infrared or not.

    Args:
        header: The raster.
        has_alpha: False: no band is one; None: those are not whose name says that they are another.
    """
    told = tell_colours([band.description for band in header.bands])
    bands = tuple(
        replace(band, meaning="undefined")
        if band.meaning == "alpha" and (has_alpha is False or (has_alpha is None and name not in {None, "alpha"}))
        else band
        for band, name in zip(header.bands, told, strict=True)
    )
    return header if bands == header.bands else replace(header, bands=bands)


def describe_choice(header: RasterHeader, colours: Colours) -> str | None:
    """Say which bands are shown as red, green and blue, where it is not their order that tells; else None."""
    if colours == (1, 2, 3):
        return None
    words = (header.bands[number - 1].description or f"band {number}" for number in colours)
    return f"shows {', '.join(words)} of {PurePosixPath(urlsplit(header.uri).path).name} as red, green, blue"


def choose_colours(header: RasterHeader, *, date: str) -> Colours:
    """Choose the 1-based numbers of red, green and blue in a raster of which nobody said more.

    Raises:
        InputError: it has too few bands, so many that there is no telling, or bands that are said to be others.
    """
    n_colours = sum(band.meaning != "alpha" for band in header.bands)
    if n_colours < len(COLOURS):
        raise _refuse_too_few(header, n_colours=n_colours, date=date)
    by_name = tell_colours([band.description for band in header.bands])
    by_colour = [None if band.meaning in _UNTOLD_MEANINGS else band.meaning for band in header.bands]
    found = find_colours(by_name) or find_colours(by_colour)
    # Three bands may be written as red, green and blue because that is what three bands are to their writer.
    is_contradicted = any(
        find_colours(told) not in {None, found} or (found is None and contradicts_order(told))
        for told in (by_name, by_colour)
    )
    if is_contradicted or any(_speaks_against(by_name[number - 1], place) for place, number in enumerate(found or ())):
        raise _refuse_order(header, date=date)
    if found is not None:
        return found
    if len(header.bands) > 4:
        raise _refuse_order(header, date=date)
    # Where the file does not say, the order is that of the file.
    return 1, 2, 3


def choose_band(header: RasterHeader, wanted: int | str | None, *, key: str) -> int:
    """Choose one band: by its 1-based number, by its name, or the only one.

    Args:
        header: The raster.
        wanted: Number or name; None where the file has to tell.
        key: Config key, to name it in errors.

    Raises:
        InputError: there is no such band, or more than one.
    """
    count = len(header.bands)
    if wanted is None:
        numbers = [n for n, band in enumerate(header.bands, start=1) if band.meaning != "alpha"]
        if len(numbers) != 1:
            raise InputError(
                f"{header.uri} has {len(numbers)} bands",
                expected=f"one band, or {key} to tell which one",
                remedy=f"set {key}",
            )
        return numbers[0]
    if isinstance(wanted, int):
        if not 1 <= wanted <= count:
            raise InputError(
                f"{header.uri} has {count} band{'' if count == 1 else 's'}, but {key} is {wanted}",
                expected=f"a number from 1 to {count}",
                remedy=f"correct {key}",
            )
        return wanted
    return _choose_by_name(header, wanted, key=key)


def make_source(asset: Asset, band: int, *, header: RasterHeader, file: BandFile) -> BandSource:
    """Put together what the header tells of a band and what is known better.

    Raises:
        InputError: it holds values that are no brightness.
    """
    told = header.bands[band - 1]
    if told.dtype not in _READABLE:
        raise _refuse_type(header.uri, told.dtype)
    # Where there is a mask, it tells what is valid, and not a value that may be a colour too.
    nodata = None if header.has_mask else told.nodata
    if file.nodata is not None:
        nodata = clean_nodata(file.nodata, dtype=told.dtype)
    elif nodata is None and not header.has_mask and header.alpha_band is None and _is_sentinel2(header.uri):
        nodata = SENTINEL2_NODATA
    return BandSource(
        asset=asset,
        band=band,
        dtype=told.dtype,
        scale=told.scale if file.scale is None else file.scale,
        offset=told.offset if file.offset is None else file.offset,
        nodata=nodata,
    )


def _is_sentinel2(uri: str) -> bool:
    return _SENTINEL2_NAME.search(uri) is not None


def _speaks_against(told: str | None, place: int) -> bool:
    return told not in {None, COLOURS[place]}


def _refuse_order(header: RasterHeader, *, date: str) -> InputError:
    meanings = ["" if band.meaning in _UNTOLD_MEANINGS else band.meaning for band in header.bands]
    names = [band.description or meaning for band, meaning in zip(header.bands, meanings, strict=True)]
    words = ", ".join(name or "no name" for name in names[:_LISTED_BANDS]) if any(names) else ""
    more = len(names) - _LISTED_BANDS
    return InputError(
        f"{header.uri} has {len(names)} bands"
        + (f" ({words}{f' and {more} more' if more > 0 else ''})" if words else ""),
        expected=f"{date}.bands to tell which are red, green and blue",
        remedy=f"set it, for example --set {date}.bands='[3, 2, 1]'",
    )


def _choose_by_name(header: RasterHeader, wanted: str, *, key: str) -> int:
    name = wanted.strip().casefold()
    names = [band.description.casefold() for band in header.bands]
    words = [re.split(r"[^0-9a-z]+", text) for text in names]
    # The whole name, then a word of it, as in "B04 - 665 nm", then the colour that GDAL takes the band for.
    for hits in (
        [n for n, text in enumerate(names, start=1) if text == name],
        [n for n, parts in enumerate(words, start=1) if name in parts],
        [n for n, band in enumerate(header.bands, start=1) if band.meaning == name],
    ):
        if len(hits) == 1:
            return hits[0]
    known = [band.description or band.meaning for band in header.bands]
    raise InputError(
        f"{header.uri} has no band that only {wanted!r} would mean, as {key} says",
        expected=f"one of {', '.join(dict.fromkeys(known))}, or a number from 1 to {len(known)}",
        remedy=f"correct {key}",
    )


def _refuse_type(uri: str, dtype: str) -> InputError:
    if dtype.startswith("complex"):
        remedy = "make intensities of the complex numbers first, for example as a VRT with the pixel function intensity"
    else:
        remedy = "convert it with gdal_translate -ot"
    return InputError(f"{uri} holds {dtype}", expected=f"one of {', '.join(_READABLE)}", remedy=remedy)


def _refuse_too_few(header: RasterHeader, *, n_colours: int, date: str) -> InputError:
    remedy = f"choose a colour raster, or show grey as grey with --set {date}.bands='[1, 1, 1]'"
    if len(header.bands) == 1 and header.bands[0].meaning == "palette":
        remedy = "convert it with gdal_translate -expand rgb"
    return InputError(
        f"{header.uri} has {n_colours} band{'' if n_colours == 1 else 's'}",
        expected="at least 3 bands: red, green and blue",
        remedy=remedy,
    )

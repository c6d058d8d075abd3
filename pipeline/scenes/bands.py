"""Which bands of a raster are red, green and blue: by number, by name or by what the header tells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.errors import InputError
from pipeline.scenes.files import BandFile
from pipeline.scenes.headers import BandHeader, RasterHeader, clean_nodata
from pipeline.scenes.scene import COLOURS, Asset, BandSource

SENTINEL_2_COLOURS = ("b04", "b03", "b02")
"""Sentinel-2's names of red, green and blue. Those of Landsat differ from one satellite to the next."""

_READABLE = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def check_types(header: RasterHeader) -> None:
    """Refuse a raster that has no band at all that could be shown.

    Raises:
        InputError: all of its values are of a type that is no brightness.
    """
    types = {band.dtype for band in header.bands}
    if types and not types & set(_READABLE):
        raise _refuse_type(header.uri, header.bands[0].dtype)


def choose_colours(header: RasterHeader, *, date: str) -> tuple[int, int, int]:
    """Choose the 1-based numbers of red, green and blue in a raster of which nobody said more.

    Raises:
        InputError: it has too few bands, or so many that there is no telling.
    """
    n_colours = sum(band.meaning != "alpha" for band in header.bands)
    if n_colours < len(COLOURS):
        raise _refuse_too_few(header, n_colours=n_colours, date=date)
    found = _find_by_meaning(header.bands) or _find_by_name(header.bands)
    if found is not None:
        return found
    if len(header.bands) > 4:
        names = [band.description for band in header.bands if band.description]
        raise InputError(
            f"{header.uri} has {len(header.bands)} bands" + (f" ({', '.join(names)})" if names else ""),
            expected=f"{date}.bands to tell which are red, green and blue",
            remedy=f"set it, for example --set {date}.bands='[3, 2, 1]'",
        )
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
    nodata = (
        (None if header.has_mask else told.nodata)
        if file.nodata is None
        else clean_nodata(file.nodata, dtype=told.dtype)
    )
    return BandSource(
        asset=asset,
        band=band,
        dtype=told.dtype,
        scale=told.scale if file.scale is None else file.scale,
        offset=told.offset if file.offset is None else file.offset,
        nodata=nodata,
    )


def _find_by_meaning(bands: Sequence[BandHeader]) -> tuple[int, int, int] | None:
    # Some deliver blue, green, red and say so.
    meanings = [band.meaning for band in bands]
    if any(meanings.count(colour) != 1 for colour in COLOURS):
        return None
    red, green, blue = (meanings.index(colour) + 1 for colour in COLOURS)
    return red, green, blue


def _find_by_name(bands: Sequence[BandHeader]) -> tuple[int, int, int] | None:
    names = [band.description.casefold() for band in bands]
    for wanted in (COLOURS, SENTINEL_2_COLOURS):
        if all(names.count(name) == 1 for name in wanted):
            red, green, blue = (names.index(name) + 1 for name in wanted)
            return red, green, blue
    return None


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

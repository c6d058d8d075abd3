"""What the names of bands tell of their colours: the one reading of them, for headers of rasters and for STAC items."""

from __future__ import annotations

import re
from collections.abc import Sequence

Colours = tuple[int, int, int]
"""1-based numbers of red, green and blue."""

RED, GREEN, BLUE = "red", "green", "blue"
_COLOURS = (RED, GREEN, BLUE)
_OTHER_WORD = re.compile(
    r"[nv]*n?ir\d*|infrared|[slm]wir\d*|mir|tir|othir|cir|thermal|pan|panchromatic|coastal|aerosol|cirrus|(red)?edge\d*|"
    r"re\d|yellow|cyan|magenta|black|white|mask|alpha|qa|f?mask|scl|nd[vw]i|d[est]m|elevation|height|slope|[vh]{2}|hue|"
    r"saturation|lightness|palette"
)
# ^ What only a band is called that is none of the three colours.
_NUMBER = re.compile(r"((?:sr|toa)_)?(?:band|b)[ _-]?(0\d|1\d|\d)(a?)(?![0-9a-z])")
_NUMBERED_COLOURS = {4: RED, 3: GREEN, 2: BLUE}
# ^ Of Sentinel-2, and of Landsat 8 and 9.
_FORMER_LANDSAT = {3: RED, 2: GREEN, 1: BLUE}
_FORMER_LANDSAT_BANDS = frozenset({1, 2, 3, 4, 5, 7})
# ^ Of surface reflectance; Landsat 8 and 9 have a sixth.


def tell_colours(names: Sequence[str]) -> list[str | None]:
    """Tell of each band of a raster what its name says it is.

    Args:
        names: Names of all bands in their order, such as ``B04 - 665 nm`` or ``near infrared``; empty: none.

    Returns:
        ``red``, ``green`` or ``blue``; another word for a band that is none of them; None where the name does not tell.
    """
    found = [_NUMBER.match(name.strip().casefold()) for name in names]
    numbers = [int(match[2]) if match else None for match in found]
    numbered = _choose_numbering([match for match in found if match])
    # Counted as they lie in the file, they tell nothing; any other number is that of a satellite's band.
    is_counted = all(number == place for place, number in enumerate(numbers, start=1))
    # Single letters are colours where all three of them are there.
    letters = {colour[0]: colour for colour in _COLOURS}
    by_letter = letters if letters.keys() <= {name.strip().casefold() for name in names} else {}
    told: list[str | None] = []
    for name, match in zip(names, found, strict=True):
        by_number = None
        if match and not (is_counted and re.match("[Bb]and|b", name.strip())):
            by_number = numbered.get(int(match[2]), match[0]) if not match[3] else match[0]
        told.append(_read_words(name) or by_letter.get(name.strip().casefold()) or by_number)
    return told


def find_colours(told: Sequence[str | None]) -> Colours | None:
    """Find the bands that are told to be red, green and blue; None unless each of them is told once."""
    if any(told.count(colour) != 1 for colour in _COLOURS):
        return None
    red, green, blue = (told.index(colour) + 1 for colour in _COLOURS)
    return red, green, blue


def contradicts_order(told: Sequence[str | None]) -> bool:
    """Tell whether what bands are told to be speaks against red, green and blue in this order."""
    return any(known not in {None, colour} for known, colour in zip(told, _COLOURS, strict=False)) or any(
        known in _COLOURS for known in told[len(_COLOURS) :]
    )


def _read_words(name: str) -> str | None:
    words = [word for word in re.split(r"[^0-9a-z]+", name.casefold()) if word]
    if other := next((word for word in words if _OTHER_WORD.fullmatch(word)), None):
        return other
    colours = {word for word in words if word in _COLOURS}
    return colours.pop() if len(colours) == 1 else None


def _choose_numbering(found: Sequence[re.Match[str]]) -> dict[int, str]:
    """Choose what numbers of bands stand for; nothing where they may be those of satellites that count otherwise."""
    numbers = {int(match[2]) for match in found}
    is_surface = all(match[1] == "sr_" for match in found)
    if is_surface and numbers >= _FORMER_LANDSAT_BANDS and 6 not in numbers:
        return _FORMER_LANDSAT
    is_told = (
        1 not in numbers
        or max(numbers) > 8
        or (is_surface and 6 in numbers)
        or any(match[2].startswith("0") or match[3] for match in found)
    )
    return _NUMBERED_COLOURS if numbers >= set(_NUMBERED_COLOURS) and is_told else {}

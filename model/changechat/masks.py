"""Reads change masks of one or several classes and measures them by ChangeChat-105k's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from model.errors import InputError
from model.images import CHANGED_VALUE, ROAD_VALUE
from model.pairs.facts import ChangeFacts, measure_kind

_CLASSES = ("building", "road")
_MAX_COUNTED_VALUE = 65535


@dataclass(frozen=True, kw_only=True)
class ClassValues:
    """Which pixel values of a mask stand for what; every other value means that nothing changed."""

    building: tuple[int, ...] | None
    """Values of changed buildings; None for every value but 0, where a mask has one class."""
    road: tuple[int, ...] | None
    """Values of changed roads; None where the masks do not cover roads, as LEVIR-CD's."""

    def to_dict(self) -> dict[str, list[int] | str | None]:
        """Give plain values for JSON."""
        building = "any but 0" if self.building is None else list(self.building)
        return {"building": building, "road": None if self.road is None else list(self.road)}


LEVIR_MCI_VALUES = ClassValues(building=(CHANGED_VALUE,), road=(ROAD_VALUE,))
"""What LEVIR-MCI's masks, and so ChangeChat-105k's, hold."""
ONE_CLASS_VALUES = ClassValues(building=None, road=None)
"""Masks of buildings alone, such as LEVIR-CD's, whatever value they are drawn in."""


def parse_class_values(text: str) -> ClassValues:
    """Read what a user says of mask values, such as ``building=255,road=128`` or ``building=1+2``.

    Raises:
        InputError: it is not of this form.
    """
    values: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        name, _, numbers = (word.strip() for word in part.partition("="))
        if name not in _CLASSES or name in values or not all(n.isdecimal() and int(n) for n in numbers.split("+")):
            raise InputError(
                f"class values {text!r}",
                expected="a number above 0 for building, road or both, such as building=255,road=128",
                remedy="join several values of one class by +",
            )
        values[name] = tuple(int(number) for number in numbers.split("+"))
    if len({n for numbers in values.values() for n in numbers}) < sum(map(len, values.values())):
        raise InputError(
            f"class values {text!r} name a value twice", expected="one class for each", remedy="correct them"
        )
    return ClassValues(building=values.get("building", ()), road=values.get("road"))


def check_class_values(values: ClassValues, *, found: Iterable[int]) -> None:
    """Refuse a meaning by which every mask would be empty, though the masks are not.

    Raises:
        InputError: the masks hold other values alone.
    """
    others = sorted(set(found) - {0})
    known = {*(values.building or ()), *(values.road or ())}
    if values.building is not None and others and not known & set(others):
        raise InputError(
            f"masks of the values {_list_first(others)}",
            expected=" or ".join(map(str, sorted(known))),
            remedy=f"say what they mean: --class-values building={others[-1]}",
        )


def infer_class_values(found: Iterable[int]) -> ClassValues:
    """Tell what the values of all masks of a source stand for: one class is buildings, 128 beside 255 roads.

    Args:
        found: Every value that any of the masks holds.

    Raises:
        InputError: they could mean anything.
    """
    values = sorted(set(found) - {0})
    if len(values) <= 1:
        return ONE_CLASS_VALUES
    if values == [ROAD_VALUE, CHANGED_VALUE]:
        return LEVIR_MCI_VALUES
    raise InputError(
        f"masks of the values {_list_first(values)}",
        expected=f"one value beside 0, or {ROAD_VALUE} for roads and {CHANGED_VALUE} for buildings",
        remedy=f"say what they mean: --class-values building={values[-1]},road={values[0]}",
    )


def read_mask(file: Path) -> npt.NDArray[np.int32]:
    """Read a mask as int32 of shape (y, x): grey levels, or the numbers of a palette; white of a bitmap is 255.

    Raises:
        InputError: it cannot be read, or is in colour.
    """
    try:
        with Image.open(file, formats=("PNG", "TIFF", "JPEG", "BMP")) as image:
            pixels: npt.NDArray[Any] = np.asarray(image.convert("L") if image.mode == "1" else image)
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:
        reason = "no image of a known form" if isinstance(problem, UnidentifiedImageError) else str(problem)
        raise InputError(
            f"{file} cannot be read ({reason})",
            expected="a whole PNG or TIFF mask",
            remedy="check that the file is complete",
        ) from None
    if pixels.ndim == 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise InputError(
            f"{file} is {pixels.dtype} of shape {pixels.shape}",
            expected="whole numbers of shape (y, x)",
            remedy="convert it to grey levels",
        )
    return pixels.astype(np.int32)


def list_values(mask: npt.NDArray[np.int32]) -> list[int]:
    """List the values that a mask holds; counted rather than sorted, which takes a tenth of the time."""
    if mask.min() < 0 or mask.max() > _MAX_COUNTED_VALUE:
        return [int(value) for value in np.unique(mask)]
    return [int(value) for value in np.flatnonzero(np.bincount(mask.ravel()))]


def measure_classes(mask: npt.NDArray[np.int32], *, values: ClassValues) -> ChangeFacts:
    """Count contours and changed cells of each class in a mask of shape (y, x)."""
    is_building = mask != 0 if values.building is None else np.isin(mask, values.building)
    return ChangeFacts(
        building=measure_kind(is_building),
        road=None if values.road is None else measure_kind(np.isin(mask, values.road)),
    )


def _list_first(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")

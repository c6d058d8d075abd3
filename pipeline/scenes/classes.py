"""Which values of a class band say that the ground is hidden, in the manner of the archive that it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.scene import DEFAULT_CLOUD_CLASSES, SceneSettings
from pipeline.grid.window import BoolArray


@dataclass(frozen=True, kw_only=True)
class HiddenClasses:
    """The classes that count as not seen."""

    values: tuple[int, ...] = ()
    """Of bands whose value is one class."""
    bits: tuple[int, ...] = ()
    """Numbers of bits, from 0, of bands that say several things at once."""

    def __bool__(self) -> bool:
        """Tell whether any class hides the ground."""
        return bool(self.values or self.bits)

    def find(self, classes: np.ndarray[Any, Any]) -> BoolArray:
        """Tell where a band of classes says that the ground is hidden."""
        hidden = np.isin(classes, self.values)
        if self.bits:
            hidden |= (classes.astype(np.int64) & sum(1 << bit for bit in self.bits)) != 0
        return np.asarray(hidden, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class _Scheme:
    clouds: HiddenClasses
    snow: HiddenClasses


_SCL = _Scheme(clouds=HiddenClasses(values=DEFAULT_CLOUD_CLASSES), snow=HiddenClasses(values=(11,)))
_SCHEMES = {
    # Of Landsat's Collection 2: dilated cloud, cirrus, cloud, cloud shadow.
    "qa_pixel": _Scheme(clouds=HiddenClasses(bits=(1, 2, 3, 4)), snow=HiddenClasses(bits=(5,))),
    # Of the harmonized Landsat and Sentinel-2: cloud, what is beside cloud or shadow, cloud shadow.
    "fmask": _Scheme(clouds=HiddenClasses(bits=(1, 2, 3)), snow=HiddenClasses(bits=(4,))),
}
BIT_NAMES = tuple(_SCHEMES)
"""Names of class bands whose values are bits, in small letters; all others are read as Sentinel-2's SCL."""


def choose_hidden(names: Iterable[str], *, settings: SceneSettings) -> HiddenClasses:
    """Choose which classes hide the ground.

    Args:
        names: What the class band and its file are called.
        settings: Classes that are named there count as they stand.
    """
    texts = [name.casefold() for name in names]
    scheme = next((_SCHEMES[known] for known in BIT_NAMES if any(known in text for text in texts)), _SCL)
    clouds = scheme.clouds
    if settings.cloud_classes != DEFAULT_CLOUD_CLASSES:
        clouds = HiddenClasses(values=settings.cloud_classes)
    snow = scheme.snow if settings.snow_hides else HiddenClasses()
    return HiddenClasses(
        values=tuple(dict.fromkeys((*clouds.values, *snow.values))),
        bits=tuple(dict.fromkeys((*clouds.bits, *snow.bits))),
    )

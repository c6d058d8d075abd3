"""From physical values to bytes: one stated straight line per band, the same for both dates unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from model.errors import InputError
from pipeline.config.scene import StretchConfig
from pipeline.grid.window import UInt8Array
from pipeline.scenes.scene import COLOURS, BandSource, Scene

BandLimits = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Physical values that become 0 and 255, of red, green and blue."""
Samples = Sequence[np.ndarray[Any, np.dtype[np.float32]]]
"""Valid physical values of red, green and blue, (n,) each."""

_DIGITS = 6
# ^ Digits that limits keep: more than bytes can show, fewer than libraries differ in.
_ABOVE_THE_MIDDLE = 1e-6
# ^ In grey levels: more than the errors of double precision, less than any byte can show.


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """How the values of both dates become bytes."""

    before: BandLimits | None
    """Limits of the earlier scene; None where it holds the bytes to be shown."""
    after: BandLimits | None
    """Limits of the later scene; None where it holds the bytes to be shown."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `from_dict` takes them back."""
        return {
            date: None if limits is None else {name: list(pair) for name, pair in zip(COLOURS, limits, strict=True)}
            for date, limits in (("before", self.before), ("after", self.after))
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take back what `to_dict` gave."""
        return cls(before=_restore_limits(values["before"]), after=_restore_limits(values["after"]))

    def describe(self) -> str | None:
        """Tell people what becomes of the values; None where they stay as they are."""
        words = {date: _describe_limits(limits) for date, limits in (("before", self.before), ("after", self.after))}
        given = {date: text for date, text in words.items() if text}
        if not given:
            return None
        if len(given) == 2 and len(set(given.values())) == 1:
            return f"values of both dates are stretched to 0 to 255: {given['before']}"
        return "values are stretched to 0 to 255: " + "; ".join(f"{date} {text}" for date, text in given.items())


def needs_samples(before: Scene, after: Scene, *, config: StretchConfig) -> bool:
    """Tell whether pixels have to be looked at to know the stretch.

    Raises:
        InputError: one date is bytes and the other is not, and nothing tells how the two compare.
    """
    if (before.is_plain and after.is_plain) or config.limits is not None:
        return False
    if before.is_plain != after.is_plain and not config.per_date:
        plain, other = ("before", "after") if before.is_plain else ("after", "before")
        scene = after if before.is_plain else before
        kinds = sorted({source.dtype for part in scene.parts for source in part.colours})
        raise InputError(
            f"{plain} holds bytes to be shown, {other} holds {' and '.join(kinds)} to be stretched ({scene.uris[0]})",
            expected="two dates whose values can be compared",
            remedy=f"set tiles.stretch.limits to the values of {other} that are shown as 0 and 255 in {plain}, or "
            f"tiles.stretch.per_date to true to take them from {other} alone",
        )
    return True


def decide_stretch(
    before: Scene,
    after: Scene,
    *,
    config: StretchConfig,
    samples: tuple[Samples, Samples] | None = None,
) -> Stretch:
    """Decide on the limits of both dates.

    Args:
        before: The earlier scene.
        after: The later scene.
        config: What was asked for.
        samples: Of both dates what `read_sample` gave, where `needs_samples` says so.

    Raises:
        InputError: there is nothing valid to take limits from.
    """
    limits: tuple[BandLimits | None, BandLimits | None]
    if config.limits is not None:
        given = _spread(config.limits)
        limits = given, given
    elif samples is None:
        limits = None, None
    elif config.per_date:
        scenes = zip(samples, (before, after), ("before", "after"), strict=True)
        dates = [None if scene.is_plain else _take_percentiles(s, config=config, of=date) for s, scene, date in scenes]
        limits = dates[0], dates[1]
    else:
        joint = [np.concatenate(bands) for bands in zip(*samples, strict=True)]
        both = _take_percentiles(joint, config=config, of="both dates")
        limits = both, both
    return Stretch(before=None if before.is_plain else limits[0], after=None if after.is_plain else limits[1])


def stretch_band(stored: np.ndarray[Any, Any], *, source: BandSource, limits: tuple[float, float]) -> UInt8Array:
    """Turn stored values of a band into bytes, rounded to the nearest.

    Args:
        stored: Values of any type and shape.
        source: What they mean.
        limits: Physical values that become 0 and 255; what is beyond them becomes 0 and 255 too.

    Returns:
        uint8 of the same shape; 0 for what is no number.
    """
    low, high = limits
    # One multiplication and one addition per pixel. In double precision, and with what lies in the middle between two
    # bytes put above it: equal values stored with different offsets become equal bytes.
    factor = 255 * source.scale / (high - low)
    shift = 255 * (source.offset - low) / (high - low) + _ABOVE_THE_MIDDLE
    values: np.ndarray[Any, np.dtype[np.float64]] = stored.astype(np.float64)
    np.multiply(values, factor, out=values)
    np.add(values, shift, out=values)
    np.nan_to_num(values, copy=False, nan=0.0)
    np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _spread(limits: Any) -> BandLimits:
    if isinstance(limits[0], tuple):
        return limits[0], limits[1], limits[2]
    return limits, limits, limits


def _take_percentiles(samples: Samples, *, config: StretchConfig, of: str) -> BandLimits:
    if not all(len(sample) for sample in samples):
        raise InputError(
            f"not one valid pixel of {of} was found where the two overlap",
            expected="pixels to take tiles.stretch.percentiles from",
            remedy="set tiles.stretch.limits to the values that are to become 0 and 255",
        )
    pairs = [_widen(*(_round(value) for value in np.percentile(s, config.percentiles))) for s in samples]
    return pairs[0], pairs[1], pairs[2]


def _round(value: float) -> float:
    return float(f"{float(value):.{_DIGITS}g}")


def _widen(low: float, high: float) -> tuple[float, float]:
    # A band of one value alone has no range: it becomes black, and whatever is above it white.
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-3)


def _restore_limits(values: Mapping[str, Sequence[float]] | None) -> BandLimits | None:
    if values is None:
        return None
    red, green, blue = ((float(values[name][0]), float(values[name][1])) for name in COLOURS)
    return red, green, blue


def _describe_limits(limits: BandLimits | None) -> str:
    if limits is None:
        return ""
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in zip(COLOURS, limits, strict=True))

"""A scene that is made of several dates: which they are, by which rule, and how a record keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import shapely

from pipeline.config.scene import CompositeRule
from pipeline.scenes.classes import HiddenClasses
from pipeline.scenes.footprints import join_footprints
from pipeline.scenes.scene import Scene
from pipeline.tables.nested_shapes import read_wkt


@dataclass(frozen=True, kw_only=True)
class CompositeScene(Scene):
    """Several acquisitions of one place that stand for one date; its parts are those of all of them."""

    dates: tuple[Scene, ...]
    """One scene for each date, in the order in which they count; each tells its time."""
    rule: CompositeRule
    """What counts where several show the ground."""
    cloud_buffer_m: float
    """So many metres around what hides the ground nothing counts as seen."""

    @property
    def moments(self) -> tuple[str, ...]:
        """When each date was acquired, ISO 8601, UTC, in the order in which they count."""
        return tuple(date.datetime or "" for date in self.dates)

    @property
    def bit_type(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest type that has a bit for each date."""
        return np.dtype(np.min_scalar_type((1 << len(self.dates)) - 1))

    def describe_content(self) -> dict[str, Any]:
        """Give all that the pixels and their dates depend on, for a content key: never a path or a name."""
        return {
            **self._describe_rule(),
            "parts": [part for date in self.dates for part in date.describe_content()["parts"]],
            "dates": [{"datetime": date.datetime, **date.describe_content()} for date in self.dates],
        }

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `restore_scene` takes them back."""
        dates = [
            {
                "scene_id": date.scene_id,
                "datetime": date.datetime,
                "mosaic": date.mosaic,
                "cloud_classes": list(date.hidden.values),
                "cloud_bits": list(date.hidden.bits),
                **({"cloud_method": date.cloud_method} if date.cloud_method else {}),
                "n_parts": len(date.parts),
                "footprint": shapely.to_wkt(date.footprint, rounding_precision=-1),
            }
            for date in self.dates
        ]
        return super().to_dict() | {"composite": {**self._describe_rule(), "dates": dates}}

    def _describe_rule(self) -> dict[str, Any]:
        return {"rule": self.rule, "cloud_buffer_m": self.cloud_buffer_m}


def compose(
    dates: Sequence[Scene], *, rule: CompositeRule, cloud_buffer_m: float, notes: Sequence[str] = ()
) -> CompositeScene:
    """Make one scene of those of several dates.

    Args:
        dates: At least one, in the order in which they count; each tells its time.
        rule: What counts where several show the ground.
        cloud_buffer_m: So many metres around what hides the ground nothing counts as seen.
        notes: What people should know of how they were found.
    """
    by_time = sorted(date.datetime or "" for date in dates)
    first, middle, last = by_time[0], by_time[(len(by_time) - 1) // 2], by_time[-1]
    return CompositeScene(
        scene_id=f"{rule} of {len(dates)} date{'s' if dates[1:] else ''}, "
        + (first[:10] if first[:10] == last[:10] else f"{first[:10]} to {last[:10]}"),
        datetime=middle,
        parts=tuple(part for date in dates for part in date.parts),
        footprint=join_footprints([date.footprint for date in dates]),
        notes=tuple(notes),
        sign=dates[0].sign,
        dates=tuple(dates),
        rule=rule,
        cloud_buffer_m=cloud_buffer_m,
    )


def restore_scene(values: Mapping[str, Any]) -> Scene:
    """Take back what `to_dict` of a scene gave, of one date or of several."""
    told = values.get("composite")
    plain = Scene.from_dict({key: values[key] for key in values if key != "composite"})
    if told is None:
        return plain
    ends = accumulate((date["n_parts"] for date in told["dates"]), initial=0)
    dates = tuple(
        Scene(
            scene_id=date["scene_id"],
            datetime=date["datetime"],
            parts=plain.parts[start:stop],
            mosaic=date["mosaic"],
            hidden=HiddenClasses(values=tuple(date["cloud_classes"]), bits=tuple(date["cloud_bits"])),
            cloud_method=date.get("cloud_method"),
            footprint=read_wkt(date["footprint"]),
        )
        for date, (start, stop) in zip(told["dates"], pairwise(ends), strict=True)
    )
    shared = {field.name: getattr(plain, field.name) for field in fields(Scene)}
    return CompositeScene(**shared, dates=dates, rule=told["rule"], cloud_buffer_m=told["cloud_buffer_m"])

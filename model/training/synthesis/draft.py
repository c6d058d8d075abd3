"""A landscape while it is being planned: what stands already, and how decisions are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.footprint import Footprints, Presence
from model.training.synthesis.ground import CoverKind, Covers
from model.training.synthesis.landscape import (
    Building,
    Fence,
    Patch,
    Placement,
    Rgb,
    Road,
    StreetFrame,
    Surface,
    Trail,
    Wing,
)
from model.training.synthesis.texture import PointArray, offset_polyline

ASPHALT: tuple[Rgb, ...] = ((140, 138, 132), (126, 124, 120), (112, 111, 109), (150, 146, 138), (98, 98, 98))
CONCRETE: tuple[Rgb, ...] = ((196, 190, 176), (186, 180, 168), (206, 200, 186), (178, 170, 156))

THROUGH_HALF_WIDTH_M = 5.5
"""Half the width kept free between districts; through roads are at most that wide."""

BOTH: Presence = (True, True)
ONLY_BEFORE: Presence = (True, False)
ONLY_AFTER: Presence = (False, True)


@dataclass(frozen=True, kw_only=True)
class District:
    """A rectangle of the street frame with one use; its sides are in metres of the frame."""

    u0: float
    """Low side along u."""
    u1: float
    """High side along u."""
    v0: float
    """Low side along v."""
    v1: float
    """High side along v."""
    has_road_at_start: bool
    """Whether a through road runs along the side where streets begin."""
    has_road_at_end: bool
    """Whether one runs along the opposite side."""
    is_along_u: bool
    """Whether its streets and tracks run along u."""

    @property
    def length_m(self) -> float:
        """Extent along its streets."""
        return self.u1 - self.u0 if self.is_along_u else self.v1 - self.v0

    @property
    def breadth_m(self) -> float:
        """Extent across its streets."""
        return self.v1 - self.v0 if self.is_along_u else self.u1 - self.u0

    def to_scene(
        self, frame: StreetFrame, along_m: NDArray[np.float64], across_m: NDArray[np.float64] | float
    ) -> PointArray:
        """Converts positions measured from the district's corner to (N, 2) scene positions (y, x)."""
        across = np.broadcast_to(np.asarray(across_m, np.float64), along_m.shape)
        if self.is_along_u:
            return frame.to_scene(self.u0 + along_m, self.v0 + across)
        return frame.to_scene(self.u0 + across, self.v0 + along_m)

    def outline(self, frame: StreetFrame, *, grow_m: float) -> PointArray:
        """Returns the bent outline in the scene of the district made wider on all sides."""
        u0, u1, v0, v1 = self.u0 - grow_m, self.u1 + grow_m, self.v0 - grow_m, self.v1 + grow_m
        u, v = np.linspace(u0, u1, 24), np.linspace(v0, v1, 24)
        sides = [
            frame.to_scene(u, v0),
            frame.to_scene(u1, v),
            frame.to_scene(u[::-1], v1),
            frame.to_scene(u0, v[::-1]),
        ]
        return np.concatenate(sides)


@dataclass(kw_only=True)
class Draft:
    """The lists that become a `Landscape`, and the random numbers that fill them."""

    rng: np.random.Generator
    frame: StreetFrame
    covers: Covers
    footprints: Footprints
    patches: list[Patch] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    trails: list[Trail] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        """Draws a yes with the given probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """Draws a number between two bounds."""
        return low + float(self.rng.random()) * (high - low)

    def one_of(self, colours: tuple[Rgb, ...], *, spread: float = 0.05) -> Rgb:
        """Draws a colour and varies its brightness."""
        red, green, blue = colours[int(self.rng.integers(len(colours)))]
        level = min(1.2, max(0.8, float(self.rng.normal(1.0, spread))))
        return min(255, round(red * level)), min(255, round(green * level)), min(255, round(blue * level))

    def cover(self, kind: CoverKind) -> int:
        """Draws a variant of a kind of ground."""
        indices = self.covers.indices_of(kind)
        return int(indices[int(self.rng.integers(len(indices)))])

    def add_patch(self, outline: PointArray, covers: tuple[int | None, int | None], *, is_ragged: bool = True) -> None:
        """Covers an area of ground when it comes near the scene."""
        if self.footprints.is_near(outline):
            self.patches.append(Patch(outline=outline, covers=covers, is_ragged=is_ragged))

    def add_surface(
        self, outline: PointArray, *, rgb: Rgb, is_at: Presence, height_m: float = 0.0, is_on_roof: bool = False
    ) -> None:
        """Adds a small surface."""
        self.surfaces.append(Surface(outline=outline, rgb=rgb, height_m=height_m, is_on_roof=is_on_roof, is_at=is_at))

    def add_trail(self, line: PointArray, *, rgb: Rgb, share: float, is_at: Presence) -> None:
        """Adds a worn or painted line when it comes near the scene."""
        if self.footprints.is_near(line):
            self.trails.append(Trail(line=line, rgb=rgb, share=share, is_at=is_at))

    def add_fence(self, corners: PointArray, *, rgb: Rgb, height_m: float, is_at: Presence) -> None:
        """Adds a fence along (N, 2) corners."""
        self.fences.append(Fence(line=corners, height_m=height_m, rgb=rgb, is_at=is_at))

    def add_building(
        self,
        outline: PointArray,
        placement: Placement,
        wings: tuple[Wing, ...],
        *,
        eave_m: float,
        roof_slope: float,
        roof_rgb: Rgb,
        is_at: Presence,
    ) -> bool:
        """Adds a building unless the ground is taken; returns whether it stands."""
        if not self.footprints.add_building(outline, is_at):
            return False
        self.buildings.append(
            Building(
                placement=placement,
                wings=wings,
                outline=outline,
                eave_m=eave_m,
                roof_slope=roof_slope,
                roof_rgb=roof_rgb,
                is_at=is_at,
            )
        )
        return True

    def add_road(
        self,
        centreline: PointArray,
        half_widths_m: float | NDArray[np.float64],
        *,
        rgb: Rgb,
        is_at: Presence,
        has_curb: bool = True,
        has_marking: bool = False,
    ) -> None:
        """Adds a road when it comes near the scene; its half width is one number or one per vertex."""
        outline = offset_polyline(centreline, half_widths_m)
        if not self.footprints.is_near(outline):
            return
        self.footprints.add_road(outline, is_at)
        self.roads.append(
            Road(
                outline=outline,
                centreline=centreline,
                half_width_m=float(np.min(half_widths_m)),
                rgb=rgb,
                has_curb=has_curb,
                has_marking=has_marking,
                is_at=is_at,
            )
        )

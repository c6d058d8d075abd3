"""The nouns of a synthetic landscape, and the draft that plans it.

Nouns are frozen values in metres, (y, x) from the scene's top left corner. Whether a thing stands there at a date is
its `is_at` pair, (before, after): the truth of a scene is read off these values and never off pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import Footprints, PointArray, Presence, offset_polyline
from model.synthesis.ground import CoverKind, Covers, Rgb
from model.synthesis.settings import Setting

ASPHALT: tuple[Rgb, ...] = ((140, 138, 132), (126, 124, 120), (112, 111, 109), (150, 146, 138), (98, 98, 98))
CONCRETE: tuple[Rgb, ...] = ((196, 190, 176), (186, 180, 168), (206, 200, 186), (178, 170, 156))

THROUGH_HALF_WIDTH_M = 5.5
"""Half the width kept free between districts; through roads are at most that wide."""

_VERGE_M = 3.0
"""How far the ground of a district reaches under the road beside it and its verge."""

BOTH: Presence = (True, True)
ONLY_BEFORE: Presence = (True, False)
ONLY_AFTER: Presence = (False, True)
PRESENCES: tuple[Presence, ...] = (BOTH, ONLY_BEFORE, ONLY_AFTER)

Shares = tuple[tuple[float, Presence], ...]
"""Running shares of lots whose building stands at given dates; the rest stay empty."""

RoofShape = Literal["hip", "gable_along", "gable_across", "flat"]

_Choice = TypeVar("_Choice")


@dataclass(frozen=True, kw_only=True)
class StreetFrame:
    """A rotated and gently bent coordinate frame (u, v) that streets and fields follow."""

    angle_rad: float
    """Rotation of the u axis against the scene's x axis."""
    origin_yx: tuple[float, float]
    """Scene position of (u, v) = (0, 0)."""
    bends_m: tuple[float, float]
    """Amplitude of the bend of v along u, and of u along v."""
    wave_lengths_m: tuple[float, float]
    """Wave lengths of the two bends."""
    phases_rad: tuple[float, float]
    """Phases of the two bends."""

    def to_scene(self, u: NDArray[np.float64] | float, v: NDArray[np.float64] | float) -> PointArray:
        """Convert frame positions in metres to (N, 2) scene positions (y, x)."""
        along, across = np.broadcast_arrays(np.atleast_1d(u), np.atleast_1d(v))
        (bend_v, bend_u), (wave_u, wave_v) = self.bends_m, self.wave_lengths_m
        phase_u, phase_v = self.phases_rad
        bent_v = across + bend_v * np.sin(math.tau * along / wave_u + phase_u)
        bent_u = along + bend_u * np.sin(math.tau * bent_v / wave_v + phase_v)
        cosine, sine = math.cos(self.angle_rad), math.sin(self.angle_rad)
        y = self.origin_yx[0] + bent_u * sine + bent_v * cosine
        x = self.origin_yx[1] + bent_u * cosine - bent_v * sine
        return np.stack([y, x], axis=1)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a lot stands: rigid, so that houses stay rectangular in a bent frame."""

    centre_yx: tuple[float, float]
    """Scene position of the local origin."""
    along_yx: tuple[float, float]
    """Unit vector along the street."""
    front_yx: tuple[float, float]
    """Unit vector towards the street."""

    def to_scene(self, local: PointArray) -> PointArray:
        """Convert (N, 2) local positions (along, front) in metres to scene positions (y, x)."""
        axes = np.array([self.along_yx, self.front_yx])
        return np.asarray(np.asarray(local) @ axes + np.array(self.centre_yx))

    def rectangle(self, along0: float, along1: float, front0: float, front1: float) -> PointArray:
        """Return the (4, 2) scene corners of a local rectangle."""
        corners = [(along0, front0), (along1, front0), (along1, front1), (along0, front1)]
        return self.to_scene(np.array(corners))


@dataclass(frozen=True, kw_only=True)
class Wing:
    """A rectangle of a roof in the local frame of its building; a roof is the highest of its wings."""

    along0: float
    along1: float
    front0: float
    front1: float
    roof: RoofShape


@dataclass(frozen=True, kw_only=True)
class Building:
    """A house or hall."""

    placement: Placement
    wings: tuple[Wing, ...]
    outline: PointArray
    """(N, 2) outline of all wings together."""
    eave_m: float
    """Height of the walls."""
    roof_slope: float
    """Rise over run of the roof planes."""
    roof_rgb: Rgb
    is_at: Presence


@dataclass(frozen=True, kw_only=True)
class Road:
    """A paved road with its outline as drawn and as counted."""

    outline: PointArray
    centreline: PointArray
    half_width_m: float
    rgb: Rgb
    has_curb: bool
    has_marking: bool
    """Whether lines are painted on it: one in the middle of a narrow road, one per lane on a wide one."""
    is_at: Presence


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A small paved or built surface: drive, pavement, patio, pool, car roof."""

    outline: PointArray
    rgb: Rgb
    height_m: float
    """Height above the ground for its shadow; 0 for pavements."""
    is_on_roof: bool
    """Whether it stands on a building, drawn after it."""
    is_at: Presence


@dataclass(frozen=True, kw_only=True)
class Trail:
    """A worn or painted line: wheel tracks, footpaths, the marks of a parking lot."""

    line: PointArray
    """(N, 2) vertices."""
    rgb: Rgb
    share: float
    """How far it hides what lies below, 0 to 1."""
    is_at: Presence


@dataclass(frozen=True, kw_only=True)
class Patch:
    """An area of ground with a cover per date."""

    outline: PointArray
    covers: tuple[int | None, int | None]
    """Cover index before and after; None leaves what lies below."""
    is_ragged: bool
    """Whether its border is worn and overgrown (nature) or straight (a lot)."""


@dataclass(frozen=True, kw_only=True)
class Fence:
    """A board fence or a wall along straight pieces."""

    line: PointArray
    """(N, 2) corners."""
    height_m: float
    rgb: Rgb
    is_at: Presence


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """Everything that stands or grows in a scene at its two dates; planning fills its lists."""

    setting: Setting
    covers: Covers
    footprints: Footprints
    """What roads and buildings take: trees keep away from it."""
    patches: list[Patch] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    trails: list[Trail] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class District:
    """A rectangle of the street frame with one use; its sides are in metres of the frame."""

    frame: StreetFrame
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

    def to_scene(self, along_m: NDArray[np.float64], across_m: NDArray[np.float64] | float) -> PointArray:
        """Convert positions measured from the district's corner to (N, 2) scene positions (y, x)."""
        if self.is_along_u:
            return self.frame.to_scene(self.u0 + along_m, self.v0 + across_m)
        return self.frame.to_scene(self.u0 + across_m, self.v0 + along_m)

    def outline(self, *, grow_m: float = THROUGH_HALF_WIDTH_M + _VERGE_M) -> PointArray:
        """Return the bent outline in the scene of the district made wider on all sides."""
        u0, u1, v0, v1 = self.u0 - grow_m, self.u1 + grow_m, self.v0 - grow_m, self.v1 + grow_m
        u, v = np.linspace(u0, u1, 24), np.linspace(v0, v1, 24)
        to_scene = self.frame.to_scene
        return np.concatenate([to_scene(u, v0), to_scene(u1, v), to_scene(u[::-1], v1), to_scene(u0, v[::-1])])


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A landscape while it is planned: how decisions are drawn, and what is added where it comes near the scene."""

    rng: np.random.Generator
    landscape: Landscape

    def chance(self, probability: float) -> bool:
        """Draw a yes with the given probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """Draw a number between two bounds."""
        return low + float(self.rng.random()) * (high - low)

    def choose(self, options: Sequence[_Choice]) -> _Choice:
        """Draw one of some options."""
        return options[int(self.rng.integers(len(options)))]

    def draw_presence(self, shares: Shares) -> Presence | None:
        """Draw when something stands there; None for never."""
        draw = float(self.rng.random())
        return next((presence for share, presence in shares if draw < share), None)

    def one_of(self, colours: tuple[Rgb, ...], *, spread: float = 0.05) -> Rgb:
        """Draw a colour and vary its brightness."""
        colour = self.choose(colours)
        return scale_rgb(colour, min(1.2, max(0.8, float(self.rng.normal(1.0, spread)))))

    def cover(self, kind: CoverKind) -> int:
        """Draw a variant of a kind of ground."""
        return int(self.choose(self.landscape.covers.indices_of(kind).tolist()))

    def add_patch(self, outline: PointArray, before: int | None, after: int | None, *, is_ragged: bool = True) -> None:
        """Cover an area of ground; None leaves what lies below."""
        if self.landscape.footprints.is_near(outline):
            self.landscape.patches.append(Patch(outline=outline, covers=(before, after), is_ragged=is_ragged))

    def add_surface(
        self, outline: PointArray, *, rgb: Rgb, is_at: Presence, height_m: float = 0.0, is_on_roof: bool = False
    ) -> None:
        """Add a small surface."""
        surface = Surface(outline=outline, rgb=rgb, height_m=height_m, is_on_roof=is_on_roof, is_at=is_at)
        self.landscape.surfaces.append(surface)

    def add_trail(self, line: PointArray, *, rgb: Rgb, share: float, is_at: Presence) -> None:
        """Add a worn or painted line."""
        if self.landscape.footprints.is_near(line):
            self.landscape.trails.append(Trail(line=line, rgb=rgb, share=share, is_at=is_at))

    def add_building(self, building: Building) -> bool:
        """Add a building unless the ground is taken; return whether it stands."""
        stands = self.landscape.footprints.add_building(building.outline, building.is_at)
        if stands:
            self.landscape.buildings.append(building)
        return stands

    def add_road(
        self,
        centreline: PointArray,
        half_widths_m: float | NDArray[np.float64],
        *,
        rgb: Rgb,
        is_at: Presence,
        has_curb: bool,
        has_marking: bool = False,
    ) -> None:
        """Add a road; its half width is one number or one per vertex."""
        outline = offset_polyline(centreline, half_widths_m)
        if not self.landscape.footprints.is_near(outline):
            return
        self.landscape.footprints.add_road(outline, is_at)
        self.landscape.roads.append(
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


def scale_rgb(rgb: Rgb, level: float) -> Rgb:
    """Make a colour brighter or darker."""
    red, green, blue = (min(255, round(value * level)) for value in rgb)
    return red, green, blue

"""The nouns of a synthetic landscape: frozen values in metres, (y, x) from the scene's top left corner.

Planning (`planning.py`, `districts.py`) makes one `Landscape`; rendering draws it once per date. Whether a
thing stands there at a date is its `is_at` pair, (before, after): the truth of a scene is read off these
values and never off pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.footprint import Footprints, Presence
from model.training.synthesis.ground import Covers
from model.training.synthesis.texture import PointArray

Rgb = tuple[int, int, int]
SettingName = Literal["prairie", "hills", "farmland", "forest", "desert", "city"]
RoofShape = Literal["hip", "gable_along", "gable_across", "flat"]


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
        """Converts frame positions in metres to (N, 2) scene positions (y, x)."""
        along, across = np.atleast_1d(np.asarray(u, np.float64)), np.atleast_1d(np.asarray(v, np.float64))
        along, across = np.broadcast_arrays(along, across)
        (bend_v, bend_u), (wave_u, wave_v), (phase_u, phase_v) = (
            self.bends_m,
            self.wave_lengths_m,
            self.phases_rad,
        )
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
        """Converts (N, 2) local positions (along, front) in metres to scene positions (y, x)."""
        axes = np.array([self.along_yx, self.front_yx])
        return np.asarray(np.asarray(local) @ axes + np.array(self.centre_yx))

    def rectangle(self, along0: float, along1: float, front0: float, front1: float) -> PointArray:
        """Returns the (4, 2) scene corners of a local rectangle."""
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
    """Everything that stands or grows in a scene at its two dates."""

    setting: SettingName
    """The sort of landscape."""
    covers: Covers
    patches: tuple[Patch, ...]
    roads: tuple[Road, ...]
    surfaces: tuple[Surface, ...]
    trails: tuple[Trail, ...]
    fences: tuple[Fence, ...]
    buildings: tuple[Building, ...]
    footprints: Footprints
    """What roads and buildings take: trees keep away from it."""

"""The settings that landscapes are planned in: which uses of land are common there, its soils and its trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from model.synthesis.ground import Rgb

SettingName = Literal["prairie", "hills", "farmland", "forest", "desert", "city"]

Use = Literal[
    "suburb",
    "infill",
    "phase",
    "greenfield",
    "acreage",
    "works",
    "clearance",
    "clearing",
    "farm",
    "pasture",
    "scrub",
    "woods",
    "desert",
]
"""What a district is for.

Of the suburbs, `infill` changes on some lots, `phase` has its streets but only some houses before, `greenfield` is open
country before, and `clearance` loses most of its houses. In a `clearing` the ground changes, but nothing is built.
"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is common in one sort of landscape."""

    name: SettingName
    quiet_uses: dict[Use, float]
    """Weights of the uses of districts where no building or road changes."""
    changing_uses: dict[Use, float]
    """Weights of the uses of districts where some do."""
    wild_uses: tuple[Use, ...]
    """What land is before it is built on."""
    soils: tuple[Rgb, ...]
    """Colours that bare soil may have."""
    tree_factor: tuple[float, float]
    """Range of how many trees stand, 1 for the usual number."""
    share: float
    """How common this setting is."""


_TAN: Rgb = (168, 154, 130)
_CLAY: Rgb = (122, 112, 98)
_CALICHE: Rgb = (200, 192, 174)
_RED: Rgb = (154, 132, 110)
_SAND: Rgb = (176, 156, 126)
_GREY: Rgb = (148, 140, 126)
_GROWTH: dict[Use, float] = {"greenfield": 0.42, "phase": 0.28, "infill": 0.08, "acreage": 0.08, "works": 0.06}
SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="prairie",
        quiet_uses={"suburb": 0.34, "pasture": 0.32, "farm": 0.08, "works": 0.07, "scrub": 0.08, "clearing": 0.11},
        changing_uses={**_GROWTH},
        wild_uses=("pasture", "pasture", "farm", "scrub"),
        soils=(_TAN, _CLAY, _GREY),
        tree_factor=(0.5, 1.2),
        share=0.26,
    ),
    Setting(
        name="hills",
        quiet_uses={"suburb": 0.26, "scrub": 0.34, "woods": 0.16, "acreage": 0.06, "works": 0.04, "clearing": 0.14},
        changing_uses={**_GROWTH, "acreage": 0.22},
        wild_uses=("scrub", "scrub", "woods"),
        soils=(_CALICHE, _TAN, _SAND),
        tree_factor=(0.8, 1.5),
        share=0.22,
    ),
    Setting(
        name="farmland",
        quiet_uses={"farm": 0.52, "pasture": 0.18, "suburb": 0.10, "woods": 0.06, "clearing": 0.14},
        changing_uses={**_GROWTH},
        wild_uses=("farm", "farm", "pasture"),
        soils=(_CLAY, _TAN, _RED, _GREY),
        tree_factor=(0.3, 1.0),
        share=0.14,
    ),
    Setting(
        name="forest",
        quiet_uses={"woods": 0.46, "suburb": 0.20, "pasture": 0.12, "acreage": 0.06, "works": 0.03, "clearing": 0.13},
        changing_uses={**_GROWTH, "acreage": 0.16},
        wild_uses=("woods",),
        soils=(_RED, _TAN, _CLAY),
        tree_factor=(1.0, 1.6),
        share=0.14,
    ),
    Setting(
        name="desert",
        quiet_uses={"desert": 0.48, "scrub": 0.12, "suburb": 0.24, "works": 0.05, "clearing": 0.11},
        changing_uses={**_GROWTH},
        wild_uses=("desert",),
        soils=(_SAND, _RED, _TAN),
        tree_factor=(0.2, 0.7),
        share=0.08,
    ),
    Setting(
        name="city",
        quiet_uses={"suburb": 0.52, "works": 0.32, "pasture": 0.06, "clearing": 0.10},
        changing_uses={"infill": 0.2, "phase": 0.16, "works": 0.3, "greenfield": 0.12},
        wild_uses=("pasture", "scrub"),
        soils=(_TAN, _GREY, _CLAY),
        tree_factor=(0.6, 1.5),
        share=0.16,
    ),
)


def draw_setting(rng: np.random.Generator) -> Setting:
    """Draw the setting of a landscape."""
    return SETTINGS[_draw_index(rng, [setting.share for setting in SETTINGS])]


def draw_use(rng: np.random.Generator, uses: dict[Use, float]) -> Use:
    """Draw one use with the given weights."""
    return list(uses)[_draw_index(rng, list(uses.values()))]


def _draw_index(rng: np.random.Generator, weights: list[float]) -> int:
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))

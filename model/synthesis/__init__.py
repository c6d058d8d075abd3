"""Aerial-looking pairs of images whose every change is known: plan a landscape, draw it, then take its pictures.

A landscape comes about in this order. Its setting is drawn (`settings`), and with that its soil and the variants of
its ground (`ground`). Through roads are laid along a gently bent frame, and the land between them is cut into
districts (`streets`). Each district gets a use and, by chance, a change between the dates (`planning`): streets, lots
and what is built on them (`buildings`), or fields, woods, ponds and tracks (`countryside`). Whatever is planned
enters the landscape with the dates at which it stands (`landscape`), a building only where the ground is free
(`geometry`). What changed is read off this plan, never off pixels (`truth`).

Then both dates are drawn block by block (`drawing`): the ground from sheets of texture that repeat without a seam
(`textures`), roads and roofs with their heights (`canvas`), and trees where the ground bears them. At last each date
has its own sun, season and camera (`light`). `pairs` does all this for one scene, or for many tiles of one landscape.
`clouds` hides some of it.
"""

from model.synthesis.pairs import (
    DEFAULT_CHANGE_LEVEL,
    DEFAULT_REMOVAL_LEVEL,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    RESOLUTION_RANGE_M,
    TILES_PER_LANDSCAPE,
    SyntheticPair,
    synthesize_pair,
    synthesize_tiles,
)
from model.synthesis.truth import DirectionCounts, LandFacts, PairFacts, SyntheticObject

__all__ = [
    "DEFAULT_CHANGE_LEVEL",
    "DEFAULT_REMOVAL_LEVEL",
    "MAX_SIZE_PX",
    "MIN_SIZE_PX",
    "RESOLUTION_RANGE_M",
    "TILES_PER_LANDSCAPE",
    "DirectionCounts",
    "LandFacts",
    "PairFacts",
    "SyntheticObject",
    "SyntheticPair",
    "synthesize_pair",
    "synthesize_tiles",
]

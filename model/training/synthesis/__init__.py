"""Aerial-looking pairs of images whose every change is known: plan a landscape, draw it, then take its pictures."""

from model.training.synthesis.facts import DirectionCounts, LandFacts, PairFacts
from model.training.synthesis.pair import (
    DEFAULT_CHANGE_LEVEL,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    RESOLUTION_RANGE_M,
    SyntheticPair,
    synthesize_pair,
)
from model.training.synthesis.tiles import DEFAULT_REMOVAL_LEVEL, TILES_PER_LANDSCAPE, synthesize_tiles
from model.training.synthesis.truth import SyntheticObject

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

"""Aerial-looking pairs of images whose every change is known: plan a landscape, then render it at two dates."""

from model.training.synthesis.pair import (
    DEFAULT_CHANGE_LEVEL,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    RESOLUTION_RANGE_M,
    SyntheticObject,
    SyntheticPair,
    synthesize_pair,
)

__all__ = [
    "DEFAULT_CHANGE_LEVEL",
    "MAX_SIZE_PX",
    "MIN_SIZE_PX",
    "RESOLUTION_RANGE_M",
    "SyntheticObject",
    "SyntheticPair",
    "synthesize_pair",
]

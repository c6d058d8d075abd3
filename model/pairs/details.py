"""What captions tell beyond that something changed: trees, places, numbers, roads, water, parking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import yaml

from model.pairs.captions import split_words

N_AGREEING = 2
"""So many people must name a detail for it to be there."""


@cache
def load_details() -> dict[str, frozenset[str]]:
    """Read the words that name each detail from ``detail_words.yaml``."""
    text = resources.files("model.pairs").joinpath("detail_words.yaml").read_text(encoding="utf-8")
    return {detail: frozenset(words.split()) for detail, words in yaml.safe_load(text).items()}


def find_details(text: str) -> frozenset[str]:
    """Find the details that a caption names."""
    words = {part for word in split_words(text) for part in (word, *word.split("-"))}
    return frozenset(detail for detail, names in load_details().items() if words & names)


def find_agreed(captions: Sequence[str]) -> frozenset[str]:
    """Find the details that at least two of several captions of a pair name."""
    counts = Counter(detail for text in captions for detail in find_details(text))
    return frozenset(detail for detail, count in counts.items() if count >= N_AGREEING)


def weigh_captions(captions: Sequence[str]) -> npt.NDArray[np.float64]:
    """Weigh the captions of a pair by how much of what others see they tell, too: they sum up to one.

    A caption without any such detail still counts, so that every one is learned.
    """
    agreed = find_agreed(captions)
    weights = np.array([1.0 + len(find_details(text) & agreed) for text in captions])
    return np.asarray(weights / weights.sum(), np.float64)


def share_details(captions: Sequence[str]) -> tuple[float, ...]:
    """Give for each detail, in the order of `load_details`, which part of the captions names it."""
    found = [find_details(text) for text in captions]
    return tuple(sum(detail in names for names in found) / max(len(found), 1) for detail in load_details())

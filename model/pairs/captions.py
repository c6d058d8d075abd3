"""Captions that people wrote, found again by what a mask and the ground under it tell.

Most pairs with masks have no captions, and there are captions of pairs that are not at hand. So a pair borrows one:
written about as many houses, in a place that fits, on ground of the same kind. Of all that would do those come first
that are most like everything people wrote about such pairs: what one person saw in one place is left out, what most
would say is kept. Alike is what shares n-grams, as BLEU counts them (Papineni et al., 2002) and CIDEr weighs them
(Vedantam et al., arXiv 1411.5726); taking what is expected to score best is minimum Bayes risk (Kumar and Byrne, 2004).
"""

from __future__ import annotations

import re
import statistics
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from model.errors import InputError
from model.pairs.crop_captions import read_crop_captions
from model.pairs.facts import ChangeFacts

N_HASHES = 1 << 13
MAX_NGRAM = 4
BLEU_SMOOTHING = 0.1
"""Added to matches and totals of every length."""

Ngram = tuple[str, ...]
"""One to four words in a row."""


class NgramWeights:
    """How telling each n-gram of one to four words is: the rarer among the pairs, the more."""

    def __init__(self, sets: Sequence[Sequence[str]]) -> None:
        frequency: Counter[int] = Counter()
        for captions in sets:
            frequency.update({_hash_ngram(ngram) for text in captions for ngram in list_ngrams(text)})
        self.weights = np.zeros(N_HASHES, np.float32)
        for place, count in frequency.items():
            self.weights[place] = np.log(len(sets) / count)

    def vectorise(self, text: str) -> npt.NDArray[np.float32]:
        """Give the weighted n-grams of a text as float32 of shape (`N_HASHES`,) and length one."""
        vector = np.zeros(N_HASHES, np.float32)
        np.add.at(vector, [_hash_ngram(ngram) for ngram in list_ngrams(text)], 1)
        vector *= self.weights
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _hash_ngram(ngram: Ngram) -> int:
    return zlib.crc32(" ".join(ngram).encode()) % N_HASHES


def list_ngrams(text: str) -> list[Ngram]:
    """List the n-grams of one to four words of a text, without the full stop at its end."""
    words = text.removesuffix(".").split()
    return [
        tuple(words[start : start + length])
        for length in range(1, MAX_NGRAM + 1)
        for start in range(len(words) - length + 1)
    ]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The captions of one pair, as BLEU compares with them."""

    counts: Counter[Ngram]
    """How often each n-gram is in the caption that holds it most often."""
    lengths: tuple[int, ...]
    """Words of each caption."""

    @classmethod
    def from_captions(cls, captions: Sequence[str]) -> Reference:
        """Count n-grams and words."""
        counts: Counter[Ngram] = Counter()
        for text in captions:
            counts |= Counter(list_ngrams(text))
        return cls(counts=counts, lengths=tuple(len(text.removesuffix(".").split()) for text in captions))


def expect_bleu(text: str, references: Sequence[Reference]) -> float:
    """Give the mean over pairs of a caption's own BLEU-4, smoothed so that one missing length does not make it zero."""
    counts = Counter(list_ngrams(text))
    length = len(text.removesuffix(".").split())
    totals = np.array([max(1, length - size) for size in range(MAX_NGRAM)])
    scores = []
    for reference in references:
        matched = np.zeros(MAX_NGRAM)
        for ngram, count in counts.items():
            matched[len(ngram) - 1] += min(count, reference.counts[ngram])
        precision = np.exp(np.log((matched + BLEU_SMOOTHING) / (totals + BLEU_SMOOTHING)).mean())
        nearest = min(reference.lengths, key=lambda other: abs(other - length))
        scores.append(precision * min(1.0, float(np.exp(1 - nearest / length))))
    return float(np.mean(scores))


class GroundCover(StrEnum):
    """What the ground was covered with where something was built."""

    TREES = "trees"
    BARE = "bare"


MANY = 5
"""Class of more buildings than people count."""


@dataclass(frozen=True, kw_only=True)
class CaptionWords:
    """The words by which captions are sorted, from ``caption_words.yaml``."""

    covers: dict[GroundCover, frozenset[str]]
    """What the ground was covered with."""
    buildings: frozenset[str]
    built: frozenset[str]
    """That something was not there before."""
    untold: frozenset[str]
    """What neither a mask of buildings nor the colour of the ground tells."""
    numbers: dict[int, frozenset[str]]
    """Words for the classes of `classify_count`."""
    places: dict[str, tuple[int | None, int | None]]
    """Row and column of the 3 x 3 cells that a word speaks of; None where it leaves that open."""


@cache
def load_caption_words() -> CaptionWords:
    """Read ``caption_words.yaml``."""
    tree = yaml.safe_load(resources.files("model.pairs").joinpath("caption_words.yaml").read_text(encoding="utf-8"))
    return CaptionWords(
        covers={cover: frozenset(tree["covers"][cover.value].split()) for cover in GroundCover},
        buildings=frozenset(tree["buildings"].split()),
        built=frozenset(tree["built"].split()),
        untold=frozenset(tree["untold"].split()),
        numbers={number: frozenset(words.split()) for number, words in tree["numbers"].items()},
        places={word: (row, col) for word, (row, col) in tree["places"].items()},
    )


PLACED_FRACTION = 0.75
"""A place fits where at least this part of the changed cells lies in its row and column."""
SIMILARITY_WEIGHT = 2.0
"""Weight of the weighted n-grams beside BLEU."""
N_SHORTLISTED = 250
"""Captions per class whose BLEU is looked at: the most similar ones."""
N_REFERENCES = 150
"""Pairs per class that BLEU is averaged over."""
N_KEPT = 60
"""Captions kept per class: the most typical ones."""
TYPICAL_FRACTION = 0.7
"""How often the most typical caption that fits is taken; else one of the next `N_VARIED`."""
N_VARIED = 4


def classify_count(count: int) -> int:
    """Sort a number of buildings into the classes that words tell apart: 1, 2, 3, 4 to 7 (as 4), and more (`MANY`)."""
    return count if count < 4 else 4 if count < 8 else MANY


@dataclass(frozen=True, kw_only=True)
class PooledCaption:
    """A caption and the places that it names."""

    text: str
    places: tuple[tuple[int | None, int | None], ...]
    """Row and column each, as `CaptionWords.places` has them."""

    def fits(self, facts: ChangeFacts) -> bool:
        """Tell whether most changed cells lie where the caption says."""
        cells = np.argwhere(np.array(facts.building.is_cell_changed, bool).reshape(3, 3))
        if not self.places:
            return True
        return len(cells) > 0 and all(
            np.mean(cells[:, axis] == index) >= PLACED_FRACTION
            for place in self.places
            for axis, index in enumerate(place)
            if index is not None
        )


class CaptionPool:
    """Captions by the number of buildings and the ground that they speak of, the most typical first."""

    def __init__(self, sets: Sequence[Sequence[str]]) -> None:
        """Sort the captions of changed pairs, one entry of `sets` per pair."""
        weigh = NgramWeights(sets)
        by_class: dict[tuple[int, GroundCover | None], list[Sequence[str]]] = defaultdict(list)
        for captions in sets:
            if (found := read_captions_of_pair(captions)) is not None:
                by_class[found].append(captions)
        self.by_class = {key: self._rank(members, weigh) for key, members in sorted(by_class.items(), key=str)}

    @classmethod
    def from_file(cls, file: Path, *, split: str = "train") -> CaptionPool:
        """Read the captions of the changed pairs of a split from LEVIR-CC's JSON file, packed with gzip or not.

        Raises:
            InputError: no changed pair of this split in the file.
        """
        sets = [crop.captions for crop in read_crop_captions(file, split=split) if crop.is_changed]
        if not sets:
            raise InputError(
                f"no changed pair of split {split!r} in {file}",
                expected="LEVIR-CC's captions",
                remedy="check the split",
            )
        return cls(sets)

    def list_texts(self) -> list[str]:
        """List all captions that are kept."""
        return [caption.text for ranked in self.by_class.values() for caption in ranked]

    @staticmethod
    def _rank(members: Sequence[Sequence[str]], weigh: NgramWeights) -> list[PooledCaption]:
        typical = np.mean([weigh.vectorise(text) for captions in members for text in captions], axis=0)
        texts = sorted({text for captions in members for text in captions if is_telling(text)})
        similarity = {text: float(weigh.vectorise(text) @ typical) for text in texts}
        shortlist = sorted(texts, key=lambda text: -similarity[text])[:N_SHORTLISTED]
        references = [Reference.from_captions(captions) for captions in members[:N_REFERENCES]]
        score = {text: SIMILARITY_WEIGHT * similarity[text] + expect_bleu(text, references) for text in shortlist}
        ranked = sorted(shortlist, key=lambda text: -score[text])[:N_KEPT]
        return [PooledCaption(text=text, places=find_places(text)) for text in ranked]

    def draw(self, facts: ChangeFacts, *, cover: GroundCover | None, random: np.random.Generator) -> str | None:
        """Draw a caption that fits what was built; None where there is none, or nothing was built."""
        if facts.building.count == 0 or facts.is_removal:
            return None
        number = classify_count(facts.building.count)
        ranked = self.by_class.get((number, cover)) or self.by_class.get((number, None)) or []
        fitting = [caption.text for caption in ranked if caption.fits(facts)][:N_VARIED]
        if not fitting:
            return None
        return fitting[0] if random.random() < TYPICAL_FRACTION else str(random.choice(fitting))


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words; hyphens belong to them."""
    return re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())


def is_telling(text: str) -> bool:
    """Tell whether a caption speaks of buildings, and of nothing that a mask and the ground do not tell."""
    words, known = set(split_words(text)), load_caption_words()
    return bool(words & known.buildings and words & known.built) and not words & known.untold


def find_places(text: str) -> tuple[tuple[int | None, int | None], ...]:
    """Find the places that a caption names."""
    known = load_caption_words().places
    return tuple(known[word] for word in split_words(text) if word in known)


def read_captions_of_pair(captions: Sequence[str]) -> tuple[int, GroundCover | None] | None:
    """Find out of how many buildings on what ground the captions of one pair speak; None if of other things."""
    words, known = [set(split_words(text)) for text in captions], load_caption_words()
    numbers = [number for text in captions for number in read_numbers(text)]
    if not numbers or sum(bool(found & known.buildings) for found in words) * 2 <= len(captions):
        return None
    few = [number for number in numbers if number != MANY]
    number = MANY if numbers.count(MANY) >= 2 or not few else int(statistics.median(few))
    n_trees, n_bare = (sum(bool(found & known.covers[cover]) for found in words) for cover in GroundCover)
    if max(n_trees, n_bare) < 2:
        return number, None
    return number, GroundCover.TREES if n_trees >= n_bare else GroundCover.BARE


def read_numbers(text: str) -> list[int]:
    """Find the classes of `classify_count` that the number in front of a caption's buildings may stand for."""
    if not is_telling(text):
        return []
    words, known = split_words(text), load_caption_words()
    if set(words) & known.numbers[MANY]:
        return [MANY]
    first = next(place for place, word in enumerate(words) if word in known.buildings)
    near = set(words[max(0, first - 4) : first])
    found = [number for number, names in known.numbers.items() if near & names]
    is_plural = words[first].endswith("s")
    return [number for number in found if (number != 1) == is_plural and "row" not in words]


def judge_ground(image: npt.NDArray[np.uint8], *, changed: npt.NDArray[np.bool_]) -> GroundCover | None:
    """Tell trees from bare ground by the colour at and around what changed; None where it is neither clearly.

    Args:
        image: The date without the buildings, RGB of shape (y, x, band=3).
        changed: Where they are in the other date, of shape (y, x).
    """
    if not changed.any():
        return None
    near = cv2.dilate(changed.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    red, green, blue = (float(value) for value in image[near].mean(axis=0))
    brightness = (red + green + blue) / 3
    greenness = (2 * green - red - blue) / (red + green + blue + 1)
    # Woods are dark or green, bare ground is bright and not: where people spoke of either, these two told them apart.
    score = (105 - brightness) / 25 + (greenness - 0.05) / 0.08
    return GroundCover.TREES if score > 0.4 else GroundCover.BARE if score < -0.4 else None

"""How like what people wrote a caption is: by weighted n-grams as in CIDEr, and by BLEU."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

"""Descriptions against people's captions, by the scorers of pycocoevalcap.

Words are cut as LEVIR-CC's own tokens are: lower case, split at blanks, sentence marks dropped, hyphens kept. That
gives all 40,740 train and val captions of LEVIR-CC as their `tokens`, so no Java tokenizer is needed. The original's
notebooks drop the full stop likewise, and then put one word for all that fewer than five captions of the training part
hold; here words stay words.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from model.evaluation.measures import Baseline, Combine, Floats, Measure, mean

_SENTENCE_MARKS = str.maketrans(dict.fromkeys('.,;:!?"()|', " "))
# ^ METEOR's protocol separates sentences by bars.

N_GRAMS = 4
"""Longest n-grams that BLEU looks at."""
_TINY, _SMALL = 1e-15, 1e-9
# ^ what pycocoevalcap's BLEU adds above and below, so that nothing over nothing is 0


def tokenize_caption(text: str) -> str:
    """Give the tokens of a caption, separated by single blanks; empty where there are none."""
    return " ".join(text.lower().translate(_SENTENCE_MARKS).split())


@dataclass(frozen=True, kw_only=True)
class CaptionedText:
    """A description with what people wrote of the same."""

    scene: str
    text: str
    """The model's words."""
    references: tuple[str, ...]
    """People's words; at least one of them has tokens."""


class Meteor:
    """METEOR 1.5, a Java program that is started once and asked many times; a context ends it."""

    def __init__(self) -> None:
        from pycocoevalcap.meteor.meteor import Meteor as Scorer

        self._scorer = Scorer()
        self.has_failed = False
        """Whether the program gave no number once, as when its machine has too little memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The scorer itself leaves two of its pipes open.
        process = self._scorer.meteor_p
        process.kill()
        process.communicate()

    def score(self, texts: Sequence[CaptionedText]) -> float:
        """Give the METEOR of all texts together; NaN where the program has failed."""
        try:
            return float(self._scorer.compute_score(*_to_scorer_form(texts))[0])
        except (ValueError, OSError):
            # ^ no number came, or nothing takes the words any more
            self.has_failed = True
            return float("nan")


def has_java() -> bool:
    """Tell whether there is what METEOR runs on."""
    return shutil.which("java") is not None


def measure_captions(texts: Sequence[CaptionedText], *, prefix: str, meteor: Meteor | None) -> list[Measure]:
    """Score descriptions: BLEU-1 to 4, ROUGE-L, CIDEr-D, and METEOR where it can run.

    CIDEr-D weighs words by how rare they are in the references of these texts, so it can only be compared between
    models on the same texts; its raw values are given, a tenth of the 0 to 10 that it may reach being 1.0. The
    baseline is the caption that people wrote most often of these texts.
    """
    constant = _find_most_frequent(texts)
    same = [CaptionedText(scene=t.scene, text=constant, references=t.references) for t in texts]
    baselines = {name: _sum_up(parts, combine) for name, parts, combine in _score(same, meteor=meteor)}
    return [
        Measure(
            name=f"{prefix}.{name}",
            parts=parts,
            scenes=tuple(t.scene for t in texts[: len(parts)]),
            # ^ METEOR has no rows where it cannot run.
            combine=combine,
            baseline=Baseline(value=baselines[name], rule=f'"{constant}", everywhere') if texts else None,
            is_interval_known=name != "meteor",
        )
        for name, parts, combine in _score(texts, meteor=meteor)
    ]


def _score(texts: Sequence[CaptionedText], *, meteor: Meteor | None) -> list[tuple[str, Floats, Combine]]:
    bleu_parts = _count_n_grams(texts)
    nothing = np.empty((0, 2))
    scored: list[tuple[str, Floats, Combine]] = [
        (f"bleu{n}", bleu_parts, partial(combine_bleu, n=n)) for n in range(1, N_GRAMS + 1)
    ]
    # METEOR is no mean over texts, and the program keeps its sums to itself: one value stands for all of them.
    of_all = np.tile([meteor.score(texts), 1.0], (len(texts), 1)) if meteor is not None and texts else nothing
    rouge, cider = _score_each(texts) if texts else (nothing, nothing)
    return [
        *scored,
        ("meteor", of_all, mean(0, 1)),
        ("rouge_l", rouge, mean(0, 1)),
        ("cider", cider, mean(0, 1)),
    ]


def _count_n_grams(texts: Sequence[CaptionedText]) -> Floats:
    """Give what BLEU sums up per text: lengths of reference and text, n-grams of the text, those found, by n."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    rows = []
    references, said = _to_scorer_form(texts)
    for key, (text,) in said.items():
        scorer = BleuScorer(n=N_GRAMS)
        scorer += (text, references[key])
        (counted,) = scorer.ctest
        reference_length = scorer._single_reflen(counted["reflen"], "closest", counted["testlen"])
        rows.append([reference_length, counted["testlen"], *counted["guess"], *counted["correct"]])
    return np.array(rows, float).reshape(-1, 2 + 2 * N_GRAMS)


def combine_bleu(sums: Floats, *, n: int) -> Floats:
    """Give the corpus BLEU-n of sums of shape (..., 2 + 2 * N_GRAMS) as pycocoevalcap does.

    Geometric mean of the precisions of 1- to n-grams, times exp(1 - r / c) where the texts, c words, are shorter than
    their closest references, r words (Papineni et al. 2002).
    """
    reference_length, length = sums[..., 0], sums[..., 1]
    guessed, correct = sums[..., 2 : 2 + n], sums[..., 2 + N_GRAMS : 2 + N_GRAMS + n]
    precision = np.prod((correct + _TINY) / (guessed + _SMALL), axis=-1) ** (1 / n)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return np.where(reference_length > 0, precision * brevity, np.nan)


def _score_each(texts: Sequence[CaptionedText]) -> tuple[Floats, Floats]:
    """Give ROUGE-L and CIDEr-D of each text, both of shape (text, 2): the score, and one to count."""
    from pycocoevalcap.rouge.rouge import Rouge

    rouge = np.asarray(Rouge().compute_score(*_to_scorer_form(texts))[1], float)
    ones = np.ones(len(texts))
    return np.stack([rouge, ones], axis=1), np.stack([_score_cider(texts), ones], axis=1)


def _score_cider(texts: Sequence[CaptionedText]) -> Floats:
    from pycocoevalcap.cider.cider import Cider

    return np.asarray(Cider().compute_score(*_to_scorer_form(texts))[1], float)


def score_cider(texts: Sequence[CaptionedText]) -> float:
    """Give the CIDEr-D of all texts together; 0 of none."""
    return float(_score_cider(texts).mean()) if texts else 0.0


def _to_scorer_form(texts: Sequence[CaptionedText]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    references = {
        index: [tokens for reference in text.references if (tokens := tokenize_caption(reference))]
        for index, text in enumerate(texts)
    }
    return references, {index: [tokenize_caption(text.text)] for index, text in enumerate(texts)}


def _find_most_frequent(texts: Sequence[CaptionedText]) -> str:
    counted = Counter(tokens for text in texts for each in text.references if (tokens := tokenize_caption(each)))
    # Of equally frequent ones the first in the alphabet, so that the order of the tiles is of no matter.
    return min(counted, key=lambda tokens: (-counted[tokens], tokens)) if counted else ""


def _sum_up(parts: Floats, combine: Combine) -> float | None:
    value = float(combine(parts.sum(axis=0))) if len(parts) else np.nan
    return value if np.isfinite(value) else None

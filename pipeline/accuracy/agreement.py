"""Several people on one tile: how far they agree, and whose word counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from pipeline.reviews.review import Review
from pipeline.tables.schemas import CHANGE_KINDS


class Settlement(StrEnum):
    """How it was decided what a tile is."""

    ALONE = "one_person"
    AGREED = "agreed"
    MAJORITY = "majority"
    REFEREE = "referee"
    OPEN = "open"
    """Nobody has decided yet."""
    UNSURE = "unsure"
    """Nobody was sure: the tile is left out."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a tile is by what people have seen; None where nobody told."""

    settlement: Settlement
    """How that was decided."""
    is_changed: bool | None = None
    """Whether it changed."""
    counts: Mapping[str, float | None]
    """How many things of each kind changed."""
    areas_m2: Mapping[str, float | None]
    """How much ground of each kind changed."""

    def has(self, kind: str) -> bool | None:
        """Tell whether anything of a kind changed."""
        told = [value for value in (self.counts[kind], self.areas_m2[kind]) if value is not None]
        return any(told) if told else None


def settle_tile(reviews: Sequence[Review]) -> Truth:
    """Decide what a tile is: as a referee says, else as all agree or most do, else nobody knows.

    Args:
        reviews: The latest of each person, at least one.
    """
    sure = [review for review in reviews if review.is_changed is not None]
    referees = [review for review in sure if review.settles]
    answers = {review.is_changed for review in sure}
    n_yes = sum(review.is_changed is True for review in sure)
    if not sure:
        return _tell([], settlement=Settlement.UNSURE)
    if len(answers) == 1:
        return _tell(sure, settlement=Settlement.AGREED if len(sure) > 1 else Settlement.ALONE)
    if len({review.is_changed for review in referees}) == 1:
        heeded = [review for review in sure if review.is_changed == referees[0].is_changed]
        return _tell([*referees, *(each for each in heeded if not each.settles)], settlement=Settlement.REFEREE)
    if 2 * n_yes == len(sure):
        return _tell([], settlement=Settlement.OPEN)
    winner = 2 * n_yes > len(sure)
    return _tell([each for each in sure if each.is_changed is winner], settlement=Settlement.MAJORITY)


def _tell(heeded: Sequence[Review], *, settlement: Settlement) -> Truth:
    is_changed = heeded[0].is_changed if heeded else None
    amounts = [_fill_in(review) for review in heeded]
    counts = {kind: _take_median([each[0][kind] for each in amounts]) for kind in CHANGE_KINDS}
    areas_m2 = {kind: _take_median([each[1][kind] for each in amounts]) for kind in CHANGE_KINDS}
    return Truth(settlement=settlement, is_changed=is_changed, counts=counts, areas_m2=areas_m2)


def _fill_in(review: Review) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Give counts and areas per kind: nothing changed means none, who tells of one kind means none of others."""
    named = {kind for told in (review.counts, review.areas_m2) for kind in told}
    is_silent = review.is_changed is not False and not named
    counts: dict[str, float | None] = {}
    areas_m2: dict[str, float | None] = {}
    for kind in CHANGE_KINDS:
        is_none = not is_silent and kind not in named
        counts[kind] = review.counts.get(kind, 0.0 if is_none or review.areas_m2.get(kind) == 0 else None)
        areas_m2[kind] = review.areas_m2.get(kind, 0.0 if is_none or review.counts.get(kind) == 0 else None)
    return counts, areas_m2


def _take_median(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return float(np.median(told)) if told else None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two people agree on whether tiles changed."""

    n_both: int
    """Tiles on which both were sure."""
    n_agreed: int
    """Those on which they said the same."""
    kappa: float | None
    """Cohen's kappa: agreement beyond chance; None where chance alone would have them agree."""


def compare_people(by_tile: Sequence[Sequence[Review]]) -> list[Agreement]:
    """Compare every two people who have looked at the same tiles, those with most tiles in common first.

    A referee, who may know what the others have said, is compared with nobody.

    Args:
        by_tile: The latest reviews of each tile.
    """
    said: dict[str, dict[int, bool]] = {}
    for tile, reviews in enumerate(by_tile):
        for review in reviews:
            if review.is_changed is not None and not review.settles:
                said.setdefault(review.person, {})[tile] = review.is_changed
    compared = []
    for one, other in combinations(sorted(said), 2):
        shared = sorted(said[one].keys() & said[other].keys())
        if shared:
            compared.append(measure_agreement([(said[one][tile], said[other][tile]) for tile in shared]))
    return sorted(compared, key=lambda each: -each.n_both)


def measure_agreement(answers: Sequence[tuple[bool, bool]]) -> Agreement:
    """Measure how far two people agree (Cohen 1960, doi 10.1177/001316446002000104).

    Args:
        answers: What the one and the other said, of each thing.
    """
    n = len(answers)
    n_agreed = sum(one == other for one, other in answers)
    yes = [sum(answer[person] for answer in answers) / n for person in (0, 1)]
    by_chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    kappa = None if by_chance == 1 else (n_agreed / n - by_chance) / (1 - by_chance)
    return Agreement(n_both=n, n_agreed=n_agreed, kappa=kappa)

"""From a sample and what people said of its tiles to the figures of ``accuracy.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from pipeline.accuracy.agreement import Settlement, Truth, compare_people, settle_tile
from pipeline.accuracy.figures import ReportFacts, ReviewedTiles
from pipeline.accuracy.sample import Sample
from pipeline.reviews.review import Review, Subject
from pipeline.reviews.store import ReviewLog

FORMAT_VERSION = 1
"""Raised when a field of ``accuracy.json`` changes its meaning or goes away."""


def sort_reviews(log: ReviewLog, *, run_id: str, known: Mapping[Subject, Set[str]]) -> tuple[list[Review], list[str]]:
    """Give the reviews that hold for a run, and tell of the others, which are kept.

    Args:
        log: All that its folder holds.
        run_id: The run.
        known: Ids of what its report tells of.
    """
    latest = log.list_latest()
    own = [review for review in latest if review.run_id == run_id]
    found = [review for review in own if review.subject_id in known.get(review.subject, ())]
    notes = [f"{fault}; it is left where it is, and not counted" for fault in log.faults]
    if n_others := len(latest) - len(own):
        notes.append(f"reviews of other runs that were here: {n_others:,}; they are kept, and not counted")
    if n_gone := len(own) - len(found):
        notes.append(f"reviews of what the report does not tell of: {n_gone:,}; they are kept, and not counted")
    return found, notes


def assess_report(sample: Sample, *, facts: ReportFacts, log: ReviewLog) -> dict[str, Any]:
    """Give the content of ``accuracy.json``.

    Args:
        sample: The tiles that were to be looked at, of the run.
        facts: What its report tells.
        log: What people have said.
    """
    tiles = facts.population.tiles
    known = {Subject.TILE: set(tiles.index), Subject.CHANGE: set(facts.changes["change_id"])}
    reviews, notes = sort_reviews(log, run_id=facts.run_id, known=known)
    by_tile = _group_by_tile(reviews, sample=sample)
    truths = {tile: settle_tile(said) for tile, said in by_tile.items()}
    problems = _check_sample(sample, facts=facts) or _check_disputes(truths)
    settled = {tile: truth for tile, truth in truths.items() if truth.is_changed is not None}
    reviewed = ReviewedTiles(sample=sample, facts=facts, truths={tile: settled[tile] for tile in sorted(settled)})
    problems += [] if problems else reviewed.list_gaps()
    result: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run_id": facts.run_id,
        "model_id": facts.model_id,
        "sample": {
            "sample_id": sample.sample_id,
            "seed": sample.seed,
            "n_tiles": len(sample.tiles),
            "n_reviewed": len(truths),
            "n_used": len(settled),
        },
        "population": {"n_tiles": len(tiles), "ground_m2": facts.population.ground_m2},
        "strata": reviewed.describe_strata(),
        "people": _describe_people(list(by_tile.values()), truths=truths),
        "reviews_of_changes": count_verdicts(reviews, subject=Subject.CHANGE),
        "problems": problems,
        "notes": notes,
        "tiles": None,
        "kinds": {},
        "zones": [],
    }
    if not problems:
        result |= {"tiles": reviewed.assess_tiles(), "kinds": reviewed.assess_kinds(), "zones": reviewed.assess_zones()}
        result["notes"] = [*notes, *reviewed.list_warnings()]
    return result


def _group_by_tile(reviews: Sequence[Review], *, sample: Sample) -> dict[str, list[Review]]:
    """Give what was said of each tile of a sample by people who did not know the model's answer."""
    by_tile: dict[str, list[Review]] = {}
    for review in reviews:
        if review.is_blind and review.subject_id in sample.tiles:
            by_tile.setdefault(review.subject_id, []).append(review)
    return by_tile


def _check_sample(sample: Sample, *, facts: ReportFacts) -> list[str]:
    if sample.run_id != facts.run_id:
        return [f"the sample was drawn from run {sample.run_id}, and this is {facts.run_id}: draw one of this run"]
    if missing := sample.tiles.keys() - set(facts.population.tiles.index):
        return [f"{len(missing):,} tiles of the sample have no answer in the report, such as {min(missing)}"]
    return []


def _check_disputes(truths: Mapping[str, Truth]) -> list[str]:
    """Tell of tiles that people disagree about: without them, which are the hard ones, figures would be too good."""
    disputed = sorted(tile for tile, truth in truths.items() if truth.settlement is Settlement.OPEN)
    if not disputed:
        return []
    return [
        f"people disagree about {len(disputed):,} tiles, such as {', '.join(disputed[:5])}: have somebody settle them "
        "(--settles), or one more person look at them"
    ]


def _describe_people(by_tile: Sequence[Sequence[Review]], *, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Tell how many people have looked and how far they agree; who they are stays in the reviews."""
    settled = Counter(truth.settlement for truth in truths.values())
    return {
        "n_people": len({review.person for reviews in by_tile for review in reviews}),
        "n_seen_by_several": sum(len(reviews) > 1 for reviews in by_tile),
        "agreement": [asdict(each) for each in compare_people(by_tile)],
        "settled": {how.value: settled[how] for how in Settlement},
    }


def count_verdicts(reviews: Sequence[Review], *, subject: Subject) -> dict[str, int]:
    """Count changes or events by what was said of them; about one of them two people may disagree.

    Args:
        reviews: The latest of each person.
        subject: What is counted.
    """
    verdicts: dict[str, set[str]] = {}
    for review in reviews:
        if review.subject is subject:
            verdicts.setdefault(review.subject_id, set()).add(review.verdict.value)
    alike = Counter(next(iter(said)) for said in verdicts.values() if len(said) == 1)
    return {
        **{verdict: alike[verdict] for verdict in ("right", "wrong", "unsure")},
        "disputed": sum(len(said) > 1 for said in verdicts.values()),
    }

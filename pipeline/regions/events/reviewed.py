"""What people have said of events: a verdict holds for all pairs that saw one, those to come among them.

An event that people found right is confirmed, whatever the pairs say; one that they rejected is told no longer. They
speak of an event by the name of a sighting, which need not be its first any more: a missing earlier pair may have come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.accuracy.assess import sort_reviews
from pipeline.regions.events.status import EventStatus
from pipeline.regions.events.status import Verdict as PairsVerdict
from pipeline.regions.timeline import Event, PairChanges
from pipeline.report.reviewed import ReviewMarks, ReviewSummary, summarise_reviews
from pipeline.reviews.review import Subject, Verdict
from pipeline.reviews.settle import Settled, count_missed, count_people, settle_reviews
from pipeline.reviews.store import has_reviews, read_reviews
from pipeline.storage.folder import RunFolder

REJECTED = "people have rejected it"
"""Why such an event is not told."""


@dataclass(frozen=True, kw_only=True)
class EventReviews:
    """What people have said of a region's events."""

    settled: Mapping[str, Settled]
    """By the sighting that they speak of."""
    n_missed: int = 0
    """Places that they have drawn as missed."""
    n_people: int = 1
    """People who have looked."""
    notes: tuple[str, ...] = ()
    """What there is to know."""

    def match(self, events: Sequence[Event], *, pairs: Sequence[PairChanges]) -> list[Settled | None]:
        """Give what holds of each event; None where nobody has reviewed it.

        Args:
            events: What `link_changes` made of the changes.
            pairs: The pairs, in the order that they were linked in.
        """
        found = []
        for event in events:
            names = [event.first_sighting]
            names += [pairs[at.pair].name_change(at.change) for at in event.sightings]
            found.append(next((self.settled[name] for name in names if name in self.settled), None))
        return found

    def summarise(self, matched: Sequence[Settled | None], *, n_events: int) -> ReviewSummary:
        """Count what was reviewed, and tell of what no pair tells of any more.

        Args:
            matched: What `match` gave.
            n_events: Events of which the region tells, and those that were rejected.
        """
        held = {str(at): settled for at, settled in enumerate(matched) if settled is not None}
        notes = list(self.notes)
        if (n_gone := len(self.settled) - len(held)) > 0:
            notes.append(f"reviews of events that no pair tells of: {n_gone:,}; they are kept, and not counted")
        marks = ReviewMarks(tiles={}, changes=held, n_missed=self.n_missed, n_people=self.n_people, notes=tuple(notes))
        return summarise_reviews(marks, n_changes=n_events)


def read_event_reviews(folder: RunFolder, *, name: str) -> EventReviews | None:
    """Read what people have said of a region's events; None where its folder has no reviews.

    Args:
        folder: Folder of the region.
        name: Its name, which its reviews speak of.
    """
    if not has_reviews(folder):
        return None
    log = read_reviews(folder)
    known = {Subject.EVENT: {review.subject_id for review in log.reviews}}
    reviews, notes = sort_reviews(log, run_id=name, known=known)
    return EventReviews(
        settled=settle_reviews(reviews, subject=Subject.EVENT),
        n_missed=count_missed(reviews),
        n_people=count_people(reviews),
        notes=tuple(notes),
    )


def is_rejected(settled: Settled | None) -> bool:
    """Tell whether people have rejected an event."""
    return settled is not None and settled.verdict is Verdict.WRONG


def confirm(verdict: PairsVerdict, settled: Settled | None) -> PairsVerdict:
    """Give the verdict of the pairs, confirmed where people found the event right."""
    if settled is None or settled.verdict is not Verdict.RIGHT:
        return verdict
    return replace(verdict, status=EventStatus.CONFIRMED)

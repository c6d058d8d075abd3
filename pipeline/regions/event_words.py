"""What people have said of a region's events, pair by pair: a verdict holds in each pair that saw the event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import shapely

from pipeline.accuracy.assess import sort_reviews
from pipeline.regions.assess import read_region_name
from pipeline.regions.pair_records import PairState
from pipeline.regions.review_items import open_region_book, read_sightings
from pipeline.reviews.review import Review, Subject
from pipeline.reviews.settle import Settled, settle_reviews
from pipeline.reviews.store import has_reviews, read_reviews
from pipeline.runs.reviewed_tiles import OtherWords
from pipeline.storage.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class EventWords:
    """What was said of events."""

    of_pairs: Mapping[str, OtherWords]
    """For each pair, by its id."""
    notes: Sequence[str] = ()
    """What there is to know about these reviews."""


def read_event_words(folder: RunFolder, *, states: Sequence[PairState]) -> EventWords:
    """Read what people have said of a region's events.

    Args:
        folder: Folder of the region.
        states: Pairs whose runs are there.

    Raises:
        InputError: the region's record or report cannot be read.
    """
    silent = EventWords(of_pairs={state.pair_id: OtherWords() for state in states})
    if not states or not has_reviews(folder):
        return silent
    sightings = read_sightings(folder)
    log = read_reviews(folder)
    known = {Subject.EVENT: {name for names in _name_sightings(sightings).values() for name in names}}
    reviews, notes = sort_reviews(log, run_id=read_region_name(folder), known=known)
    settled = settle_reviews(reviews, subject=Subject.EVENT)
    drawn = list(_place_drawn(reviews, folder=folder))
    events = _find_events(sightings, settled=settled)
    return EventWords(
        of_pairs={
            state.pair_id: OtherWords(
                settled=events.get(state.pair_id, {}),
                missed=[shape for pair_id, shape in drawn if pair_id == state.pair_id],
                unclear=[shape for pair_id, shape in drawn if pair_id != state.pair_id],
            )
            for state in states
        },
        notes=notes,
    )


def _name_sightings(sightings: gpd.GeoDataFrame) -> dict[str, list[str]]:
    """Give the names that reviews may call each event by, its first sighting first."""
    names: dict[str, list[str]] = {}
    for row in sightings[["event_id", "first_sighting", "pair_id", "change_id"]].itertuples(index=False):
        names.setdefault(row.event_id, [row.first_sighting]).append(f"{row.pair_id}/{row.change_id}")
    return names


def _find_events(sightings: gpd.GeoDataFrame, *, settled: Mapping[str, Settled]) -> dict[str, dict[str, Settled]]:
    """Give what holds of changes, by pair and ``change_id``."""
    said: dict[str, dict[str, Settled]] = {}
    names = _name_sightings(sightings)
    for row in sightings[["event_id", "pair_id", "change_id"]].itertuples(index=False):
        found = next((settled[name] for name in names[row.event_id] if name in settled), None)
        if found is not None:
            said.setdefault(row.pair_id, {})[row.change_id] = found
    return said


def _place_drawn(reviews: Sequence[Review], *, folder: RunFolder) -> Iterator[tuple[str | None, shapely.Geometry]]:
    """Give what was drawn as missed, and the pair on whose pictures: None where that pair is not shown any more."""
    drawn = [review for review in reviews if review.missed is not None]
    if not drawn:
        return
    items = open_region_book(folder).items
    for review in drawn:
        item = items.get((review.subject, review.subject_id))
        pair_id = review.subject_id.partition("/")[0]
        is_shown = item is not None and item.ground.store.folder.uri.rstrip("/").endswith(f"/{pair_id}")
        yield (pair_id if is_shown else None), review.missed

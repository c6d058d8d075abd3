"""Accuracy of a region, pass by pass: each pair's run is assessed, and the region keeps what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model.errors import InputError
from model.sealing import unseal
from pipeline.accuracy.assess import count_verdicts
from pipeline.regions.pair_records import PairState, open_pair_folder, read_report_file, read_states, take_current
from pipeline.regions.record import REGION_NAME
from pipeline.regions.tables import CHANGES_FOLDER
from pipeline.reviews.review import Subject
from pipeline.reviews.store import read_reviews
from pipeline.runs.assess import AssessedRun, RegionEvents
from pipeline.runs.read import read_table
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import ACCURACY_NAME, is_pair_table
from pipeline.storage.opening import find_run_folder

FORMAT_VERSION = 1
"""Raised when a field of a region's ``accuracy.json`` changes its meaning or goes away."""


def find_assessed_run(uri: str, *, pair: str | None = None) -> AssessedRun:
    """Find what is to be assessed: a run, or a region's pair.

    Args:
        uri: Folder of the run or of the region.
        pair: Id of the pair; None: of a region the last with a result whose run is there.

    Raises:
        InputError: there is no such run or pair.
    """
    folder = find_run_folder(uri)
    if not folder.has(REGION_NAME):
        if pair is not None:
            raise InputError(f"--pair with {uri}, no region", expected="a region's folder", remedy="leave --pair out")
        return AssessedRun.open(uri)
    states = [state for state in take_current(read_states(folder)) if state.has_result and state.has_folder]
    chosen = [state for state in states if pair in (None, state.pair_id)]
    if not chosen:
        known = ", ".join(state.pair_id for state in states[-5:])
        raise InputError(
            f"region {uri} has no pair {pair}" if pair else f"region {uri} has no pair with a result",
            expected=f"one of {known}" if known else "a pair with a result",
            remedy="correct --pair, or make a pass with `deltavlm monitor` first",
        )
    events = RegionEvents(folder=folder, name=read_region_name(folder), ids=frozenset(_list_events(folder)))
    return AssessedRun.open(open_pair_folder(folder, chosen[-1].record).uri, events=events)


def read_region_name(folder: RunFolder) -> str:
    """Give the name of a region, which its reviews speak of.

    Raises:
        InputError: its record is damaged.
    """
    try:
        return str(unseal(folder.read(REGION_NAME))["name"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as problem:
        raise InputError(
            f"{folder.join(REGION_NAME)} cannot be read ({problem})",
            expected="the record of a region",
            remedy="make a pass with `deltavlm monitor`: it writes it anew",
        ) from None


def _list_events(folder: RunFolder) -> Iterator[str]:
    for name in filter(is_pair_table, folder.list_names(CHANGES_FOLDER)):
        yield from read_table(folder, name)["first_sighting"]


def gather_accuracy(told: Sequence[PairState], *, folder: RunFolder) -> dict[str, Any] | None:
    """Give the content of a region's ``accuracy.json``: that of each pair by its id; None where none was assessed.

    Args:
        told: The pairs with a result.
        folder: Folder of the region, which keeps what pairs have told whose runs are let go of.

    Raises:
        InputError: a pair's file is not what its run has written.
    """
    former = _read_former(folder)
    pairs = {}
    for state in told:
        if not state.has_folder:
            if state.pair_id in former:
                pairs[state.pair_id] = former[state.pair_id]
        elif ACCURACY_NAME in state.files:
            try:
                pairs[state.pair_id] = unseal(read_report_file(state, ACCURACY_NAME, folder=folder))
            except FileNotFoundError:
                continue
    reviews = [each for each in read_reviews(folder).list_latest() if each.subject is Subject.EVENT]
    if not pairs and not reviews:
        return None
    events = count_verdicts(reviews, subject=Subject.EVENT)
    return {"format_version": FORMAT_VERSION, "pairs": pairs, "reviews_of_events": events}


def _read_former(folder: RunFolder) -> Mapping[str, Any]:
    try:
        values = unseal(folder.read(ACCURACY_NAME))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
    pairs = values.get("pairs")
    return pairs if isinstance(pairs, dict) else {}

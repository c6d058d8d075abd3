"""Answers to questions about a pair, put into words from what is known to have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, TargetText, phrase_classify, phrase_count, phrase_locate

Phrase = Callable[[ChangeFacts, GroundCover | None], TargetText | str | None]


def list_names(names: Sequence[str]) -> str:
    """Write names as a list: ``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count_noun(count: int, noun: str) -> str:
    """Write a number and its noun: ``1 road``, ``2 roads``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def phrase_objects(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Name the kinds of object that changed; None where buildings did and roads are not known."""
    if facts.road is None and facts.is_changed:
        return None
    kinds = [name for name, kind in (("buildings", facts.building), ("roads", facts.road)) if kind and kind.count]
    return f"{list_names(kinds).capitalize()} have changed." if kinds else "No objects have changed."


def phrase_number(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say how many buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "There are no new buildings."
    return f"There {'is' if facts.building.count == 1 else 'are'} {count_noun(facts.building.count, 'new building')}."


def phrase_place(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say where buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "There are no new buildings."
    cells = facts.building.cells
    if not cells:
        return None
    return f"The new buildings are located at the {list_names(cells)} of the scene."


def phrase_removed(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether buildings are gone."""
    if facts.building.count == 0 or not facts.is_removal:
        return "No, no buildings have been removed."
    return f"Yes, {count_noun(facts.building.count, 'building')} {_has(facts.building.count)} been removed."


def phrase_built(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "No, no buildings have been built."
    return f"Yes, {count_noun(facts.building.count, 'building')} {_has(facts.building.count)} been built."


def phrase_ground(facts: ChangeFacts, cover: GroundCover | None) -> str | None:
    """Say what buildings took the place of."""
    if not facts.is_changed:
        return "The trees and the bare land are as they were."
    if facts.is_removal or cover is None or facts.building.count == 0:
        return None
    if cover is GroundCover.TREES:
        return "Trees were removed to make room for buildings."
    return "Buildings were constructed on the bare land."


def phrase_roads(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether roads were built."""
    if facts.road is None:
        return None
    if facts.road.count == 0 or facts.is_removal:
        return "No, there are no new roads."
    return f"Yes, there {'is' if facts.road.count == 1 else 'are'} {count_noun(facts.road.count, 'new road')}."


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def phrase_again(facts: ChangeFacts, _cover: GroundCover | None) -> str:
    """Say once more whether anything changed."""
    return "Something has changed." if facts.is_changed else "Nothing has changed."


PHRASES: Mapping[str, Phrase] = {
    "classify": lambda facts, _: phrase_classify(facts),
    "count": lambda facts, _: phrase_count(facts),
    "locate": lambda facts, _: phrase_locate(facts),
    "objects": phrase_objects,
    "number": phrase_number,
    "place": phrase_place,
    "removed": phrase_removed,
    "built": phrase_built,
    "ground": phrase_ground,
    "roads": phrase_roads,
    "again": phrase_again,
}
"""How what is meant is answered from the facts; None where the truth does not tell. A description is given."""


def answer_intent(
    intent: str, facts: ChangeFacts, *, cover: GroundCover | None, description: str | None
) -> TargetText | None:
    """Answer what is meant by a question.

    Args:
        intent: ``describe``, or one of `PHRASES`.
        facts: What changed.
        cover: What the ground was covered with.
        description: The change in words; None where nobody has described it.

    Returns:
        None where the truth does not tell.
    """
    answer = description if intent == "describe" else PHRASES[intent](facts, cover)
    return TargetText(text=answer) if isinstance(answer, str) else answer


def phrase_cell(facts: ChangeFacts, *, cell: int) -> str | None:
    """Say whether anything changed in one cell; None where roads are not known and no building changed there."""
    kinds = (facts.building, facts.road)
    if any(kind is not None and kind.is_cell_changed[cell] for kind in kinds):
        what = [
            name
            for name, kind in zip(("buildings", "roads"), kinds, strict=True)
            if kind and kind.is_cell_changed[cell]
        ]
        return f"Yes, {list_names(what)} have changed there."
    return "No, nothing has changed there." if facts.road is not None or not facts.is_changed else None


def phrase_details(facts: ChangeFacts, *, description: str) -> TargetText:
    """Answer the dialogue's third question: the description, then how many buildings and where."""
    cells = facts.building.cells
    if not facts.is_changed or not facts.building.count:
        return TargetText(text=description)
    verb = "removed" if facts.is_removal else "built"
    place = f" at the {list_names(cells)} of the scene" if cells else ""
    count = facts.building.count
    return TargetText(text=f"{description} {count_noun(count, 'building')} {_has(count)} been {verb}{place}.")

"""From change masks to instruction data: ChangeChat-105k's rules and answer forms.

Counts are the numbers of external contours without a minimum area; a cell of the 3 x 3 grid counts as changed when more
than 5 % of its pixels changed. Masks hold 128 where a road changed and 255 where a building did.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.interface import CELL_NAMES, PromptKind

CELL_CHANGED_FRACTION = 0.05
NO_CHANGE_COUNT = "There are no changes in roads or buildings between the two images."
UNCHANGED_DESCRIPTIONS = (
    "there is no difference .",
    "the two scenes seem identical .",
    "the scene is the same as before .",
    "no change has occurred .",
    "almost nothing has changed .",
)


@dataclass(frozen=True, kw_only=True)
class KindFacts:
    """What a mask says of one kind of object."""

    count: int
    """Number of external contours."""
    is_cell_changed: tuple[bool, ...]
    """One entry per cell, in the order of `CELL_NAMES`."""

    @property
    def cells(self) -> list[str]:
        """Names of the changed cells."""
        return [name for name, is_changed in zip(CELL_NAMES, self.is_cell_changed, strict=True) if is_changed]


@dataclass(frozen=True, kw_only=True)
class ChangeFacts:
    """What is known to have changed in one pair."""

    building: KindFacts
    road: KindFacts | None
    """None where the truth does not cover roads, as in LEVIR-CD."""
    is_removal: bool = False
    """Whether the objects went rather than came."""

    @property
    def is_changed(self) -> bool:
        """Whether any contour of either kind is there."""
        return self.building.count > 0 or (self.road is not None and self.road.count > 0)


@dataclass(frozen=True, kw_only=True)
class TargetText:
    """An answer to learn, and which of its characters are not known to be true."""

    text: str
    unknown_spans: tuple[tuple[int, int], ...] = ()
    """Half-open character ranges that give no loss."""


def measure_kind(mask: npt.NDArray[np.bool_]) -> KindFacts:
    """Count contours and changed cells of one kind in a bool mask of shape (y, x)."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    height, width = mask.shape
    rows = [height * k // 3 for k in range(4)]
    cols = [width * k // 3 for k in range(4)]
    fractions = [float(mask[rows[i] : rows[i + 1], cols[j] : cols[j + 1]].mean()) for i in range(3) for j in range(3)]
    return KindFacts(count=len(contours), is_cell_changed=tuple(f > CELL_CHANGED_FRACTION for f in fractions))


def measure_mask(mask: npt.NDArray[np.uint8], *, has_road_truth: bool, is_removal: bool = False) -> ChangeFacts:
    """Measure a change mask of shape (y, x) with the values 0, `ROAD_VALUE` and `CHANGED_VALUE`."""
    return ChangeFacts(
        building=measure_kind(mask == CHANGED_VALUE),
        road=measure_kind(mask == ROAD_VALUE) if has_road_truth else None,
        is_removal=is_removal,
    )


def phrase_classify(facts: ChangeFacts) -> TargetText:
    """Answer whether the images have changed."""
    return TargetText(text="Yes" if facts.is_changed else "No")


def phrase_count(facts: ChangeFacts) -> TargetText:
    """Answer how many roads and buildings have changed."""
    if not facts.is_changed:
        return TargetText(text=NO_CHANGE_COUNT)
    n_roads = facts.road.count if facts.road else 0
    roads = f"{n_roads} road{'' if n_roads == 1 else 's'}"
    n_buildings = facts.building.count
    text = f"{roads} has changed, and {n_buildings} building{'' if n_buildings == 1 else 's'} has changed."
    return TargetText(text=text, unknown_spans=() if facts.road else ((0, len(roads)),))


def phrase_locate(facts: ChangeFacts) -> TargetText:
    """Answer in which cells roads and buildings have changed."""
    road_cells = str(facts.road.cells if facts.road else [])
    start = len("roads: ")
    text = f"roads: {road_cells}. buildings: {facts.building.cells}."
    is_known = facts.road is not None or not facts.is_changed
    return TargetText(text=text, unknown_spans=() if is_known else ((start, start + len(road_cells)),))


def phrase_description(facts: ChangeFacts, *, random: np.random.Generator) -> TargetText:
    """Describe the changes as LEVIR-CC's annotators do, from what the mask tells and no more."""
    if not facts.is_changed:
        return TargetText(text=str(random.choice(UNCHANGED_DESCRIPTIONS)))
    houses = _name_houses(facts.building.count, random=random)
    has_road = facts.road is not None and facts.road.count > 0
    road = "" if not has_road or facts.road is None else ("a road" if facts.road.count == 1 else "some roads")
    subject = " and ".join(part for part in (houses, road) if part)
    is_plural = facts.building.count > 1 or bool(houses and road) or road.startswith("some")
    verbs = ("removed", "demolished") if facts.is_removal else ("built", "constructed")
    verb = f"{'are' if is_plural else 'is'} {random.choice(verbs)}"
    if not facts.is_removal and random.random() < 0.3:
        verb = "appear" if is_plural else "appears"
    shown = facts.building if facts.building.count else facts.road
    place = _name_place(shown.is_cell_changed) if shown is not None else ""
    return TargetText(text=" ".join(part for part in (subject, verb, place, ".") if part))


def _name_houses(count: int, *, random: np.random.Generator) -> str:
    noun = random.choice(("house", "building", "villa"), p=(0.6, 0.25, 0.15))
    if count <= 1:
        return f"a {noun}" if count == 1 else ""
    amount = "two" if count == 2 else "several" if count <= 5 else "many" if count <= 14 else "rows of"
    return f"{amount} {noun}s"


def _name_place(is_cell_changed: tuple[bool, ...]) -> str:
    """Name where the changed cells are: a corner, a side, the center, or the whole scene."""
    grid = np.array(is_cell_changed, bool).reshape(3, 3)
    n_cells = int(grid.sum())
    if n_cells == 0:
        return ""
    if n_cells >= 7:
        return "in the whole scene"
    rows, cols = np.flatnonzero(grid.any(axis=1)), np.flatnonzero(grid.any(axis=0))
    vertical = "top" if rows.max() == 0 else "bottom" if rows.min() == 2 else ""
    horizontal = "left" if cols.max() == 0 else "right" if cols.min() == 2 else ""
    if vertical and horizontal:
        return f"in the {vertical} {horizontal} corner"
    if vertical or horizontal:
        return f"at the {vertical or horizontal} of the scene"
    return "in the center of the scene" if grid[1, 1] and n_cells == 1 else "across the scene"


def phrase_answer(kind: PromptKind, facts: ChangeFacts, *, random: np.random.Generator) -> TargetText:
    """Answer a prompt of one of the four kinds that a mask can answer.

    Raises:
        InputError: a mask cannot answer prompts of this kind.
    """
    if kind is PromptKind.CLASSIFY:
        return phrase_classify(facts)
    if kind is PromptKind.COUNT:
        return phrase_count(facts)
    if kind is PromptKind.LOCATE:
        return phrase_locate(facts)
    if kind is PromptKind.DESCRIBE:
        return phrase_description(facts, random=random)
    raise ValueError(
        f"a mask cannot answer a prompt of kind {kind.value!r}; expected describe, classify, count or locate"
    )

"""What a language model is told of a pair instead of seeing it: captions, counts, cells and a box for every change."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from model.changechat.building import MeasuredPair
from model.changechat.masks import ClassValues, read_mask
from model.interface import CELL_NAMES
from model.pairs.facts import KindFacts

MAX_BOXES = 40
"""Boxes of one class that are told, the largest; a pair with more would fill the context for little gain."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in percent of the image's width and height, from its upper left corner."""


@dataclass(frozen=True, kw_only=True)
class ChangedObjects:
    """The changed objects of one class in a pair."""

    label: str
    """``building`` or ``road``."""
    count: int
    """External contours in the mask."""
    cells: tuple[str, ...]
    """Cells of which more than 5 % changed."""
    boxes: tuple[Box, ...]
    """One for each contour, from the top, then from the left."""

    def touches(self, cell: str, *, margin: int) -> bool:
        """Tell whether a cell holds any part of a box that is widened by so many percent to all sides."""
        row, column = divmod(CELL_NAMES.index(cell), 3)
        left, top = 100 * column / 3, 100 * row / 3
        right, bottom = left + 100 / 3, top + 100 / 3
        return any(
            x0 - margin < right and x1 + margin > left and y0 - margin < bottom and y1 + margin > top
            for x0, y0, x1, y1 in self.boxes
        )


@dataclass(frozen=True, kw_only=True)
class PairNotes:
    """What is known of a pair, for somebody who does not see it."""

    captions: tuple[str, ...]
    is_changed: bool | None
    """The change flag; None where nothing tells."""
    objects: tuple[ChangedObjects, ...]
    """One entry for each class that the mask covers; none without a mask."""

    def find_objects(self, label: str) -> ChangedObjects | None:
        """Give the objects of a class; None where the mask does not cover it."""
        return next((objects for objects in self.objects if objects.label == label), None)

    def to_text(self) -> str:
        """Write everything down as a language model reads it."""
        lines = (
            [] if self.is_changed is None else [f"The two dates {'differ' if self.is_changed else 'do not differ'}."]
        )
        if self.captions:
            lines += ["Captions:", *(f"- {caption}" for caption in dict.fromkeys(self.captions))]
        for objects in self.objects:
            cells = f", in the cells {', '.join(objects.cells)}" if objects.cells else ""
            lines.append(f"Changed {objects.label}s: {objects.count}{cells}.")
            if objects.boxes:
                lines.append(f"Boxes of {objects.label}s: {_write_boxes(objects.boxes)}")
        return "\n".join(lines)


def _write_boxes(boxes: tuple[Box, ...]) -> str:
    largest = sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))[:MAX_BOXES]
    text = ", ".join(str(list(box)) for box in boxes if box in largest)
    n_left_out = len(boxes) - len(largest)
    return f"{text} and {n_left_out} smaller ones" if n_left_out > 0 else text


def note_pair(measured: MeasuredPair, *, class_values: ClassValues | None) -> PairNotes:
    """Gather what is known of a pair; its mask is read once more, for the boxes.

    Args:
        measured: The pair, as `build_set` measured it.
        class_values: What the values of masks stand for; None where no pair has a mask.

    Raises:
        InputError: the mask cannot be read any more.
    """
    objects = []
    if measured.facts is not None and measured.pair.mask is not None and class_values is not None:
        mask = read_mask(measured.pair.mask)
        building, road = class_values.building, class_values.road
        is_building = mask != 0 if building is None else np.isin(mask, building)
        objects.append(_note_objects("building", measured.facts.building, is_changed=is_building))
        if measured.facts.road is not None and road is not None:
            objects.append(_note_objects("road", measured.facts.road, is_changed=np.isin(mask, road)))
    return PairNotes(captions=measured.captions, is_changed=measured.is_changed, objects=tuple(objects))


def _note_objects(label: str, facts: KindFacts, *, is_changed: npt.NDArray[np.bool_]) -> ChangedObjects:
    return ChangedObjects(label=label, count=facts.count, cells=tuple(facts.cells), boxes=find_boxes(is_changed))


def find_boxes(is_changed: npt.NDArray[np.bool_]) -> tuple[Box, ...]:
    """Give the box of every external contour of a bool mask of shape (y, x), from the top, then from the left."""
    contours, _ = cv2.findContours(is_changed.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    height, width = is_changed.shape
    boxes = []
    for contour in contours:
        x, y, box_width, box_height = cv2.boundingRect(contour)
        right, bottom = -(-100 * (x + box_width) // width), -(-100 * (y + box_height) // height)
        boxes.append((100 * x // width, 100 * y // height, right, bottom))
    return tuple(sorted(boxes, key=lambda box: (box[1], box[0], box[3], box[2])))

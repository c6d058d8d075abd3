"""How well outlines find single buildings, and whether they tell what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.evaluation.measures import Measure, f1, mean, share
from model.instances import Direction

MIN_IOU = 0.3
"""Least that an outline and a true thing have in common of what either covers, if the one is to be the other."""


@dataclass(frozen=True, kw_only=True)
class ObjectCounts:
    """How many things of one pair were found, each at most once."""

    kind: str
    scene: str
    n_matched: int
    """Outlines that are a true thing of their own."""
    n_found: int
    """Outlines."""
    n_true: int
    """True things: what is connected in the truth, by corners as well."""


@dataclass(frozen=True, kw_only=True)
class ToldDirection:
    """What a model told of one outline that meets the truth, with the dates as they are and swapped."""

    kind: str
    scene: str
    plain: Direction
    swapped: Direction | None
    """None: nobody asked."""
    is_removal: bool
    """Whether what changed went, with the dates as they are."""


def count_objects(
    labels: npt.NDArray[np.int32], truth: npt.NDArray[np.bool_], *, kind: str, scene: str
) -> ObjectCounts:
    """Match outlines with true things, the pairs that have most in common first.

    Args:
        labels: Number of the outline that each pixel belongs to, 0 for none.
        truth: What changed, of the same shape.
        kind: What they are of.
        scene: Where they are.
    """
    things, n_true = ndimage.label(truth, structure=np.ones((3, 3)))
    sizes, areas = np.bincount(labels.ravel()), np.bincount(things.ravel())
    both = np.column_stack([labels.ravel(), things.ravel()])
    pairs, shared = np.unique(both[(both > 0).all(axis=1)], axis=0, return_counts=True)
    overlaps = shared / (sizes[pairs[:, 0]] + areas[pairs[:, 1]] - shared)
    matched: set[int] = set()
    taken: set[int] = set()
    for at in np.argsort(-overlaps, kind="stable").tolist():
        found, true = int(pairs[at, 0]), int(pairs[at, 1])
        if overlaps[at] >= MIN_IOU and found not in matched and true not in taken:
            matched.add(found)
            taken.add(true)
    n_found = int(np.count_nonzero(sizes[1:]))
    return ObjectCounts(kind=kind, scene=scene, n_matched=len(matched), n_found=n_found, n_true=int(n_true))


def measure_objects(counted: Sequence[ObjectCounts], *, kind: str) -> list[Measure]:
    """Score how well single things of a kind are found, over all pairs together."""
    rows = [one for one in counted if one.kind == kind]
    if not any(one.n_true for one in rows):
        return []
    parts = np.array([[one.n_matched, one.n_found, one.n_true] for one in rows], float)
    made = {"f1": f1(0, 1, 2), "precision": share(0, 1), "recall": share(0, 2)}
    return [
        Measure(name=f"object.{kind}.{name}", parts=parts, scenes=tuple(one.scene for one in rows), combine=combine)
        for name, combine in made.items()
    ]


def measure_directions(told: Sequence[ToldDirection], *, kind: str) -> list[Measure]:
    """Score what is told of outlines that are right: of what came, of what went, and of both together."""
    asked = [
        (one.scene, said, Direction.REMOVED if one.is_removal != is_swapped else Direction.BUILT)
        for one in told
        if one.kind == kind
        for said, is_swapped in ((one.plain, False), (one.swapped, True))
        if said is not None
    ]
    measures = []
    for name, wanted in (("accuracy", None), ("built", Direction.BUILT), ("removed", Direction.REMOVED)):
        rows = [(scene, said is true) for scene, said, true in asked if wanted in (None, true)]
        if rows:
            parts = np.array([[is_right, 1] for _, is_right in rows], float)
            scenes = tuple(scene for scene, _ in rows)
            measures.append(Measure(name=f"direction.{kind}.{name}", parts=parts, scenes=scenes, combine=mean(0, 1)))
    return measures

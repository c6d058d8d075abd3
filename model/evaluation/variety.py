"""Whether descriptions say different things of different pairs, and what people see in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.evaluation.captions import CaptionedText, tokenize_caption
from model.evaluation.measures import Measure, mean
from model.pairs.details import find_agreed, find_details


def measure_variety(texts: Sequence[CaptionedText], *, prefix: str) -> list[Measure]:
    """Count different sentences, and of the details that at least two people name the share that is named.

    Details are trees, places, numbers and others of `model.pairs.details`. Many sentences alone are no merit: wrong
    ones count as well.
    """
    scenes = tuple(text.scene for text in texts)
    n_distinct = len({tokenize_caption(text.text) for text in texts})
    agreed = [find_agreed(text.references) for text in texts]
    named = [len(find_details(text.text) & seen) for text, seen in zip(texts, agreed, strict=True)]
    details = np.array([named, [len(found) for found in agreed]], float).T.reshape(-1, 2)
    return [
        Measure(name=f"{prefix}.details_named", parts=details, scenes=scenes, combine=mean(0, 1)),
        Measure(
            name=f"{prefix}.n_distinct",
            parts=np.tile([float(n_distinct), 1.0], (len(texts), 1)),
            scenes=scenes,
            combine=mean(0, 1),
            is_interval_known=False,
        ),
    ]

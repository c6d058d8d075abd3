"""What is asked about a tile and what would be right: the nouns of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.evaluation.mask_scores import PixelCounts
from model.interface import Answer, Prompt, PromptKind
from model.pairs.facts import ChangeFacts
from model.pairs.folders import LabelledPair
from model.parsing import ParsedAnswer, ParsedClassify, ParsedCount, ParsedLocate, parse_answer


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question about one tile, and what a right answer to it is."""

    id: str
    """Unique within an evaluation."""
    prompt: Prompt
    """What the model reads, with the turns before it in a dialogue."""
    truth: ParsedAnswer | None = None
    """What a right answer to a `classify`, `count` or `locate` prompt means; None for answers in words."""
    references: tuple[str, ...] = ()
    """Right answers in words."""
    is_changed: bool | None = None
    """Whether the tile changed at all; None where nothing tells."""
    is_in_dialogue: bool = False
    """Whether it is a turn of a dialogue, which is scored apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationTile:
    """A pair of pixels with all that is asked about it."""

    name: str
    """Unique within an evaluation."""
    scene: str
    """What it was cut from; tiles of one scene are not independent of each other."""
    pixels: npt.NDArray[np.uint8]
    """RGB of shape (date=2, band=3, y, x); before first."""
    cases: tuple[Case, ...]
    flag: bool | None = None
    """Whether people say that something changed."""
    labelled: LabelledPair | None = None
    """The same with its mask, where it has one."""
    building_count: int | None = None
    """Changed buildings; None where nothing tells."""
    pair: str | None = None
    """Pair of images that it is a part of; None: it is a whole one."""
    top: int = 0
    """Its first row of pixels there."""
    left: int = 0
    """Its first column."""


@dataclass(frozen=True, kw_only=True)
class AnsweredCase:
    """A question, what would be right, and what the model said."""

    tile: str
    scene: str
    case: Case
    answer: Answer

    @property
    def meaning(self) -> ParsedAnswer | None:
        """What the answer means; None where that is in doubt."""
        return parse_answer(self.case.prompt.kind, self.answer.text)

    @property
    def says_changed(self) -> bool:
        """Whether a `classify` answer is a yes; what cannot be parsed is none."""
        meaning = self.meaning
        return isinstance(meaning, ParsedClassify) and meaning.is_changed


@dataclass(frozen=True, kw_only=True)
class SwapAnswers:
    """Descriptions of one tile with its dates as they are and swapped."""

    plain: Answer
    swapped: Answer


@dataclass(frozen=True, kw_only=True)
class AnsweredTile:
    """What came back for one tile."""

    name: str
    scene: str
    flag: bool | None
    facts: ChangeFacts | None
    """What the mask says, where there is one."""
    answered: tuple[AnsweredCase, ...]
    pixel_counts: Mapping[str, PixelCounts | None] = field(default_factory=dict)
    """How the masks of each label meet the truth; None where the truth tells nothing of the label."""
    swap: SwapAnswers | None = None
    """Descriptions for the swap test, where it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that could not be evaluated."""

    name: str
    reason: str


def make_labelled_tile(
    pair: LabelledPair,
    *,
    prompts: Sequence[Prompt],
    scene: str | None = None,
    flag: bool | None = None,
    is_flag_truth: bool = True,
    has_mask: bool = True,
) -> EvaluationTile:
    """Make the cases of a pair with a mask, captions or both.

    Args:
        pair: Pixels, mask and captions.
        prompts: What is asked; those that nothing is known about are left out.
        scene: What the pair was cut from; its own name where left out.
        flag: Whether people say that something changed.
        is_flag_truth: Whether the flag, where there is one, decides what is right for a `classify` prompt, as in
            ChangeChat-105k; else the mask does.
        has_mask: Whether the mask of the pair tells anything.
    """
    facts = pair.facts if has_mask else None
    by_mask = facts.is_changed if facts is not None else None
    is_changed = flag if flag is not None and (is_flag_truth or by_mask is None) else by_mask
    cases = []
    for prompt in prompts:
        is_described = prompt.kind is PromptKind.DESCRIBE and bool(pair.captions)
        truth = _find_truth(prompt.kind, facts=facts, is_changed=is_changed)
        if is_described or truth is not None:
            cases.append(
                Case(
                    id=f"{pair.name}.{prompt.name}",
                    prompt=prompt,
                    truth=truth,
                    references=pair.captions if is_described else (),
                    # Captions are of what people saw.
                    is_changed=flag if is_described and flag is not None else is_changed,
                )
            )
    return EvaluationTile(
        name=pair.name,
        scene=pair.name if scene is None else scene,
        pixels=np.ascontiguousarray(np.stack([pair.before, pair.after]).transpose(0, 3, 1, 2)),
        cases=tuple(cases),
        flag=flag,
        labelled=pair if has_mask else None,
        building_count=facts.building.count if facts is not None else None,
    )


def _find_truth(kind: PromptKind, *, facts: ChangeFacts | None, is_changed: bool | None) -> ParsedAnswer | None:
    if kind is PromptKind.CLASSIFY:
        return None if is_changed is None else ParsedClassify(is_changed=is_changed)
    if facts is None:
        return None
    road = facts.road
    if kind is PromptKind.COUNT:
        return ParsedCount(building_count=facts.building.count, road_count=None if road is None else road.count)
    if kind is PromptKind.LOCATE:
        return ParsedLocate(
            building_cells=tuple(facts.building.cells), road_cells=None if road is None else tuple(road.cells)
        )
    return None

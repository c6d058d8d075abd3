"""Answers to ChangeChat-105k's fixed questions, from what a mask and captions tell of a pair.

Where a mask does not cover roads, the answers about a changed pair speak of buildings alone: what was not looked at is
not reported as unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from model.changechat.captions import write_as_answer
from model.changechat.schema import Turn
from model.interface import PromptKind
from model.pairs.facts import NO_CHANGE_COUNT, ChangeFacts, phrase_count, phrase_description, phrase_locate
from model.prompts import load_prompt_book


def find_question(kind: PromptKind) -> str:
    """Give the words in which ChangeChat-105k asks a question of one of the four kinds that stand alone."""
    return next(prompt.text for prompt in load_prompt_book().prompts if prompt.kind is kind)


def answer_classify(*, is_changed: bool) -> str:
    """Answer whether the images have changed."""
    return "Yes" if is_changed else "No"


def answer_count(facts: ChangeFacts, *, is_changed: bool) -> str:
    """Answer how many roads and buildings have changed."""
    if facts.road is not None:
        return phrase_count(facts).text
    if not is_changed and not facts.is_changed:
        return NO_CHANGE_COUNT
    return f"{_write_amount(facts.building.count, 'building', zero='0')} has changed."


def answer_locate(facts: ChangeFacts, *, is_changed: bool) -> str:
    """Answer in which cells roads and buildings have changed."""
    if facts.road is not None or not (is_changed or facts.is_changed):
        return phrase_locate(facts).text
    return f"buildings: {facts.building.cells}."


def answer_count_separately(facts: ChangeFacts, *, is_changed: bool) -> str:
    """Answer the second question of the dialogue, where ChangeChat-105k writes no number for zero."""
    if facts.road is None and (is_changed or facts.is_changed):
        return f"{_write_amount(facts.building.count, 'building', zero='No')} has changed."
    roads = _write_amount(facts.road.count if facts.road else 0, "road", zero="No")
    return f"{roads} has changed, and {_write_amount(facts.building.count, 'building', zero='no')} has changed."


def make_dialogue(facts: ChangeFacts, *, is_changed: bool, captions: Sequence[str]) -> tuple[Turn, ...]:
    """Make the three turns of the dialogue; the last falls away where nobody described the pair.

    Args:
        facts: What the mask says.
        is_changed: The change flag.
        captions: Descriptions of the pair; the longest, the first of equals, is the one in detail.
    """
    answers = [answer_classify(is_changed=is_changed), answer_count_separately(facts, is_changed=is_changed)]
    if captions:
        answers.append(write_as_answer(max(captions, key=len)))
    questions = [prompt.text for prompt in load_prompt_book().dialogue]
    return tuple(Turn(question=q, answer=a) for q, a in zip(questions, answers, strict=False))


def describe_by_mask(facts: ChangeFacts, *, is_changed: bool, pair_id: str) -> tuple[str, ...]:
    """Describe a pair that nobody described, as far as its mask tells; equal pairs get equal words.

    Returns:
        One caption; none where the change flag speaks against the mask, so that the mask does not tell what changed.
    """
    if is_changed != facts.is_changed:
        return ()
    seed = int.from_bytes(hashlib.sha256(pair_id.encode()).digest()[:8], "big")
    return (phrase_description(facts, random=np.random.default_rng(seed)).text,)


def _write_amount(count: int, noun: str, *, zero: str) -> str:
    return f"{count or zero} {noun}{'' if count == 1 else 's'}"

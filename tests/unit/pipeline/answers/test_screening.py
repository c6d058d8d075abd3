"""With screening a tile that is called unchanged for sure is asked no more, and all others as without it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.interface import (
    NOT_ASKED,
    Answer,
    ChangeMasks,
    ChooseAsked,
    ChooseMasked,
    MaskedAnswers,
    ModelIdentity,
    Prompt,
    PromptKind,
)
from pipeline.answers.screening import find_screen, is_asked_on
from pipeline.answers.sitting import Sitting
from pipeline.config.model import ModelConfig

CHANGED = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
LOCATE = Prompt(name="location", kind=PromptKind.LOCATE, text="Where?")
PROMPTS = (COUNT, CHANGED, LOCATE)
IDENTITY = ModelIdentity(model_id="m@1", weight_hash="1" * 64, path="", mask_labels=("building",))
CONFIDENCE = 0.9


class Model:
    """Tells a tile by its number, which is its first pixel: odd ones have changed, and it is less sure of high ones."""

    identity = IDENTITY

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.n_looks = 0

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        self.n_looks += 1
        return [[self.answer(int(pair[0, 0, 0, 0]), prompt) for pair in pairs] for prompt in prompts]

    def answer(self, number: int, prompt: Prompt) -> Answer:
        self.asked.append((prompt.name, number))
        is_changed = number % 2 == 1
        texts = {
            CHANGED.name: "Yes" if is_changed else "No",
            COUNT.name: f"0 roads have changed, and {number if is_changed else 0} buildings have changed.",
            LOCATE.name: f"roads: []. buildings: {['top-left'] if is_changed else []}.",
        }
        return Answer(text=texts[prompt.name], confidence=1 - number / 20)

    def answer_with_masks(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: ChooseMasked
    ) -> MaskedAnswers:
        answers = self.answer_prompts(pairs, prompts=prompts)
        return self.mask(pairs, answers=answers, choose_masked=choose_masked)

    def mask(self, pairs: Any, *, answers: Any, choose_masked: ChooseMasked) -> MaskedAnswers:
        chosen = np.flatnonzero(choose_masked(range(len(pairs)), answers))
        numbers = pairs[chosen, 0, 0, 0, 0].astype(np.float32)
        masks = ChangeMasks(labels=("building",), probabilities=numbers.reshape(-1, 1, 1, 1) / 10)
        return MaskedAnswers(answers=answers, pair_indexes=chosen, masks=masks)


class OnePassModel(Model):
    """The same, which looks once for both rounds."""

    def answer_screened(
        self,
        pairs: npt.NDArray[np.uint8],
        *,
        prompts: Sequence[Prompt],
        choose_asked: ChooseAsked,
        choose_masked: ChooseMasked | None,
    ) -> MaskedAnswers:
        ((first,),) = [self.answer_prompts(pairs, prompts=prompts[:1])]
        flags = choose_asked(first)
        rest = [
            [
                self.answer(int(pair[0, 0, 0, 0]), p) if asked else NOT_ASKED
                for pair, asked in zip(pairs, flags, strict=True)
            ]
            for p in prompts[1:]
        ]
        choose = choose_masked or (lambda numbers, _: np.zeros(len(numbers), np.bool_))
        return self.mask(pairs, answers=[first, *rest], choose_masked=choose)


def sit(model: Model, *, kinds: tuple[str, ...] = (), n_tiles: int = 6) -> Sitting:
    pairs = np.zeros((n_tiles, 2, 3, 2, 2), np.uint8)
    pairs[:, 0, 0, 0, 0] = np.arange(n_tiles)
    return Sitting(model=model, pairs=pairs, contexts=None, witnesses=PROMPTS, known={}, kinds=kinds)


@pytest.mark.parametrize("make", [Model, OnePassModel])
@pytest.mark.parametrize("kinds", [(), ("building",)])
@pytest.mark.parametrize("is_known", [False, True])
def test_tiles_that_may_have_changed_get_the_answers_and_masks_that_all_would_have(
    make: type[Model], kinds: tuple[str, ...], is_known: bool
) -> None:
    model = make()
    everything, all_masks = sit(Model(), kinds=kinds).ask(PROMPTS, has_outlines=bool(kinds))
    prompts = [p for p in PROMPTS if not (is_known and p == CHANGED)]

    answers, masked = sit(model, kinds=kinds).ask_screened(
        prompts,
        has_outlines=bool(kinds),
        screen=CHANGED,
        first=everything[1] if is_known else None,
        confidence=CONFIDENCE,
    )

    # 0 and 2 are called unchanged for sure, 4 is not.
    for prompt, row in zip(prompts, answers, strict=True):
        full = everything[PROMPTS.index(prompt)]
        spared = () if prompt == CHANGED else (0, 2)
        assert row == [NOT_ASKED if number in spared else full[number] for number in range(6)]
    assert not {(p.name, n) for p in (COUNT, LOCATE) for n in (0, 2)} & set(model.asked)
    assert len(model.asked) == (0 if is_known else 6) + 2 * 4
    assert (masked is None) == (not kinds)
    if masked is not None and all_masks is not None:
        assert np.array_equal(masked[0].probabilities, all_masks[0].probabilities)
        assert np.array_equal(masked[1], all_masks[1])


def test_one_look_serves_both_rounds() -> None:
    model = OnePassModel()

    sit(model, kinds=("building",)).ask_screened(
        PROMPTS, has_outlines=True, screen=CHANGED, first=None, confidence=CONFIDENCE
    )

    assert model.n_looks == 1


@pytest.mark.parametrize("make", [Model, OnePassModel])
def test_where_nothing_changed_nothing_else_is_asked(make: type[Model]) -> None:
    model = make()

    answers, masked = sit(model, kinds=("building",), n_tiles=1).ask_screened(
        PROMPTS, has_outlines=True, screen=CHANGED, first=None, confidence=CONFIDENCE
    )

    assert [row[0].text for row in answers] == [NOT_ASKED.text, "No", NOT_ASKED.text]
    assert masked is not None
    assert (len(masked[0].probabilities), masked[1].any()) == (0, False)
    assert model.asked == [("changed", 0)]


@pytest.mark.parametrize(
    ("text", "confidence", "expected"),
    [
        ("No", 0.9, False),
        ("no.", 1.0, False),
        ("No", 0.89, True),
        ("Yes", 0.99, True),
        ("well", 0.99, True),
        ("No", math.nan, True),
        ("There is no difference.", 0.95, False),
        ("", 1.0, True),
    ],
)
def test_only_a_sure_no_spares_a_tile_further_questions(text: str, confidence: float, expected: bool) -> None:
    assert is_asked_on([Answer(text=text, confidence=confidence)], confidence=0.9).tolist() == [expected]


@pytest.mark.parametrize(
    ("settings", "prompts", "expected"),
    [
        ({}, PROMPTS, None),
        ({"screening": "changed"}, PROMPTS, CHANGED),
        ({"name": "openai:http://h/v1#m"}, PROMPTS, CHANGED),
        ({"name": "openai:http://h/v1#m", "screening": "off"}, PROMPTS, None),
        # YAML takes a plain off for false.
        ({"name": "openai:http://h/v1#m", "screening": False}, PROMPTS, None),
        ({"screening": "changed"}, (COUNT, LOCATE), None),
        ({"screening": "changed"}, (CHANGED,), None),
    ],
)
def test_screening_is_off_but_for_served_models(
    settings: dict[str, Any], prompts: tuple[Prompt, ...], expected: Prompt | None
) -> None:
    assert find_screen(prompts, model=ModelConfig(**settings)) == expected

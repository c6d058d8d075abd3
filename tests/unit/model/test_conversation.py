"""Conversations without a model that costs anything: what is read, what is kept, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.certainty import Certainty, CountFit, CountStep
from model.conversation import (
    Conversation,
    QuestionError,
    describe_meaning,
    describe_reply,
    fit_prompt,
    open_conversation,
    write_prompt,
)
from model.errors import InputError
from model.interface import Answer, ChangeMasks, ModelIdentity, Prompt, PromptKind
from model.parsing import ParsedCount, ParsedText
from model.prompts import load_prompt_book

PAIR = np.zeros((2, 3, 32, 48), np.uint8)
QUESTIONS = {prompt.name: prompt.text for prompt in load_prompt_book().list_all()}


class EchoModel:
    """Says the same each time, and remembers what it read."""

    identity = ModelIdentity(model_id="echo@1", weight_hash="1" * 64, path="")

    def __init__(self, says: str = "two houses") -> None:
        self.says = says
        self.read: list[Prompt] = []

    def answer_prompts(self, pairs: np.ndarray, *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        self.read += prompts
        return [[Answer(text=self.says, confidence=0.5) for _ in pairs] for _ in prompts]


class ShortModel(EchoModel):
    """Reads a few words."""

    max_prompt_tokens = 12

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class OutlineModel(EchoModel):
    """Outlines the left half."""

    mask_labels = ("building",)

    def predict_masks(self, pairs: np.ndarray, *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        probabilities = np.zeros((len(pairs), 1, *pairs.shape[-2:]), np.float32)
        probabilities[..., : pairs.shape[-1] // 2] = 0.9
        return ChangeMasks(labels=self.mask_labels, probabilities=probabilities)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], "What?"),
        ([("Changed?", "yes")], "q: Changed? a: yes  q: What?"),
        ([("Changed?", "yes"), ("Many?", "2")], "q: Changed? a: yes  q: Many? a: 2  q: What?"),
    ],
)
def test_history_is_written_as_in_training(history, expected) -> None:
    assert write_prompt(history, question="What?") == expected


WORDS = st.text(alphabet="abc ", min_size=1, max_size=30)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=6), WORDS, st.integers(0, 60))
def test_the_oldest_turns_go_and_the_question_stays(history, question, max_tokens) -> None:
    def count_tokens(text: str) -> int:
        return len(text)

    if len(question) > max_tokens:
        with pytest.raises(QuestionError, match=f"has {len(question)} tokens; expected at most {max_tokens}"):
            fit_prompt(history, question=question, count_tokens=count_tokens, max_tokens=max_tokens)
        return
    prompt = fit_prompt(history, question=question, count_tokens=count_tokens, max_tokens=max_tokens)

    kept = history[len(history) - prompt.n_history_turns :]
    assert prompt.text == write_prompt(kept, question=question)
    assert prompt.text.endswith(question)
    assert len(prompt.text) <= max_tokens
    if len(kept) < len(history):
        one_more = history[len(history) - len(kept) - 1 :]
        assert len(write_prompt(one_more, question=question)) > max_tokens


def test_a_follow_up_is_read_with_its_history() -> None:
    model = EchoModel()
    conversation = Conversation(model, PAIR)

    first, second = conversation.ask("What was built?"), conversation.ask(" And\n where? ")

    assert [prompt.text for prompt in model.read] == [
        "What was built?",
        "q: What was built? a: two houses  q: And where?",
    ]
    assert (first.kind, second.kind) == (PromptKind.ASK, PromptKind.DIALOGUE)
    assert (first.prompt.n_history_turns, second.prompt.n_history_turns) == (0, 1)
    assert (second.question, second.text, second.confidence) == ("And where?", "two houses", 0.5)
    assert second.meaning == ParsedText(text="two houses")
    assert conversation.replies == (first, second)


def test_what_a_run_asks_is_read_alone_but_remembered() -> None:
    model = EchoModel("1 road has changed, and 3 buildings has changed.")
    conversation = Conversation(model, PAIR)
    conversation.ask("What was built?")

    reply = conversation.ask(QUESTIONS["count"].lower().rstrip("?"))
    conversation.ask("Where?")

    assert model.read[1].text == reply.question == QUESTIONS["count"]
    assert model.read[1].kind is reply.kind is PromptKind.COUNT
    assert reply.meaning == ParsedCount(building_count=3, road_count=1)
    assert f"q: {QUESTIONS['count']} a: {model.says}" in model.read[2].text
    assert model.read[2].text.count("q: ") == 3


def test_the_dialogue_of_changechat_builds_on_itself() -> None:
    model = EchoModel("1 road has changed, and 3 buildings has changed.")
    conversation = Conversation(model, PAIR)

    replies = [conversation.ask(turn.text) for turn in load_prompt_book().dialogue]

    assert [reply.kind.value for reply in replies] == ["classify", "count", "dialogue"]
    assert [reply.prompt.n_history_turns for reply in replies] == [0, 1, 2]
    assert replies[0].meaning is None
    assert replies[1].meaning == ParsedCount(building_count=3, road_count=1)
    assert all(turn.text in model.read[2].text for turn in load_prompt_book().dialogue)


def test_a_model_with_a_short_memory_gets_the_latest_turns() -> None:
    model = ShortModel()
    conversation = Conversation(model, PAIR)

    kept = [conversation.ask(f"one two {n}").prompt.n_history_turns for n in range(4)]

    assert kept == [0, 1, 1, 1]
    assert model.read[3].text == "q: one two 2 a: two houses  q: one two 3"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", None, "empty"),
        (" \n\t", None, "empty"),
        ("why " * 13, None, "13 tokens; expected at most 12"),
        ("why?", "shout", "'shout'; expected describe, classify"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_forgotten(text, kind, words) -> None:
    conversation = Conversation(ShortModel(), PAIR)

    with pytest.raises(QuestionError, match=words):
        conversation.ask(text, kind=kind)

    assert conversation.replies == ()
    assert conversation.model.read == []


def test_the_kind_may_be_given() -> None:
    reply = Conversation(EchoModel("2 buildings"), PAIR).ask("How many houses?", kind="count")

    assert reply.meaning == ParsedCount(building_count=2, road_count=None)


def test_halves_of_characters_do_no_harm() -> None:
    assert Conversation(EchoModel(), PAIR).ask("was \udcff built?").question == "was ? built?"


def test_a_forgotten_history_is_not_read() -> None:
    model = EchoModel()
    conversation = Conversation(model, PAIR)
    conversation.ask("What was built?")
    conversation.forget()

    assert conversation.ask("Where?").kind is PromptKind.ASK
    assert model.read[-1].text == "Where?"


def test_masks_come_from_models_that_have_them() -> None:
    masks = Conversation(OutlineModel(), PAIR).predict_masks()

    assert masks.probabilities.shape == (1, 1, 32, 48)
    with pytest.raises(ValueError, match=r"echo@1 has no mask branch; expected .*; name"):
        Conversation(EchoModel(), PAIR).predict_masks()


@pytest.mark.parametrize(
    "pair",
    [PAIR[:1], PAIR[None], PAIR.astype(np.float32), PAIR.transpose(0, 2, 3, 1)],
    ids=["one", "5d", "float", "last"],
)
def test_other_than_a_pair_is_refused(pair) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 and \(date=2, band=3, y, x\)"):
        Conversation(EchoModel(), pair)


def test_a_conversation_opens_on_arrays_with_a_loaded_model() -> None:
    before, after = np.zeros((40, 50, 3), np.uint8), np.full((40, 50, 3), 9, np.uint8)

    reply = open_conversation(before, after, model=EchoModel()).ask("What?")

    assert reply.text == "two houses"


def test_no_model_of_that_name_is_named() -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    with pytest.raises(InputError, match="deltavlm-huge"):
        open_conversation(image, image, model="deltavlm-huge")


@pytest.mark.parametrize("kind", list(PromptKind))
@pytest.mark.parametrize("says", ["", " \n", "."])
def test_a_reply_without_a_word_is_none_whatever_was_asked(kind: PromptKind, says: str) -> None:
    reply = Conversation(EchoModel(says), PAIR).ask("Count the new buildings.", kind=kind)

    assert (reply.meaning, math.isnan(reply.confidence)) == (None, True)
    assert describe_meaning(reply) == "the model said nothing, which is no answer"
    assert describe_reply(reply)["confidence"] is None


class MeasuredModel(EchoModel):
    """Of which it is known how far its counts are off."""

    identity = ModelIdentity(
        model_id="echo@1",
        weight_hash="1" * 64,
        path="",
        certainty=Certainty(
            counts=(CountFit(kind="building", steps=(CountStep(up_to=None, below=0.5, above=1, n_tiles=25),)),)
        ),
    )


def test_a_count_has_an_interval_in_the_place_of_a_confidence_where_it_was_measured() -> None:
    says = "1 road has changed, and 4 buildings have changed."
    reply, plain = (
        Conversation(model(says), PAIR).ask("How many?", kind=PromptKind.COUNT) for model in (MeasuredModel, EchoModel)
    )

    assert reply.bounds == {"building_count": (2, 8)}
    assert math.isnan(reply.confidence)
    assert "building count: 4 (2 to 8 in 80% of such tiles), road count: 1" in describe_meaning(reply)
    assert describe_reply(reply)["bounds"] == {"building_count": [2, 8]}
    assert (plain.bounds, plain.confidence) == ({}, 0.5)
    nothing = Conversation(MeasuredModel("0 buildings."), PAIR).ask("How many?", kind=PromptKind.COUNT)
    assert (nothing.bounds, nothing.confidence) == ({}, 0.5)

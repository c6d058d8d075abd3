"""The shipped questions: their words, their kinds, and how any other question is told from them."""

from __future__ import annotations

import pytest

from model.interface import PromptKind
from model.prompts import find_known_prompt, infer_kind, load_prompt_book, needs_no_history
from pipeline.config.prompts import load_default_prompts

CHANGECHAT_WORDS = {
    PromptKind.DESCRIBE: "Please briefly describe the changes in these two images.",
    PromptKind.CLASSIFY: "Please judge whether these two images have changed. Please answer yes or no.",
    PromptKind.COUNT: "Please determine how many roads and buildings have changed?",
    PromptKind.LOCATE: "Please indicate the locations where changes have occurred in the buildings and roads, using a "
    "3x3 grid (namely, 'top', 'center', and 'bottom' vertically and 'left', 'center', 'right' horizontally).",
}


def test_a_run_asks_the_four_that_stand_alone() -> None:
    book = load_prompt_book()

    assert {prompt.kind: prompt.text for prompt in book.prompts} == CHANGECHAT_WORDS
    assert tuple(prompt.to_prompt() for prompt in load_default_prompts()) == book.prompts


def test_the_dialogue_is_that_of_changechat() -> None:
    dialogue = load_prompt_book().dialogue

    assert [(turn.kind.value, turn.text) for turn in dialogue] == [
        ("classify", CHANGECHAT_WORDS[PromptKind.CLASSIFY]),
        ("count", "If changes have occurred, count the number of road and building changes separately."),
        ("dialogue", "Based on the above analysis, please describe the changes of these two images in detail."),
    ]


def test_all_six_kinds_are_there_and_no_name_has_two_meanings() -> None:
    book = load_prompt_book()
    texts = {}
    for prompt in (*book.prompts, *book.dialogue, *book.questions):
        assert texts.setdefault(prompt.name, prompt.text) == prompt.text

    assert {prompt.kind for prompt in book.list_all()} == set(PromptKind)
    assert len(book.list_all()) == len(texts)


@pytest.mark.parametrize("prompt", load_prompt_book().list_all(), ids=lambda prompt: prompt.name)
@pytest.mark.parametrize(
    "write", [str, str.lower, str.upper, lambda text: text.replace(".", " ").replace("?", ""), lambda t: f"  {t}\n"]
)
def test_known_words_are_found_whatever_case_and_punctuation(prompt, write) -> None:
    found = find_known_prompt(write(prompt.text))

    assert found == prompt
    if prompt.kind is not PromptKind.ASK:
        assert {infer_kind(write(prompt.text), is_first=is_first) for is_first in (True, False)} == {prompt.kind}


@pytest.mark.parametrize("text", ["What has changed?", "describe", "", "¿Qué ha cambiado?", "变化", "?!"])
def test_other_words_are_open_first_and_dialogue_later(text: str) -> None:
    assert find_known_prompt(text) is None
    assert infer_kind(text, is_first=True) is PromptKind.ASK
    assert infer_kind(text, is_first=False) is PromptKind.DIALOGUE


def test_only_what_a_run_asks_goes_without_history() -> None:
    book = load_prompt_book()

    assert all(needs_no_history(prompt.text) for prompt in book.prompts)
    assert not any(needs_no_history(prompt.text) for prompt in (*book.dialogue[1:], *book.questions))
    assert not needs_no_history("And the roads?")

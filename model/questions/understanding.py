"""What a question means, for models that were taught a few questions and no language.

Such a model gives an answer to any words, and most of them are wrong. So a free question is read here, by rules of
words: it means one of the things that the model was taught to tell, or it is declined. Every word counts: one that
`words.yaml` does not know asks for something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from model.interface import CELL_NAMES

_TURN = re.compile(r"(?:^|  )q: ")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_CENTER = re.compile(r" (?:center|centre|middle)(?= )")
MAX_QUESTION_LETTERS = 400
"""Longer ones are not read: nothing that is understood takes as many."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What is asked for."""

    intent: str
    """One of `model.questions.phrases.PHRASES`, ``describe``, ``details``, ``same`` or ``cell``."""
    cell: int | None = None
    """Which cell, as an index of `CELL_NAMES`, where it is about one."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    intent: str
    needs: frozenset[str]
    lacks: frozenset[str] = frozenset()

    def fits(self, said: frozenset[str]) -> bool:
        return self.needs <= said and not self.lacks & said


def _rule(intent: str, needs: str, lacks: str = "") -> _Rule:
    return _Rule(intent=intent, needs=frozenset(needs.split()), lacks=frozenset(lacks.split()))


# The first that fits is taken. `asks_what` stands for a question that begins with what or which, `is_later` for one
# that may refer to a turn before it.
_RULES = (
    _rule("details", "describe detail"),
    _rule("cell", "one_cell", "number where how"),
    _rule("describe", "describe"),
    _rule("count", "number building road"),
    _rule("count", "number road", "land"),
    _rule("removed", "number gone", "land"),
    _rule("count", "number changed", "building land"),
    _rule("number", "number building", "land replaced same"),
    _rule("number", "number new", "land replaced same"),
    _rule("number", "number is_later", "land replaced same"),
    _rule("locate", "grid", "land replaced same how"),
    _rule("locate", "where road"),
    _rule("locate", "where gone", "land"),
    _rule("locate", "where changed", "building new land"),
    _rule("locate", "where different", "building new land"),
    _rule("place", "where building", "land replaced same how"),
    _rule("place", "where new", "land replaced same how"),
    _rule("place", "where is_later", "land replaced same how"),
    _rule("place", "part building", "land replaced same how gone"),
    _rule("place", "part new", "land replaced same how gone"),
    _rule("locate", "part changed", "land replaced same how"),
    _rule("locate", "part different", "land replaced same how"),
    _rule("place", "part asks_what is_later", "land replaced same how"),
    _rule("ground", "replaced"),
    _rule("ground", "land gone"),
    _rule("ground", "land happened"),
    _rule("ground", "land before"),
    _rule("ground", "land changed asks_what"),
    _rule("ground", "before asks_what new", "building road number where changed different how"),
    _rule("objects", "kind", "land"),
    _rule("objects", "building road", "same how"),
    _rule("objects", "thing changed"),
    _rule("objects", "thing different"),
    _rule("describe", "happened", "building road land new gone"),
    _rule("describe", "how changed", "building road land new gone"),
    _rule("describe", "asks_what different", "building road land"),
    _rule("describe", "asks_what new", "building road land"),
    _rule("objects", "asks_what changed", "building road land same"),
    _rule("removed", "gone", "road land how"),
    _rule("roads", "road", "how same land gone before"),
    _rule("built", "building new", "how same land"),
    _rule("built", "building changed", "how same land"),
    _rule("built", "new", "how same land"),
    _rule("classify", "changed", "how land"),
    _rule("classify", "different", "how land"),
    _rule("same", "same", "how land building road"),
    _rule("ground", "before is_later", "how"),
    _rule("ground", "before asks_what", "how building road"),
    _rule("again", "sure", "how"),
)


@dataclass(frozen=True, kw_only=True)
class _Language:
    reply: str
    words: frozenset[str]
    letters: re.Pattern[str] | None
    lacks: re.Pattern[str] | None


@dataclass(frozen=True, kw_only=True)
class _Words:
    phrases: tuple[tuple[re.Pattern[str], str], ...]
    words: Mapping[str, str]
    sides: Mapping[str, str]
    languages: tuple[_Language, ...]


def take_last_question(prompt: str) -> tuple[str, bool]:
    """Give the question of a prompt that `model.conversation.write_prompt` made, and whether turns stood before it."""
    *earlier, question = _TURN.split(prompt)
    return question.strip(), bool(earlier)


def understand_question(question: str, *, is_later: bool) -> Meaning | None:
    """Tell what a question asks for; None where it is nothing that could be told, or in words that are not known.

    Args:
        question: In words.
        is_later: Whether there were turns before it, so that it may refer to them.
    """
    if len(question) > MAX_QUESTION_LETTERS:
        return None
    known = _load_words()
    text = f" {' '.join(_split_words(question))} "
    cells, text = _take_cells(text, sides=known.sides)
    said = {"one_cell"} if len(cells) == 1 else {"grid"} if cells else set()
    if is_later:
        said.add("is_later")
    if re.match(r" (?:(?:and|or|in|on|at|of|so) )?(?:what|which)\b", text):
        said.add("asks_what")
    for pattern, concept in known.phrases:
        text, n_found = pattern.subn(" ", text)
        if n_found:
            said.add(concept)
    concepts = [known.words.get(word) for word in text.split()]
    if None in concepts:
        return None
    said.update(concept for concept in concepts if concept is not None)
    everything = frozenset(said)
    intent = next((rule.intent for rule in _RULES if rule.fits(everything)), None)
    if intent is None:
        return None
    return Meaning(intent=intent, cell=cells[0] if intent == "cell" else None)


def find_language_reply(question: str) -> str | None:
    """Ask for English, in the language that a question is in; None for English, and for what is not known here."""
    words = set(_split_words(question))
    best, n_best = None, 1
    for language in _load_words().languages:
        if language.letters is not None:
            if language.letters.search(question) and not (language.lacks and language.lacks.search(question)):
                return language.reply
        elif (n_said := len(words & language.words)) > n_best:
            best, n_best = language.reply, n_said
    return best


def _split_words(question: str) -> list[str]:
    straight = question.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _WORD.findall(straight.replace("n't", " not"))


def _take_cells(text: str, *, sides: Mapping[str, str]) -> tuple[list[int], str]:
    """Find the cells that are named, and give the text without them."""
    alternatives = "|".join(sides)
    pattern = re.compile(rf" ({alternatives})[ -]+({alternatives})(?: cell| corner| part)?(?= )")
    cells: list[int] = []

    def take(found: re.Match[str]) -> str:
        one, other = (sides[found.group(index)] for index in (1, 2))
        for name in (f"{one}-{other}", f"{other}-{one}"):
            if name in CELL_NAMES:
                cells.append(CELL_NAMES.index(name))
                return ""
        return found.group()

    text = pattern.sub(take, text)
    if not cells and (alone := _CENTER.search(text)) is not None:
        cells.append(CELL_NAMES.index("center-center"))
        text = text[: alone.start()] + text[alone.end() :]
    return cells, text


@cache
def _load_words() -> _Words:
    tree = yaml.safe_load(resources.files("model.questions").joinpath("words.yaml").read_text(encoding="utf-8"))
    return _Words(
        phrases=tuple(
            (re.compile(rf"(?<= ){pattern}(?= )"), concept)
            for concept, patterns in tree["phrases"].items()
            for pattern in patterns
        ),
        words=_invert(tree["words"]),
        sides=_invert(tree["sides"]),
        languages=tuple(_read_language(entry) for entry in tree["languages"]),
    )


def _invert(lists: Mapping[str, str]) -> dict[str, str]:
    return {word: name for name, words in lists.items() for word in words.split()}


def _read_language(entry: Mapping[str, Any]) -> _Language:
    letters, lacks = (re.compile(entry[key]) if key in entry else None for key in ("letters", "lacks"))
    return _Language(
        reply=entry["reply"], words=frozenset(entry.get("words", "").split()), letters=letters, lacks=lacks
    )


def list_language_replies() -> tuple[str, ...]:
    """List what is told to those who ask in another language."""
    return tuple(language.reply for language in _load_words().languages)

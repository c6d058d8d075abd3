"""Free questions to a model that was taught a few: understood, answered by what it says to those, or declined."""

from __future__ import annotations

from collections.abc import Callable

from model.interface import Answer, Prompt, PromptKind
from model.prompts import load_prompt_book
from model.questions.replies import decline, read_told, reply_to
from model.questions.understanding import take_last_question, understand_question

OPEN_KINDS = frozenset({PromptKind.ASK, PromptKind.DIALOGUE})


class KnownQuestions:
    """Asks one batch of pairs, each known question once at most."""

    def __init__(self, ask: Callable[[Prompt], list[Answer]], *, n_pairs: int) -> None:
        """Begin.

        Args:
            ask: Puts a question that the model was taught to every pair.
            n_pairs: How many pairs there are.
        """
        self._ask = ask
        self._n_pairs = n_pairs
        self._answers: dict[tuple[PromptKind, str], list[Answer]] = {}

    def answer(self, prompt: Prompt) -> list[Answer]:
        """Answer a prompt for every pair; one of an open kind as `understand_question` reads it."""
        if prompt.kind not in OPEN_KINDS:
            key = prompt.kind, prompt.text
            if key not in self._answers:
                self._answers[key] = self._ask(prompt)
            return self._answers[key]
        question, is_later = take_last_question(prompt.text)
        meaning = understand_question(question, is_later=is_later)
        if meaning is None:
            return [decline(question)] * self._n_pairs
        answers = {known.kind: self.answer(known) for known in load_prompt_book().prompts}
        told = [
            read_told({kind: of_kind[index] for kind, of_kind in answers.items()}) for index in range(self._n_pairs)
        ]
        return [reply_to(meaning, of_pair, question=question) for of_pair in told]

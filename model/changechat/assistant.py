"""Asks a language model for open questions about pairs: the requests, a cache of replies, and how many may be sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from model.changechat.open_questions import Rejection
from model.changechat.pair_notes import PairNotes
from model.changechat.reply_cache import ReplyCache
from model.remote.endpoint import ChatRequest, Endpoint
from model.remote.replies import ChatReply, EndpointError

TEMPERATURE = 0.3
"""ChangeChat-105k's."""
MAX_TOKENS_PER_ITEM = 160
"""So many are allowed for one question with its answer in JSON."""
MAX_FAILURES_IN_A_ROW = 8
"""So many requests without a reply between them are no matter of single pairs."""


@dataclass(frozen=True, kw_only=True)
class QuestionBook:
    """What the model is told, from ``configs/open-questions.yaml``."""

    instructions: str
    """What to do; with a place for the number of questions."""
    examples: tuple[tuple[str, str], ...]
    """Notes of a pair, and the reply to them."""
    retry: str
    """What is said to a reply of which something could not be used; with places for reasons and a number."""


@cache
def load_question_book() -> QuestionBook:
    """Read ``configs/open-questions.yaml``."""
    tree = yaml.safe_load(resources.files("configs").joinpath("open-questions.yaml").read_text(encoding="utf-8"))
    return QuestionBook(
        instructions=tree["instructions"],
        examples=tuple((example["facts"], json.dumps(example["items"], indent=0)) for example in tree["examples"]),
        retry=tree["retry"],
    )


def make_request(notes: PairNotes, *, n_questions: int) -> ChatRequest:
    """Ask for questions about a pair: text only, with two worked examples."""
    book = load_question_book()
    turns = [turn for example in book.examples for turn in example] + [notes.to_text()]
    # Not every model takes a message of the system, so the instructions stand before the first pair.
    turns[0] = f"{book.instructions.format(n_questions=n_questions)}\n\n{turns[0]}"
    messages = [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]
    return ChatRequest(messages=tuple(messages), max_tokens=n_questions * MAX_TOKENS_PER_ITEM, temperature=TEMPERATURE)


def make_second_request(
    request: ChatRequest, *, reply: str, rejected: Sequence[Rejection], n_questions: int
) -> ChatRequest:
    """Ask once more for what could not be used of a reply, and say why it could not."""
    lines = dict.fromkeys(f'"{one.question}": {one.reason}.' if one.question else f"{one.reason}." for one in rejected)
    text = load_question_book().retry.format(reasons=" ".join(lines), n_questions=n_questions)
    turns = ({"role": "assistant", "content": reply or "[]"}, {"role": "user", "content": text})
    return ChatRequest(
        messages=(*request.messages, *turns), max_tokens=n_questions * MAX_TOKENS_PER_ITEM, temperature=TEMPERATURE
    )


@dataclass(kw_only=True)
class Assistant:
    """A language model with a cache in front of it and a limit to what it is asked."""

    endpoint: Endpoint
    cache: ReplyCache
    n_questions: int = 4
    """Questions to ask for about each pair."""
    max_requests: int | None = None
    """So many requests are sent by this object at most; None: all."""
    n_requests: int = 0
    """Requests that were sent; what the cache answers is none."""
    n_prompt_tokens: int = 0
    """Tokens that were sent, where the server counts them."""
    n_reply_tokens: int = 0
    """Tokens that came back, where the server counts them."""

    def list_missing(self, requests: Sequence[ChatRequest]) -> list[ChatRequest]:
        """List the requests that are not answered yet; second ones for what is refused come on top."""
        return [request for request in requests if self.cache.find(self._name(request)) is None]

    def ask_all(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatReply | EndpointError]]:
        """Get the replies to many requests, from the cache first.

        Yields:
            Position of the request and its reply, or what kept it from having one; first those that were known.
            Requests beyond the limit do not come up.

        Raises:
            EndpointError: no request is answered any more.
            InputError: the cache cannot be written.
        """
        missing: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            key = self._name(request)
            if (known := self.cache.find(key)) is not None:
                yield position, known
            else:
                missing.setdefault(key, []).append(position)
        n_left = None if self.max_requests is None else max(0, self.max_requests - self.n_requests)
        keys = list(missing)[:n_left]
        n_failures, end = 0, None
        asked = (requests[missing[key][0]] for key in keys)
        for index, outcome in self.endpoint.ask_all(asked, max_failures_in_a_row=MAX_FAILURES_IN_A_ROW):
            self.n_requests += 1
            if isinstance(outcome, ChatReply):
                n_failures = 0
                self.cache.add(keys[index], outcome)
                self.n_prompt_tokens += outcome.n_prompt_tokens or 0
                self.n_reply_tokens += outcome.n_reply_tokens or 0
            else:
                n_failures += 1
                if outcome.is_for_all or n_failures >= MAX_FAILURES_IN_A_ROW:
                    # Nothing new is sent, but what is under way has been paid for and is kept.
                    end = end or outcome
            for position in missing[keys[index]]:
                yield position, outcome
        if end is not None:
            raise end

    def _name(self, request: ChatRequest) -> str:
        content: list[Any] = [
            self.endpoint.address.base_url,
            request.to_parameters(model=self.endpoint.address.model),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

"""Asks a language model for open questions about pairs: the requests, what they cost, and where the money ends."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_ITEM = 50
"""Tokens of one question with its answer in JSON, for estimates."""
MAX_TOKENS_PER_ITEM = 160
"""So many are allowed."""
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


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What tokens cost, in whatever currency the user thinks in."""

    prompt_per_million: float
    reply_per_million: float

    def compute_cost(self, usage: Usage) -> float:
        """Give the cost of so many tokens."""
        return (
            usage.n_prompt_tokens * self.prompt_per_million + usage.n_reply_tokens * self.reply_per_million
        ) / 1_000_000


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How many requests and tokens something takes."""

    n_requests: int = 0
    n_prompt_tokens: int = 0
    n_reply_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            n_requests=self.n_requests + other.n_requests,
            n_prompt_tokens=self.n_prompt_tokens + other.n_prompt_tokens,
            n_reply_tokens=self.n_reply_tokens + other.n_reply_tokens,
        )


def estimate_usage(request: ChatRequest, *, n_questions: int) -> Usage:
    """Estimate the tokens of a request: 4 characters each, and 50 for every question with its answer."""
    n_characters = sum(len(message["content"]) for message in request.messages)
    return Usage(
        n_requests=1,
        n_prompt_tokens=math.ceil(n_characters / CHARACTERS_PER_TOKEN),
        n_reply_tokens=n_questions * TOKENS_PER_ITEM,
    )


@dataclass(kw_only=True)
class Assistant:
    """A language model with a cache in front of it and a limit to what it may cost."""

    endpoint: Endpoint
    cache: ReplyCache
    n_questions: int = 4
    """Questions to ask for about each pair."""
    prices: Prices | None = None
    """None: the cost is not known."""
    max_cost: float = math.inf
    """Nothing new is asked once this much has been spent by this object; what is under way then comes on top."""
    used: Usage = field(default_factory=Usage)
    """What the requests that were sent took, by the server's count or else by estimate; cached replies cost nothing."""

    @property
    def cost(self) -> float | None:
        """What was spent; None where prices are not known."""
        return None if self.prices is None else self.prices.compute_cost(self.used)

    def estimate(self, requests: Sequence[ChatRequest]) -> Usage:
        """Estimate what requests will take that are not answered yet; second ones for what is refused come on top."""
        missing = [request for request in requests if self.cache.find(self._name(request)) is None]
        return sum((estimate_usage(request, n_questions=self.n_questions) for request in missing), start=Usage())

    def ask_all(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatReply | EndpointError]]:
        """Get the replies to many requests, from the cache first.

        Yields:
            Position of the request and its reply, or what kept it from having one; first those that were known.
            Requests that there is no money for do not come up.

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
        keys = list(missing)
        n_failures, end = 0, None
        asked = (requests[positions[0]] for positions in missing.values() if self._has_money())
        for index, outcome in self.endpoint.ask_all(asked, max_failures_in_a_row=MAX_FAILURES_IN_A_ROW):
            request = requests[missing[keys[index]][0]]
            if isinstance(outcome, ChatReply):
                n_failures = 0
                self.cache.add(keys[index], outcome)
                self.used += self._count(request, reply=outcome)
            else:
                n_failures += 1
                if outcome.is_for_all or n_failures >= MAX_FAILURES_IN_A_ROW:
                    # Nothing new is sent, but what is under way has been paid for and is kept.
                    end = end or outcome
            for position in missing[keys[index]]:
                yield position, outcome
        if end is not None:
            raise end

    def _has_money(self) -> bool:
        return (self.cost or 0.0) < self.max_cost

    def _count(self, request: ChatRequest, *, reply: ChatReply) -> Usage:
        estimated = estimate_usage(request, n_questions=0)
        n_reply_tokens = reply.n_reply_tokens
        return Usage(
            n_requests=1,
            n_prompt_tokens=estimated.n_prompt_tokens if reply.n_prompt_tokens is None else reply.n_prompt_tokens,
            n_reply_tokens=-(-len(reply.text) // CHARACTERS_PER_TOKEN) if n_reply_tokens is None else n_reply_tokens,
        )

    def _name(self, request: ChatRequest) -> str:
        content: list[Any] = [
            self.endpoint.address.base_url,
            request.to_parameters(model=self.endpoint.address.model),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

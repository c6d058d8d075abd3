"""A language model behind an OpenAI-compatible server: how it is named, asked, and what its failures mean.

Any server that speaks chat completions will do: OpenAI's own, vLLM, llama.cpp, Ollama, ``transformers serve``. They
differ in what they take, so a parameter that one refuses is left out from there on, and in what they tell, so
probabilities and token counts may be missing from a reply.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, cast
from urllib.parse import urlsplit

from model.errors import InputError
from model.extras import require_extra
from model.interface import ENDPOINT_PREFIX
from model.remote.replies import ChatReply, EndpointError, explain_failure, find_wait, read_reply
from model.web import WebLimits, limit_time, open_client, repeat

KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable with the key, and the only place that it is taken from."""
_NO_KEY = "no-key"
# ^ Servers on one's own machine ask for none, but the client insists on one.
MAX_REPLY_BYTES = 16 << 20
"""Largest reply: of the longest answer with the probabilities of all alternatives it is a hundredth."""
MOST_S_PER_REQUEST = 3600.0
"""How long one request may take in all, whatever the environment says of tries and waits."""
LONGEST_WAIT_S = 60.0
"""Most that is waited between two tries, also where the server asks for more."""
TRIES_OF_NONSENSE = 2
"""How often a request is sent whose reply is no chat completion."""
_OPTIONAL_PARAMETERS = ("response_format", "top_logprobs", "logprobs", "temperature", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class EndpointAddress:
    """Where a model is served, and what it is called there."""

    base_url: str
    """Address that ``/chat/completions`` is put behind, such as ``http://127.0.0.1:8000/v1``."""
    model: str
    """The server's name for the model."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read ``openai:URL#NAME``.

        Raises:
            InputError: it has another form, or its URL holds a password or a query, which would end up in every file
                that names the model.
        """
        url, _, model = name.removeprefix(ENDPOINT_PREFIX).partition("#")
        form = "openai:URL#NAME, such as openai:http://127.0.0.1:8000/v1#my-model"
        try:
            parts = urlsplit(url)
            host, has_secret = parts.hostname, bool(parts.username or parts.password or parts.query)
            has_port = parts.port is None or parts.port > 0
        except ValueError:
            host, has_secret, has_port = None, False, False
        if has_secret:
            raise InputError(
                f"the URL of model openai:...#{model} holds a password or a query",
                expected=form,
                remedy=f"put the key into the environment variable {KEY_VARIABLE}",
            )
        if not name.startswith(ENDPOINT_PREFIX) or not (host and has_port and model.strip()):
            raise InputError(f"no model at {name!r}", expected=form, remedy="correct the name")
        if parts.scheme not in {"http", "https"}:
            raise InputError(f"no model at {name!r}", expected=form, remedy="begin the URL with http:// or https://")
        return cls(base_url=url.rstrip("/"), model=model.strip())

    @property
    def host(self) -> str:
        """Name of the server, with its port where one is given."""
        return urlsplit(self.base_url).netloc


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How a server is treated."""

    n_requests_at_once: int = 4
    """Most requests that one process has under way."""
    timeout_s: float = 120.0
    """How long to wait for a whole reply, per try."""
    max_retries: int = 4
    """How often a request is sent again after a time-out, a lost connection, a 429 or a 5xx, waiting longer each time
    (or as long as the server says)."""

    @property
    def limits(self) -> WebLimits:
        """What is borne of the server, for one request."""
        tries = self.max_retries + 1
        return WebLimits(
            silence_s=self.timeout_s,
            # Every try may take its time, and the waits between them as much again; an hour that a server asks for is
            # not slept through.
            total_s=min(2 * tries * self.timeout_s, MOST_S_PER_REQUEST),
            tries=tries,
            longest_wait_s=LONGEST_WAIT_S,
            max_bytes=MAX_REPLY_BYTES,
        )

    @classmethod
    def from_environment(cls) -> Self:
        """Read ``DELTAVLM_ENDPOINT_CONCURRENCY``, ``DELTAVLM_ENDPOINT_TIMEOUT_S`` and ``DELTAVLM_ENDPOINT_RETRIES``.

        Raises:
            InputError: one of them is no number, or too small.
        """
        return cls(
            n_requests_at_once=int(_read_number("DELTAVLM_ENDPOINT_CONCURRENCY", cls.n_requests_at_once, least=1)),
            timeout_s=_read_number("DELTAVLM_ENDPOINT_TIMEOUT_S", cls.timeout_s, least=0.1),
            max_retries=int(_read_number("DELTAVLM_ENDPOINT_RETRIES", cls.max_retries, least=0)),
        )


def _read_number(variable: str, default: float, *, least: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not least <= number < 1e6:
        raise InputError(f"{variable}={text}", expected=f"a number of at least {least}", remedy="correct or unset it")
    return number


STRUCTURE_PARAMETER = "response_format"
"""The parameter that has a server hold its model to a schema."""


@dataclass(frozen=True, kw_only=True)
class StructuredRequest:
    """A conversation whose next turn is to be JSON of one schema."""

    messages: tuple[dict[str, Any], ...]
    """Turns in the form of the chat completions API, which ask for JSON in words too."""
    response_format: Mapping[str, Any]
    """The schema, in the form of the chat completions API."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One conversation to be continued by the model."""

    messages: tuple[dict[str, Any], ...]
    """Turns in the form of the chat completions API."""
    max_tokens: int
    """Longest reply."""
    temperature: float = 0.0
    """0: the most probable words, as far as the server goes along with it."""
    n_alternatives: int = 0
    """How many of the most probable tokens to ask for at each place of the reply; 0: no probabilities at all."""
    structured: StructuredRequest | None = None
    """What to send in its place as long as the server takes it; None: nothing."""

    def to_parameters(self, *, model: str, refused: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Give the body of the request, without what the server refuses."""
        parameters: dict[str, Any] = {
            "model": model,
            "messages": list(self.messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if self.structured is not None and STRUCTURE_PARAMETER not in refused:
            parameters["messages"] = list(self.structured.messages)
            parameters[STRUCTURE_PARAMETER] = dict(self.structured.response_format)
        if self.n_alternatives:
            parameters |= {"logprobs": True, "top_logprobs": self.n_alternatives}
        if "max_tokens" in refused:
            # Models that think before they speak are told so at OpenAI; elsewhere the older word is the known one.
            parameters["max_completion_tokens"] = self.max_tokens
        if refused & {"logprobs", "top_logprobs"}:
            refused |= {"logprobs", "top_logprobs"}
        return {name: value for name, value in parameters.items() if name not in refused}


def find_refused_parameter(message: str, *, sent: Iterable[str]) -> str | None:
    """Tell which parameter a server complains of, among those that a request can do without."""
    return next(
        (name for name in _OPTIONAL_PARAMETERS if name in sent and re.search(rf"\b{name}\b", message)),
        None,
    )


class Endpoint:
    """A served model that can be asked, by several threads at once."""

    def __init__(self, address: EndpointAddress, *, settings: EndpointSettings | None = None) -> None:
        """Make ready to ask; nothing is sent yet.

        Args:
            address: Where the model is.
            settings: How to treat the server; left out, as the environment says.

        Raises:
        InputError: the extra openai is missing, or the key or a setting in the environment cannot be used.
        """
        require_extra("openai", use=f"model {address.model!r} at {address.base_url}")
        # Importing it takes a third of a second, which naming a model should not wait for.
        from openai import OpenAI

        self.address = address
        self.settings = settings or EndpointSettings.from_environment()
        self._key = read_key()
        self._client = OpenAI(
            base_url=address.base_url,
            api_key=self._key or _NO_KEY,
            # Its own client waits as long as something comes, reads whatever comes, and follows redirects with the
            # pictures and the key. It takes clients of either of two libraries, and is typed for the other one.
            http_client=cast(Any, open_client(self.settings.limits, has_redirects=False)),
            max_retries=0,
        )
        # The client closes its connections itself when it goes, but in a cycle its sockets may go before it.
        weakref.finalize(self, self._client.close)
        self._refused: frozenset[str] = frozenset()
        self._has_structure = False
        # ^ Whether the server has taken a schema: then a refusal in other words is about something else.

    @property
    def refused_parameters(self) -> frozenset[str]:
        """What the server turned out not to take."""
        return self._refused

    def ask(self, request: ChatRequest) -> ChatReply:
        """Send one request and wait for its reply.

        Raises:
            EndpointError: there is none that can be used, after all tries.
        """
        import openai

        tries_left = TRIES_OF_NONSENSE
        while True:
            parameters = request.to_parameters(model=self.address.model, refused=self._refused)
            try:
                reply = read_reply(self._send(parameters))
                self._has_structure |= STRUCTURE_PARAMETER in parameters
                return reply
            except (openai.BadRequestError, openai.UnprocessableEntityError) as problem:
                refused = find_refused_parameter(str(problem), sent=parameters)
                if refused is None and STRUCTURE_PARAMETER in parameters and not self._has_structure:
                    # Servers without it have words of all kinds for that.
                    refused = STRUCTURE_PARAMETER
                if refused is None:
                    raise self._explain(problem) from None
                self._refused |= {refused}
            except openai.OpenAIError as problem:
                raise self._explain(problem) from None
            except (ValueError, RecursionError) as problem:
                # A body that is no JSON, or JSON that is no reply.
                tries_left -= 1
                if not tries_left:
                    raise self._explain(problem) from None

    def _send(self, parameters: Mapping[str, Any]) -> Any:
        """Give the client's object of what comes back, after as many tries as there may be."""

        def send() -> Any:
            with limit_time(self.settings.timeout_s):
                return self._client.chat.completions.create(**parameters)

        return repeat(send, limits=self.settings.limits, find_wait=find_wait)

    def ask_all(
        self, requests: Iterable[ChatRequest], *, max_failures_in_a_row: int = 1
    ) -> Iterator[tuple[int, ChatReply | EndpointError]]:
        """Send many requests, a few at a time, taking them as they are needed.

        Args:
            requests: What to ask.
            max_failures_in_a_row: After so many failures without a reply between them, or one that all others would
                meet too, only what is under way is waited for.

        Yields:
            Position of the request, and its reply or what kept it from having one, in the order in which they come.
        """
        waiting: Iterator[tuple[int, ChatRequest]] = enumerate(requests)
        pool = ThreadPoolExecutor(self.settings.n_requests_at_once, thread_name_prefix="endpoint")
        running: dict[Future[ChatReply], int] = {}
        n_failures = 0
        try:
            running |= self._submit(pool, islice(waiting, self.settings.n_requests_at_once))
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    position, outcome = running.pop(future), _take_outcome(future)
                    if isinstance(outcome, ChatReply):
                        n_failures = 0
                    else:
                        n_failures += 1
                        is_hopeless = outcome.is_for_all or n_failures >= max_failures_in_a_row
                        waiting = iter(()) if is_hopeless else waiting
                    yield position, outcome
                running |= self._submit(pool, islice(waiting, self.settings.n_requests_at_once - len(running)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, pool: ThreadPoolExecutor, requests: Iterable[tuple[int, ChatRequest]]
    ) -> dict[Future[ChatReply], int]:
        return {pool.submit(self.ask, request): position for position, request in requests}

    def _explain(self, problem: Exception) -> EndpointError:
        return explain_failure(
            problem,
            base_url=self.address.base_url,
            model=self.address.model,
            key=self._key,
            timeout_s=self.settings.timeout_s,
            n_tries=self.settings.max_retries + 1,
        )


def _take_outcome(future: Future[ChatReply]) -> ChatReply | EndpointError:
    try:
        return future.result()
    except EndpointError as problem:
        return problem


def read_key() -> str | None:
    """Read the key from the environment; None where there is none.

    Raises:
        InputError: it holds something that no header can carry.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"{KEY_VARIABLE} holds characters that no key has",
            expected="letters, digits and signs of ASCII",
            remedy="set it anew",
        )
    return key or None

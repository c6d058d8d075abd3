"""What comes back from an OpenAI-compatible server: a reply as plain values, or an error that says what to do."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import InputError
from model.web import TRANSIENT_STATUSES, AwayError, TooMuchError, read_retry_after

_ROUNDING = 1e-2
_IMPOSSIBLE = -1e4
# ^ Whole numbers beyond what a float holds would be a fault.
MAX_QUOTED_CHARACTERS = 300
"""So much of a server's words is repeated in an error."""


class EndpointError(InputError):
    """A request that has no usable reply.

    Args:
        found: As of `InputError`.
        expected: Likewise.
        remedy: Likewise.
        is_for_all: Whether every other request would end the same way.
    """

    def __init__(self, found: str, *, expected: str, remedy: str, is_for_all: bool = False) -> None:
        super().__init__(found, expected=expected, remedy=remedy)
        self.is_for_all = is_for_all


class NonsenseError(ValueError):
    """A body that is no chat completion."""


@dataclass(frozen=True, kw_only=True)
class ReplyToken:
    """One token of a reply, with how probable it was."""

    text: str
    """Its characters."""
    probability: float
    """Between 0 and 1."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """The most probable tokens at its place with their probabilities, itself among them as a rule."""


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """What the model said."""

    text: str
    """Its words, or those it refuses with; empty where it said nothing."""
    tokens: tuple[ReplyToken, ...] = ()
    """Empty where the server tells no probabilities."""
    is_cut_off: bool = False
    """Whether the limit of tokens ended it."""
    n_prompt_tokens: int | None = None
    """Tokens of the request by the server's count; None: not told."""
    n_reply_tokens: int | None = None
    """Likewise of the reply, also of thoughts that are not shown."""


def read_reply(completion: Any) -> ChatReply:
    """Take what is needed from the client's object, which is checked by nobody else.

    Raises:
        NonsenseError: it is no chat completion.
    """
    choices = getattr(completion, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        raise NonsenseError(f"a reply without choices: {str(completion)[:MAX_QUOTED_CHARACTERS]}")
    content = getattr(message, "content", None) or getattr(message, "refusal", None) or ""
    if not isinstance(content, str):
        raise NonsenseError(f"a reply whose content is no text: {str(content)[:MAX_QUOTED_CHARACTERS]}")
    usage = getattr(completion, "usage", None)
    return ChatReply(
        text=tidy_text(content),
        tokens=_read_tokens(getattr(choice, "logprobs", None)),
        is_cut_off=getattr(choice, "finish_reason", None) == "length",
        n_prompt_tokens=_read_count(usage, "prompt_tokens"),
        n_reply_tokens=_read_count(usage, "completion_tokens"),
    )


def tidy_text(text: str) -> str:
    """Take out what could steer a terminal or is no text at all: control characters and halves of characters."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(c for c in whole if unicodedata.category(c) != "Cc" or c in "\n\t").strip()


def _read_count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and value >= 0 else None


def _read_tokens(logprobs: Any) -> tuple[ReplyToken, ...]:
    content = getattr(logprobs, "content", None)
    return tuple(
        ReplyToken(
            text=_read_word(token),
            probability=_read_probability(token),
            alternatives=tuple(
                (_read_word(other), _read_probability(other)) for other in _list(getattr(token, "top_logprobs", None))
            ),
        )
        for token in _list(content)
    )


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list | None):
        raise NonsenseError(f"probabilities that are no list: {str(values)[:MAX_QUOTED_CHARACTERS]}")
    return values or []


def _read_word(token: Any) -> str:
    word = getattr(token, "token", None)
    if not isinstance(word, str):
        raise NonsenseError(f"a token that is no text: {str(word)[:MAX_QUOTED_CHARACTERS]}")
    return word


def _read_probability(token: Any) -> float:
    number = getattr(token, "logprob", None)
    # Servers of half precision round a certain token's logarithm up a little; NaN is never at most anything.
    if not isinstance(number, int | float) or isinstance(number, bool) or not number <= _ROUNDING:
        raise NonsenseError(f"a log-probability of {str(number)[:30]}, where numbers up to 0 are possible")
    return math.exp(max(_IMPOSSIBLE, min(0.0, number)))


def mean_probability(tokens: Sequence[ReplyToken]) -> float:
    """Give the mean probability of the tokens; NaN where there are none."""
    return math.fsum(token.probability for token in tokens) / len(tokens) if tokens else math.nan


def explain_failure(
    problem: Exception, *, base_url: str, model: str, key: str | None, timeout_s: float, n_tries: int
) -> EndpointError:
    """Say in words what went wrong with a request.

    Args:
        problem: What the client, or `read_reply`, raised.
        base_url: Where the request went.
        model: Which model was asked for.
        key: The key that was sent, for it to be kept out of the words; None: there was none.
        timeout_s: How long each try waited.
        n_tries: How often a request is sent before it is given up.
    """
    import openai

    words, is_for_all = quote_problem(problem, key=key), is_lasting(problem)
    status = getattr(problem, "status_code", None)
    match problem:
        case openai.APITimeoutError() if not is_for_all:
            found, expected = f"{base_url} did not reply within {timeout_s:g} s", f"a reply to one of {n_tries} tries"
            remedy = "raise DELTAVLM_ENDPOINT_TIMEOUT_S or lower DELTAVLM_ENDPOINT_CONCURRENCY"
        case openai.APIConnectionError() if is_for_all and not isinstance(problem.__cause__, AwayError):
            found, expected = f"{base_url} cannot be reached ({words})", "a server that answers there"
            remedy = "start the server, or correct the URL"
        case openai.APIConnectionError() if isinstance(problem.__cause__, AwayError):
            found, expected = f"{base_url} answers with {words}", "an answer from the host that was named"
            remedy = "name that host, if pictures and key may go there"
        case openai.APIConnectionError() if isinstance(problem.__cause__, TooMuchError):
            found, expected = f"{base_url} answers with {words}", "a chat completion as OpenAI defines it"
            remedy = "look into the server's log"
        case openai.APIConnectionError():
            found, expected = f"{base_url} broke off the connection ({words})", f"a reply to one of {n_tries} tries"
            remedy = "look into the server's log"
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            sent = "the key of OPENAI_API_KEY" if key else "a request without a key"
            found, expected = f"{base_url} refuses {sent} ({status}: {words})", f"a key that may use {model}"
            remedy = "set the environment variable OPENAI_API_KEY, also where the workers run"
        case openai.NotFoundError():
            found, expected = f"{base_url} has no model {model!r} ({status}: {words})", "openai:URL#NAME as served"
            remedy = f"correct the URL, which mostly ends in /v1, or the name: {base_url}/models lists them"
        case openai.RateLimitError():
            found, expected = f"{base_url} takes no more requests ({status}: {words})", f"room within {n_tries} tries"
            remedy = "wait, look at the account's quota, or lower DELTAVLM_ENDPOINT_CONCURRENCY"
        case openai.APIStatusError():
            found, expected = f"{base_url} answers {status} ({words})", "an answer to the request"
            remedy = "look into the server's log"
        case _:
            found, expected = f"{base_url} answers nonsense ({words})", "a chat completion as OpenAI defines it"
            remedy = "correct the URL, which mostly ends in /v1, or look into the server's log"
    return EndpointError(found, expected=expected, remedy=remedy, is_for_all=is_for_all)


def find_wait(outcome: Any) -> float | None:
    """Tell how long a server asks to be left alone before a request is sent again; None: it need not be."""
    import openai

    match outcome:
        case openai.APIStatusError() if outcome.status_code in TRANSIENT_STATUSES or outcome.status_code >= 500:
            return read_retry_after(outcome.response.headers.get("retry-after", ""))
        case openai.APIConnectionError() if not isinstance(outcome.__cause__, AwayError | TooMuchError):
            return 0.0
        case _:
            return None


def is_lasting(problem: Exception) -> bool:
    """Tell whether every other request to the server would meet this problem."""
    import openai

    refusals = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
    # A connection that breaks may be the fault of one request, one that does not come about is not. By name, as the
    # client changes the HTTP library below it from time to time.
    causes = {"ConnectError", "ConnectTimeout", AwayError.__name__}
    return isinstance(problem, refusals) or type(problem.__cause__).__name__ in causes


def quote_problem(problem: Exception, *, key: str | None) -> str:
    """Repeat a problem's words in one line, cut short, without the key and without the signs that divide our errors."""
    text = _find_words(problem)
    text = text.replace(key, "***") if key else text
    line = " ".join(text.split()).replace(";", ",") or "no words"
    return line if len(line) <= MAX_QUOTED_CHARACTERS else f"{line[:MAX_QUOTED_CHARACTERS]}..."


def _find_words(problem: Exception) -> str:
    import openai

    if isinstance(problem, openai.APIStatusError):
        message = problem.body.get("message") if isinstance(problem.body, dict) else None
        return message if isinstance(message, str) else problem.response.text
    # The client's own words for a lost connection are "Connection error."; the cause tells more.
    return str(problem.__cause__ or "") or str(problem)

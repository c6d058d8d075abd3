"""What the chat box of a report may ask of the server: forms, limits, and who may ask at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.errors import InputError
from model.interface import Prompt, PromptKind
from model.prompts import load_prompt_book

MAX_BODY_BYTES = 256 * 1024
MAX_BODY_S = 30
"""From the headers of a request until its body has come."""
MAX_QUESTION_CHARACTERS = 2_000
MAX_ANSWER_CHARACTERS = 8_000
MAX_HISTORY_TURNS = 40
MAX_WAITING = 8
"""Questions that may wait while another one is answered."""

EXAMPLE_LABELS = {
    PromptKind.CLASSIFY: "Changed or not?",
    PromptKind.DESCRIBE: "Describe the changes",
    PromptKind.COUNT: "How many?",
    PromptKind.LOCATE: "Where?",
    PromptKind.ASK: "What kinds of things?",
    PromptKind.DIALOGUE: "More detail",
}
"""Short words for one question of each kind, in the order in which a conversation asks them."""


class RequestError(InputError):
    """A request that the server does not answer.

    Args:
        found: As of `InputError`.
        expected: Likewise.
        remedy: Likewise.
        status: HTTP status.
    """

    def __init__(self, found: str, *, expected: str, remedy: str, status: int = 400) -> None:
        super().__init__(found, expected=expected, remedy=remedy)
        self.status = status


class Turn(BaseModel):
    """A question and its answer, as the page has kept them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    question: str = Field(max_length=MAX_QUESTION_CHARACTERS, description="What was asked.")
    answer: str = Field(max_length=MAX_ANSWER_CHARACTERS, description="What the model said.")


class ChatRequest(BaseModel):
    """One question about one tile."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tile_id: str = Field(max_length=30, description="Tile of the run, such as r0012_c0034.")
    question: str = Field(max_length=MAX_QUESTION_CHARACTERS, description="The question.")
    history: Annotated[list[Turn], Field(max_length=MAX_HISTORY_TURNS)] = Field(
        default=[], description="The turns before it about this tile, oldest first."
    )


def parse_chat(body: bytes) -> ChatRequest:
    """Read the body of a question.

    Raises:
        RequestError: it is no JSON, or of another form.
    """
    try:
        return ChatRequest.model_validate(json.loads(body))
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise RequestError(
            f"{place}: {first['msg']}",
            expected=f"tile_id, question of at most {MAX_QUESTION_CHARACTERS} characters, and history as a list of at "
            f"most {MAX_HISTORY_TURNS} turns, each with question and answer",
            remedy="correct the request",
            status=422,
        ) from None
    except (ValueError, RecursionError):
        raise RequestError("a body that is no JSON", expected="JSON", remedy="correct the request") from None


def check_sender(headers: Mapping[str, str], *, scheme: str, method: str) -> None:
    """Refuse what another site's page has a browser send here, behind its user's back.

    A form or an image of another site can send a request, and no answer is needed to do harm. A body of JSON cannot be
    sent so without asking first, which nothing here allows; browsers also tell where a request comes from.

    Args:
        headers: Of the request, names in lower case.
        scheme: http or https.
        method: Of the request.

    Raises:
        RequestError: it comes from elsewhere, or is no JSON.
    """
    own = f"{scheme}://{headers.get('host', '')}"
    origin, site = headers.get("origin", own), headers.get("sec-fetch-site", "same-origin")
    if origin.lower() != own.lower() or site not in {"same-origin", "none"}:
        raise RequestError(
            f"a request from {origin[:100]} ({site[:20]})",
            expected="one from the page that this server shows",
            remedy=f"open {own}/ itself",
            status=403,
        )
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "POST" and media_type != "application/json":
        raise RequestError(
            f"a body of type {media_type[:100] or 'unknown'}",
            expected="Content-Type: application/json",
            remedy="send JSON",
            status=415,
        )


def list_examples() -> list[dict[str, str]]:
    """Give one question of each kind, with a short label, in the order in which a conversation asks them."""
    book = load_prompt_book()
    by_kind: dict[PromptKind, Prompt] = {}
    for prompt in book.list_all():
        by_kind.setdefault(prompt.kind, prompt)
    return [{"kind": kind.value, "label": label, "text": by_kind[kind].text} for kind, label in EXAMPLE_LABELS.items()]


def describe_problem(problem: InputError) -> dict[str, Any]:
    """Give an error as plain values for JSON."""
    return {"found": problem.found, "expected": problem.expected, "remedy": problem.remedy}

"""The server behind ``deltavlm explore``: the report of a run as it lies there, and a model to ask about its tiles."""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.explore.files import send_file
from flows.explore.page import CLOSED_POLICY, add_chat
from flows.explore.requests import (
    MAX_BODY_BYTES,
    MAX_HISTORY_TURNS,
    MAX_QUESTION_CHARACTERS,
    MAX_WAITING,
    ChatRequest,
    RequestError,
    check_sender,
    describe_problem,
    list_examples,
    parse_chat,
)
from model.conversation import Conversation, Reply, describe_meaning, describe_reply
from model.errors import FolderError, InputError
from model.interface import ChangeModel, NotingModel, PromptKind
from model.questions.known import OPEN_KINDS
from model.questions.replies import is_declined, list_known_questions
from model.redaction import redact_text
from pipeline.runs.read import read_tile_pair
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import PAGE_NAME

_KEPT_PAIRS = 8
_OWN_FILES = {"chat.js": "text/javascript", "chat.css": "text/css"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class ChatDesk:
    """Answers questions about the tiles of one run, one at a time, in the order in which they came."""

    def __init__(self, model: ChangeModel, *, folder: RunFolder) -> None:
        """Begin with nobody waiting.

        Args:
            model: Answers the questions; no two at once.
            folder: Folder of the run.
        """
        self.model = model
        self.n_answers = 0
        self._turn = asyncio.Lock()
        self._n_inside = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._read_pair = lru_cache(_KEPT_PAIRS)(lambda tile_id: read_tile_pair(folder.uri, tile_id))

    async def ask(self, chat: ChatRequest, *, is_gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        """Put a question when its turn has come.

        Args:
            chat: The question.
            is_gone: Tells whether nobody waits for the answer any more.

        Raises:
            InputError: the tile cannot be asked about, or the question cannot be put.
        """
        if self._n_inside > MAX_WAITING:
            raise RequestError(
                f"{MAX_WAITING} questions wait already", expected="fewer", remedy="ask again later", status=503
            )
        self._n_inside += 1
        try:
            async with self._turn:
                if await is_gone():
                    raise RequestError("a cancelled question", expected="a reader", remedy="ask again", status=499)
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, chat)
        finally:
            self._n_inside -= 1

    def close(self) -> None:
        """Let go of the model's thread, after the answer in hand."""
        self._thread.shutdown(cancel_futures=True)

    def _answer(self, chat: ChatRequest) -> dict[str, Any]:
        pair: npt.NDArray[np.uint8] = self._read_pair(chat.tile_id)
        history = [(turn.question, turn.answer) for turn in chat.history]
        reply = Conversation(self.model, pair, history=history).ask(chat.question)
        self.n_answers += 1
        plain = describe_reply(reply)
        return {
            "tile_id": chat.tile_id,
            "question": plain["question"],
            "kind": plain["kind"],
            "answer": plain["text"],
            "confidence": plain["confidence"],
            "meaning": plain["meaning"],
            "n_history_turns": plain["n_history_turns"],
            "notes": note_reply(reply, n_turns=len(history), model=self.model),
        }


def note_reply(reply: Reply, *, n_turns: int, model: ChangeModel) -> list[str]:
    """Tell what a reader should know of an answer beyond its words.

    Args:
        reply: The answer.
        n_turns: Turns before it.
        model: Who gave it.
    """
    notes = [meaning] if (meaning := describe_meaning(reply)) else []
    n_read = reply.prompt.n_history_turns
    if 0 < n_read < n_turns:
        notes.append(f"only the last {n_read} of {n_turns} earlier turns had room beside the question")
    elif n_read < n_turns and reply.kind is PromptKind.DIALOGUE:
        notes.append("none of the earlier turns had room beside the question")
    elif n_read < n_turns:
        notes.append("asked without the earlier turns, as the report's own questions are")
    if is_declined(reply.text):
        notes.append(f"what can be asked: {' '.join(list_known_questions())}")
    elif reply.kind in OPEN_KINDS and not getattr(model, "has_open_questions", True):
        notes.append("read from what the model answers to the report's own questions")
    if isinstance(model, NotingModel):
        notes += [f"{note} ({count} times)" if count > 1 else note for note, count in model.take_notes().items()]
    return notes


class ReportServer:
    """What each URL answers."""

    def __init__(self, desk: ChatDesk, *, folder: RunFolder, run_id: str, notes: Sequence[str], console: Console):
        """Bring together what the answers are made of.

        Args:
            desk: Answers questions.
            folder: Folder of the run.
            run_id: Name of the run.
            notes: What to know of the model in this session.
            console: Where faults are told.
        """
        self._desk = desk
        self._folder = folder
        self._run_id = run_id
        self._notes = list(notes)
        self._console = console

    def make_app(self, *, allowed_hosts: Sequence[str]) -> ASGIApp:
        """Give the application.

        Args:
            allowed_hosts: Names under which it may be reached. A name of someone else's that was made to point here
                would let their page read everything.
        """
        routes = [
            Route("/", self._show_page),
            Route("/index.html", self._show_page),
            Route("/api/session", self._tell_session),
            Route("/api/chat", self._chat, methods=["POST"]),
            Route("/explore/{name}", self._send_own),
            Route("/{path:path}", self._send_file),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
        return _add_headers(
            Starlette(
                routes=routes,
                middleware=[hosts],
                exception_handlers={InputError: self._refuse, Exception: self._tell_fault},
            )
        )

    async def _show_page(self, _: Request) -> Response:
        try:
            page = await asyncio.to_thread(self._folder.read, PAGE_NAME)
        except FileNotFoundError:
            raise RequestError(
                f"{self._folder.join(PAGE_NAME)} is gone",
                expected="the page of the report",
                remedy="make it anew with `deltavlm report`",
                status=404,
            ) from None
        html, policy = add_chat(page.decode("utf-8", "replace"), nonce=secrets.token_urlsafe(16))
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    async def _tell_session(self, request: Request) -> Response:
        check_sender(request.headers, scheme=request.url.scheme, method=request.method)
        return _answer_json(
            {
                "run": redact_text(self._folder.uri),
                "run_id": self._run_id,
                "model_id": self._desk.model.identity.model_id,
                "notes": self._notes,
                "limits": {
                    "max_question_characters": MAX_QUESTION_CHARACTERS,
                    "max_history_turns": MAX_HISTORY_TURNS,
                    "max_waiting": MAX_WAITING,
                },
                "examples": list_examples(),
            }
        )

    async def _chat(self, request: Request) -> Response:
        check_sender(request.headers, scheme=request.url.scheme, method=request.method)
        chat = parse_chat(await _read_body(request))
        return _answer_json(await self._desk.ask(chat, is_gone=request.is_disconnected))

    async def _send_own(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _OWN_FILES:
            raise RequestError(f"no file {name!r}", expected="chat.js or chat.css", remedy="begin at /", status=404)
        text = resources.files("flows.explore").joinpath(name).read_text(encoding="utf-8")
        return Response(text, media_type=_OWN_FILES[name], headers={"Content-Security-Policy": CLOSED_POLICY})

    async def _send_file(self, request: Request) -> Response:
        return await send_file(request.path_params["path"], folder=self._folder)

    async def _refuse(self, _: Request, problem: Exception) -> Response:
        assert isinstance(problem, InputError)
        status = 503 if isinstance(problem, FolderError) else getattr(problem, "status", 422)
        return _answer_json(describe_problem(problem), status=status)

    async def _tell_fault(self, _: Request, fault: Exception) -> Response:
        # The page is told what kind of fault it is, the terminal all of it.
        text = redact_text("".join(traceback.format_exception(fault)))
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style="red")
        told = {
            "found": redact_text(f"the program or the model failed ({type(fault).__name__}: {str(fault)[:300]})"),
            "expected": "an answer",
            "remedy": "ask something else; the terminal of `deltavlm explore` has the details",
        }
        return _answer_json(told, status=500)


async def _read_chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise RequestError("half a question", expected="all of it", remedy="ask again", status=499) from None


async def _read_body(request: Request) -> bytes:
    """Read a body up to its limit, whatever length it claims.

    Raises:
        RequestError: it is longer.
    """
    body = bytearray()
    async for chunk in _read_chunks(request):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(
                f"a body of more than {MAX_BODY_BYTES} bytes",
                expected=f"at most {MAX_BODY_BYTES}",
                remedy="begin the conversation anew, or ask in fewer words",
                status=413,
            )
    return bytes(body)


def _answer_json(values: dict[str, Any], *, status: int = 200) -> Response:
    return JSONResponse(values, status_code=status, headers={"Content-Security-Policy": CLOSED_POLICY})


def _add_headers(app: ASGIApp) -> ASGIApp:
    """Have every answer carry the headers that keep other sites out."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, send_with_headers)

    return answer

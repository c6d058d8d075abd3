"""The server behind ``deltavlm explore``: a report as it lies there, a model to ask about its tiles, and its review."""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from flows.explore.chat import ChatDesk
from flows.explore.files import send_file
from flows.explore.page import add_tools
from flows.explore.requests import (
    MAX_HISTORY_TURNS,
    MAX_QUESTION_CHARACTERS,
    MAX_WAITING,
    RequestError,
    check_sender,
    describe_problem,
    list_examples,
    parse_chat,
)
from flows.explore.review import ReviewDesk
from flows.explore.review_routes import list_review_routes
from flows.explore.transport import add_headers, answer_json, read_body, send_own
from model.errors import FolderError, InputError
from model.redaction import redact_text
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import PAGE_NAME


class ReportServer:
    """What each URL answers."""

    def __init__(
        self,
        desk: ChatDesk | None,
        *,
        reviews: ReviewDesk,
        folder: RunFolder,
        run_id: str,
        notes: Sequence[str],
        console: Console,
    ):
        """Bring together what the answers are made of.

        Args:
            desk: Answers questions; None: nobody does, as of a region.
            reviews: Shows what there is to review, and keeps what people say.
            folder: Folder of the run or the region.
            run_id: Name of the run or the region.
            notes: What to know of the model in this session.
            console: Where faults are told.
        """
        self._desk = desk
        self._reviews = reviews
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
            *(self._list_chat_routes(self._desk) if self._desk is not None else ()),
            *list_review_routes(self._reviews),
            Route("/explore/{name}", send_own),
            Route("/{path:path}", self._send_file),
        ]
        # In URLs and headers an address of IPv6 stands in brackets.
        names = [f"[{name}]" if ":" in name else name for name in allowed_hosts]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
        return add_headers(
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
        nonce = secrets.token_urlsafe(16)
        html, policy = add_tools(page.decode("utf-8", "replace"), nonce=nonce, has_chat=self._desk is not None)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    def _list_chat_routes(self, desk: ChatDesk) -> list[Route]:
        async def tell_session(request: Request) -> Response:
            check_sender(request.headers, scheme=request.url.scheme, method=request.method)
            return answer_json(self._describe_session(desk))

        async def chat(request: Request) -> Response:
            check_sender(request.headers, scheme=request.url.scheme, method=request.method)
            question = parse_chat(await read_body(request))
            return answer_json(await desk.ask(question, is_gone=request.is_disconnected))

        return [Route("/api/session", tell_session), Route("/api/chat", chat, methods=["POST"])]

    def _describe_session(self, desk: ChatDesk) -> dict[str, Any]:
        return {
            "run": redact_text(self._folder.uri),
            "run_id": self._run_id,
            "model_id": desk.model.identity.model_id,
            "notes": self._notes,
            "limits": {
                "max_question_characters": MAX_QUESTION_CHARACTERS,
                "max_history_turns": MAX_HISTORY_TURNS,
                "max_waiting": MAX_WAITING,
            },
            "examples": list_examples(),
        }

    async def _send_file(self, request: Request) -> Response:
        return await send_file(request.path_params["path"], folder=self._folder)

    async def _refuse(self, _: Request, problem: Exception) -> Response:
        assert isinstance(problem, InputError)
        status = 503 if isinstance(problem, FolderError) else getattr(problem, "status", 422)
        return answer_json(describe_problem(problem), status=status)

    async def _tell_fault(self, _: Request, fault: Exception) -> Response:
        # The page is told what kind of fault it is, the terminal all of it.
        text = redact_text("".join(traceback.format_exception(fault)))
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style="red")
        told = {
            "found": redact_text(f"the program or the model failed ({type(fault).__name__}: {str(fault)[:300]})"),
            "expected": "an answer",
            "remedy": "ask something else; the terminal of `deltavlm explore` has the details",
        }
        return answer_json(told, status=500)

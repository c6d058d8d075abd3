"""What every answer of the server has in common: bodies with a limit, JSON, the server's own files, and headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.explore.page import CLOSED_POLICY
from flows.explore.requests import MAX_BODY_BYTES, MAX_BODY_S, RequestError

_OWN_FILES = {
    "chat.js": "text/javascript",
    "chat.css": "text/css",
    "review.js": "text/javascript",
    "review_drawing.js": "text/javascript",
    "review_kept.js": "text/javascript",
    "review.css": "text/css",
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def send_own(request: Request) -> Response:
    """Answer with a file of the server's own, as `read_own` gives it.

    Raises:
        RequestError: it has no such file.
    """
    name = request.path_params["name"]
    if name not in _OWN_FILES:
        raise RequestError(
            f"no file {name!r}", expected=f"one of {', '.join(_OWN_FILES)}", remedy="begin at /", status=404
        )
    return Response(read_own(name), media_type=_OWN_FILES[name], headers={"Content-Security-Policy": CLOSED_POLICY})


def read_own(name: str) -> str:
    """Read a file that lies beside this one."""
    return resources.files("flows.explore").joinpath(name).read_text(encoding="utf-8")


async def _read_chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise RequestError("half a question", expected="all of it", remedy="ask again", status=499) from None


async def read_body(request: Request) -> bytes:
    """Read a body up to its limits, whatever length it claims.

    Raises:
        RequestError: it is longer, or takes longer.
    """
    try:
        async with asyncio.timeout(MAX_BODY_S):
            return await _read_whole(request)
    except TimeoutError:
        raise RequestError(
            f"a body that had not come after {MAX_BODY_S} s", expected="all of it", remedy="send it again", status=408
        ) from None


async def _read_whole(request: Request) -> bytes:
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


def answer_json(values: dict[str, Any], *, status: int = 200) -> Response:
    """Answer with plain values as JSON."""
    return JSONResponse(values, status_code=status, headers={"Content-Security-Policy": CLOSED_POLICY})


def add_headers(app: ASGIApp) -> ASGIApp:
    """Have every answer carry the headers that keep other sites out, and every request come to an answer."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # The server ends while somebody still sends or waits: that is told to them, and no fault.
            if not has_begun:
                told = {
                    "found": "the server ends",
                    "expected": "one at work",
                    "remedy": "start it again, then ask again",
                }
                await answer_json(told, status=503)(scope, receive, send_with_headers)

    return answer

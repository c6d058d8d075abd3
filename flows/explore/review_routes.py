"""The addresses of the review: its page, what there is to look at, and what people say of it."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from flows.explore.page import REVIEW_POLICY
from flows.explore.requests import RequestError, check_sender
from flows.explore.review import ReviewDesk
from flows.explore.review_requests import MAX_ID_CHARACTERS, parse_review
from flows.explore.transport import answer_json, read_body, read_own
from model.safe_text import clean_line
from pipeline.reviews.review import MAX_NAME_CHARACTERS

_NONCE = "NONCE"
# ^ Stands in the page for the word that its scripts are allowed by.


def list_review_routes(desk: ReviewDesk) -> list[Route]:
    """Give what each address of the review answers.

    Args:
        desk: Shows what there is to review, and keeps what people say.
    """

    async def list_items(request: Request) -> Response:
        _check(request)
        return answer_json(await desk.list_items())

    async def list_said(request: Request) -> Response:
        _check(request)
        return answer_json(await desk.list_said(clean_line(_read_word(request, "person", most=MAX_NAME_CHARACTERS))))

    async def show(request: Request) -> Response:
        _check(request)
        subject, subject_id = _read_word(request, "subject", most=20), _read_word(request, "id", most=MAX_ID_CHARACTERS)
        return answer_json(await desk.show(subject, subject_id))

    async def keep(request: Request) -> Response:
        _check(request)
        return answer_json(await desk.keep(parse_review(await read_body(request))))

    return [
        Route("/review", _show_page),
        Route("/api/review/items", list_items),
        Route("/api/review/said", list_said),
        Route("/api/review/item", show),
        Route("/api/review", keep, methods=["POST"]),
    ]


async def _show_page(_: Request) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = read_own("review.html").replace(_NONCE, nonce)
    return HTMLResponse(html, headers={"Content-Security-Policy": REVIEW_POLICY.format(nonce=nonce)})


def _check(request: Request) -> None:
    check_sender(request.headers, scheme=request.url.scheme, method=request.method)


def _read_word(request: Request, name: str, *, most: int) -> str:
    word = request.query_params.get(name, "")
    if not word.strip() or len(word) > most:
        raise RequestError(
            f"{name} of {len(word)} characters", expected=f"1 to {most}", remedy="load the page again", status=422
        )
    return word

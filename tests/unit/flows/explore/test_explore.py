"""Who may ask the server of a report, what for, and what page it shows."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from stand_in_model import StandInModel

import flows.explore.chat
import flows.explore.transport
from flows.cli.explore import name_url, open_socket
from flows.explore.chat import ChatDesk, note_reply
from flows.explore.files import resolve_name
from flows.explore.page import STRICT_POLICY, add_tools, widen_policy
from flows.explore.requests import (
    MAX_HISTORY_TURNS,
    MAX_QUESTION_CHARACTERS,
    RequestError,
    check_sender,
    list_examples,
    parse_chat,
)
from flows.explore.review import ReviewDesk
from flows.explore.server import ReportServer
from model.conversation import Conversation
from model.errors import InputError
from model.interface import PromptKind
from model.prompts import find_known_prompt, load_prompt_book
from pipeline.runs.review_items import open_run_book
from pipeline.storage.folder import RunFolder

OWN = {"host": "127.0.0.1:80", "content-type": "application/json"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:80"},
        {"sec-fetch-site": "same-origin"},
        {"content-type": "application/json; charset=utf-8"},
    ],
)
def test_the_own_page_may_ask(headers: dict[str, str]) -> None:
    check_sender(OWN | headers, scheme="http", method="POST")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8081"}, 403),
        ({"origin": "https://127.0.0.1:80"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
    ],
)
def test_nobody_else_may(headers: dict[str, str], status: int) -> None:
    with pytest.raises(RequestError) as refusal:
        check_sender(OWN | headers, scheme="http", method="POST")

    assert refusal.value.status == status


def make_body(**changes: Any) -> bytes:
    return json.dumps({"tile_id": "r0000_c0000", "question": "Where?"} | changes).encode()


def test_a_question_is_read_with_its_history() -> None:
    chat = parse_chat(make_body(history=[{"question": "a", "answer": "b"}]))

    assert (chat.tile_id, chat.question) == ("r0000_c0000", "Where?")
    assert [(turn.question, turn.answer) for turn in chat.history] == [("a", "b")]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "the body"),
        (b"{}", "tile_id"),
        (make_body(question=7), "question"),
        (make_body(question="x" * (MAX_QUESTION_CHARACTERS + 1)), "question"),
        (make_body(tile_id="r" * 31), "tile_id"),
        (make_body(history=[["a", "b"]]), "history.0"),
        (make_body(history=[{"question": "a", "answer": "b"}] * (MAX_HISTORY_TURNS + 1)), "history"),
        (make_body(model="/etc/passwd"), "model"),
    ],
)
def test_a_body_of_another_form_is_refused(body: bytes, found: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_chat(body)

    assert found in refusal.value.found
    assert refusal.value.expected
    assert refusal.value.remedy


def test_there_is_an_example_of_every_kind_in_known_words() -> None:
    examples = list_examples()

    assert {example["kind"] for example in examples} == {kind.value for kind in PromptKind}
    for example in examples:
        known = find_known_prompt(example["text"])
        assert known is not None
        assert known.kind.value == example["kind"]


@pytest.mark.parametrize(
    ("policy", "widened"),
    [
        (
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-x'; base-uri 'none'",
            "default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline' 'self'; "
            "script-src 'sha256-x' 'nonce-N'; base-uri 'none'; connect-src 'self'; form-action 'none'; "
            "frame-ancestors 'none'",
        ),
        (
            "DEFAULT-SRC 'none'; script-src 'none'; script-src *; connect-src blob: 'self'; frame-ancestors *;;",
            "default-src 'none'; script-src 'nonce-N'; connect-src blob: 'self'; frame-ancestors 'none'; "
            "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'",
        ),
    ],
)
def test_a_policy_is_widened_by_the_chat_box_alone(policy: str, widened: str) -> None:
    assert widen_policy(policy, nonce="N") == widened


def test_the_pages_own_policy_moves_into_the_header() -> None:
    html = (
        '<html><head><meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; font-src data:">'
        "<title>x</title></head><body>a<!-- </body> --> b</body></html>"
    )

    page, policy = add_tools(html, nonce="N", has_chat=True)

    assert "http-equiv" not in page
    assert policy.startswith("default-src 'none'; font-src data:; script-src 'nonce-N'")
    assert page.endswith('<script src="explore/chat.js" nonce="N" defer></script></body></html>')


def test_a_page_without_a_policy_gets_a_strict_one() -> None:
    html = '<body><p>content-security-policy</p><meta http-equiv="Content-Security-Policy" content="script-src *">'

    page, policy = add_tools(html, nonce="N", has_chat=True)

    # In the body the tag means nothing to a browser, and nothing here.
    assert page.startswith(html)
    assert policy == widen_policy(STRICT_POLICY, nonce="N")
    assert "script-src 'nonce-N';" in policy


@pytest.mark.parametrize(
    "path",
    [
        "../run.json",
        "a/../../run.json",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a//b",
        "a\\..\\b",
        "a\0b",
        "plots/../x",
        "link.txt",
    ],
)
def test_no_path_leads_out_of_the_report(tmp_path: Path, path: str) -> None:
    (tmp_path / "run.json").write_text("secret")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "link.txt").symlink_to(tmp_path / "run.json")

    with pytest.raises(RequestError) as refusal:
        resolve_name(path, folder=RunFolder(str(tmp_path)))

    assert refusal.value.status == 404


@pytest.mark.parametrize("path", ["tiles.parquet", "plots/coverage.png", "a b/ä.txt", "..name"])
def test_what_lies_in_the_report_is_found(tmp_path: Path, path: str) -> None:
    assert resolve_name(path, folder=RunFolder(str(tmp_path))) == f"report/{path}"
    assert resolve_name(path, folder=RunFolder("s3://bucket/run")) == f"report/{path}"


def test_a_conversation_kept_elsewhere_is_taken_up() -> None:
    pair = np.zeros((2, 3, 48, 48), np.uint8)
    history = [("What changed?", "a house"), ("Where?", "left")]

    fresh = Conversation(StandInModel(), pair).ask("And why?")
    taken_up = Conversation(StandInModel(), pair, history=history).ask("And why?")

    assert (fresh.kind, taken_up.kind) == (PromptKind.ASK, PromptKind.DIALOGUE)
    assert taken_up.prompt.text == "q: What changed? a: a house  q: Where? a: left  q: And why?"
    assert taken_up.prompt.n_history_turns == 2


def test_notes_tell_what_became_of_the_history() -> None:
    pair = np.zeros((2, 3, 48, 48), np.uint8)
    count = next(prompt for prompt in load_prompt_book().prompts if prompt.kind is PromptKind.COUNT)
    model = StandInModel()

    reply = Conversation(model, pair, history=[("a", "b")]).ask(count.text)

    assert note_reply(reply, n_turns=1, model=model) == [
        "building count: 0, road count: 0",
        "asked without the earlier turns, as the report's own questions are",
    ]


def test_a_port_that_is_taken_is_wrong_input() -> None:
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(InputError, match="leave --port out"):
        open_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),
        ("gpu-box", "http://gpu-box:8000/"),
    ],
)
def test_the_address_is_one_for_a_browser(host: str, url: str) -> None:
    assert name_url(host, port=8000) == url


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_question_that_nobody_waits_for_is_not_put(monkeypatch: pytest.MonkeyPatch, is_cancelled: bool) -> None:
    monkeypatch.setattr(flows.explore.chat, "read_tile_pair", lambda *_: np.zeros((2, 3, 48, 48), np.uint8))
    desk = ChatDesk(StandInModel(), folder=RunFolder("unused"))

    async def is_gone() -> bool:
        return is_cancelled

    async def ask() -> dict[str, Any]:
        return await desk.ask(parse_chat(make_body()), is_gone=is_gone)

    try:
        if is_cancelled:
            with pytest.raises(RequestError, match="cancelled"):
                asyncio.run(ask())
        else:
            assert asyncio.run(ask())["answer"] == "0 by my eyes"
        assert desk.n_answers == int(not is_cancelled)
    finally:
        desk.close()


def send_to_chat(tmp_path: Path, pieces: list[bytes], *, host: str = "127.0.0.1", end: Callable[[], Any]) -> list[Any]:
    """Send pieces of a body to the server, then what `end` gives; nothing of it may become a fault or an answer."""
    told = io.StringIO()
    desk = ChatDesk(StandInModel(), folder=RunFolder(str(tmp_path)))
    folder = RunFolder(str(tmp_path))
    reviews = ReviewDesk(folder, open_book=open_run_book)
    server = ReportServer(desk, reviews=reviews, folder=folder, run_id="run", notes=(), console=Console(file=told))
    app = server.make_app(allowed_hosts=["127.0.0.1", "::1"])
    arriving = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    sent: list[Any] = []

    async def receive() -> Any:
        return arriving.pop(0) if arriving else await end()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/chat",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", host.encode()), (b"content-type", b"application/json")],
    }
    asyncio.run(app(scope, receive, send))
    desk.close()
    reviews.close()
    assert desk.n_answers == 0
    assert told.getvalue() == ""
    return sent


async def leave() -> dict[str, str]:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("pieces", [[], [b'{"tile_id": "r0000_c'], [b"{", b'"question": "']])
def test_a_reader_who_leaves_in_mid_question_leaves_no_traceback(pieces: list[bytes], tmp_path: Path) -> None:
    assert send_to_chat(tmp_path, pieces, end=leave)[0]["status"] == 499


def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.explore.transport, "MAX_BODY_S", 0.05)

    sent = send_to_chat(tmp_path, [b"{"], end=asyncio.Event().wait)

    assert sent[0]["status"] == 408


def test_the_end_of_the_server_in_mid_question_leaves_no_traceback(tmp_path: Path) -> None:
    async def be_cancelled() -> None:
        raise asyncio.CancelledError

    assert send_to_chat(tmp_path, [b"{"], end=be_cancelled)[0]["status"] == 503


@pytest.mark.parametrize(("host", "status"), [("[::1]:8000", 499), ("[::2]:8000", 400), ("::1", 400)])
def test_an_address_of_ipv6_is_known_in_its_brackets(tmp_path: Path, host: str, status: int) -> None:
    assert send_to_chat(tmp_path, [], host=host, end=leave)[0]["status"] == status

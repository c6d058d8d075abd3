"""Who signs addresses, how long a signature serves, and what a server of tokens that is not well comes to."""

from __future__ import annotations

import datetime as dt
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rasterio.errors import RasterioIOError
from stac_material import send, serve_answers

from model.errors import InputError
from model.redaction import redact_text
from pipeline.config.limits import LimitsConfig, use_limits
from pipeline.scenes import planetary_computer, signing
from pipeline.scenes.planetary_computer import MAX_REPLY_BYTES, PlanetaryComputer, find_container
from pipeline.scenes.signing import FunctionSigner, read_signed, sign_uri, use_signer
from pipeline.scenes.threads import map_at_once

FILE = "https://madeaccount.blob.core.windows.net/scenes/a/red.tif"
LIMITS = LimitsConfig(server_silence_s=0.2, server_request_s=1)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (FILE, ("madeaccount", "scenes")),
        ("https://madeaccount.blob.core.windows.net/$root/a.tif", ("madeaccount", "$root")),
        (f"{FILE}?sv=1&sig=abc", None),
        ("https://madeaccount.blob.core.windows.net.evil.example/scenes/a.tif", None),
        ("https://me@madeaccount.blob.core.windows.net/scenes/a.tif", None),
        ("https://madeaccount.blob.core.windows.net/../a.tif", None),
        ("https://example.com/scenes/a.tif", None),
        ("s3://bucket/scenes/a.tif", None),
        ("/data/a.tif", None),
    ],
)
def test_only_files_of_the_archive_are_given_its_tokens(uri: str, expected: tuple[str, str] | None) -> None:
    assert find_container(uri) == expected
    if expected is None:
        # No server is asked: there is none.
        assert PlanetaryComputer("http://127.0.0.1:9/token").sign(uri) == uri


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


@contextmanager
def serve_tokens(answer: Answer) -> Iterator[PlanetaryComputer]:
    with serve_answers(answer) as address, use_limits(LIMITS):
        yield PlanetaryComputer(f"{address}/token/", key="subscription")


def make_answer(asked: list[str], *, lifetime_s: float = 3600, **content: Any) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(f"{handler.path} {handler.headers['Ocp-Apim-Subscription-Key']}")
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lifetime_s)
        send(handler, {"msft:expiry": end.isoformat(), "token": f"sv=1&sig=secret{len(asked)}"} | content)

    return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(planetary_computer, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


def test_token_serves_a_container_until_shortly_before_its_end(clock: SimpleNamespace) -> None:
    asked: list[str] = []
    with serve_tokens(make_answer(asked)) as signer:
        assert map_at_once(signer.sign, [FILE] * 8) == [f"{FILE}?sv=1&sig=secret1"] * 8
        assert signer.sign(FILE.replace("scenes", "others")).endswith("/others/a/red.tif?sv=1&sig=secret2")
        assert asked == ["/token/madeaccount/scenes subscription", "/token/madeaccount/others subscription"]
        clock.now_s += 3500
        assert signer.sign(FILE).endswith("secret1")
        clock.now_s += 50
        assert signer.sign(f"{FILE}?a=b") == f"{FILE}?a=b&sv=1&sig=secret3"


def test_token_is_renewed_once_it_may_be_to_blame(clock: SimpleNamespace) -> None:
    with serve_tokens(make_answer([])) as signer:
        signer.sign(FILE)
        clock.now_s += 300
        signer.renew(FILE)
        assert signer.sign(FILE).endswith("secret1")
        clock.now_s += 100
        signer.renew(FILE)
        signer.renew(FILE)
        assert signer.sign(FILE).endswith("secret2")


def answer_late(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    time.sleep(0.5)


def answer_away(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, b"", status=302, headers={"Location": "http://127.0.0.1:9/token?key=of-another-host"})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answer_late, r"does not answer within 0\.2 s"),
        (answer_away, "leads to a redirect to another host, http://127.0.0.1:9/token"),
        (lambda handler, body: send(handler, {}, status=404), "answers 404"),
        (lambda handler, body: send(handler, {}, status=503), "answers 503"),
        (lambda handler, body: send(handler, b"<html>"), "sends no token"),
        (lambda handler, body: send(handler, ["token"]), "sends no token"),
        (lambda handler, body: send(handler, {"token": "sig=a"}), "sends no token"),
        (make_answer([], **{"msft:expiry": "soon"}), "sends no token"),
        (make_answer([], token=7), "something else than a token"),
        (make_answer([], token="sv=1"), "something else than a token"),
        (make_answer([], token="sig=a b\n/vsicurl/"), "something else than a token"),
        (lambda handler, body: send(handler, b" " * (MAX_REPLY_BYTES + 1)), r"cannot be asked \(TooMuchError\)"),
    ],
)
def test_server_that_is_not_well_is_named(answer: Answer, expected: str) -> None:
    with serve_tokens(answer) as signer, pytest.raises(InputError, match=rf"token/madeaccount/scenes, .* {expected}"):
        signer.sign(FILE)


def test_who_waits_for_a_server_in_vain_waits_once() -> None:
    with serve_tokens(answer_late) as signer:
        begun_s, problems = time.monotonic(), []

        def sign(uri: str) -> None:
            with pytest.raises(InputError, match="does not answer") as refusal:
                signer.sign(uri)
            problems.append(refusal.value)

        map_at_once(sign, [FILE] * 8)
    # Each alone would take two times the silence that is borne.
    assert (len(problems), time.monotonic() - begun_s < 8 * 0.4) == (8, True)


@pytest.fixture
def made_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("made_signer")
    monkeypatch.setitem(sys.modules, "made_signer", module)
    monkeypatch.setattr(module, "asked", [], raising=False)
    return module


def test_function_signs_and_its_signature_is_masked_everywhere(
    made_module: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    def sign(uri: str) -> str:
        made_module.asked.append(uri)  # type: ignore[attr-defined]
        return f"https://store.example/{uri.rpartition('/')[2]}?X-Amz-Signature=very-secret-value"

    made_module.ask = sign  # type: ignore[attr-defined]
    assert sign_uri("s3://bucket/a.tif") == "s3://bucket/a.tif"
    with use_signer("made_signer:ask"):
        signed = map_at_once(sign_uri, ["s3://bucket/a.tif", "s3://bucket/a.tif", "/data/b.tif"])
    assert signed[:2] == ["https://store.example/a.tif?X-Amz-Signature=very-secret-value"] * 2
    assert signed[2] == "/data/b.tif"
    assert "very-secret-value" not in redact_text("GDAL says: very-secret-value was refused")
    # As rasterio hands on what GDAL warns of, for whoever has the log shown. What opens rasters has it redacted.
    import_module("pipeline.scenes.rasters")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("rasterio._env").warning("CPLE_AppDefined in %s", signed[0])
    assert caplog.messages == ["CPLE_AppDefined in https://store.example/a.tif?X-Amz-Signature=***"]


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        (lambda uri: None, "gives a NoneType"),
        (lambda uri: "/vsis3/bucket/a.tif", "gives a str that is no http"),
        (lambda uri: 1 / 0, "fails .ZeroDivisionError"),
    ],
)
def test_function_that_does_not_sign_is_named(
    made_module: ModuleType, sign: Callable[[str], object], expected: str
) -> None:
    made_module.sign = sign  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=rf"sign made_signer:sign {expected}.* for https://store.example/a.tif"):
        FunctionSigner("made_signer:sign").sign("https://store.example/a.tif")


def test_function_that_is_not_there_is_named() -> None:
    for name in ("no_such_module:sign", "json:sign"):
        with pytest.raises(InputError, match=f"sign {name}"), use_signer(name):
            pass


def test_reading_is_tried_again_by_another_signature_alone(
    made_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "_YOUNGEST_S", 0.0)
    asked: list[str] = made_module.asked  # type: ignore[attr-defined]
    made_module.count = lambda uri: f"{uri}?n={len(asked)}"  # type: ignore[attr-defined]
    made_module.keep = lambda uri: uri  # type: ignore[attr-defined]

    def fail_once() -> str:
        asked.append(sign_uri(FILE))
        if len(asked) == 1:
            raise RasterioIOError("HTTP response code: 403")
        return asked[-1]

    with use_signer("made_signer:count"):
        assert read_signed(fail_once, uris=[FILE]) == f"{FILE}?n=1"
    asked.clear()
    with use_signer("made_signer:keep"), pytest.raises(RasterioIOError):
        read_signed(fail_once, uris=[FILE])
    assert asked == [FILE]

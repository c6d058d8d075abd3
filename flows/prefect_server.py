"""Prefect's server: whether it is there, and how a run goes on where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings

from model.errors import InputError
from model.redaction import redact_text

SERVER_ERRORS = (httpx.HTTPError, PrefectException, OSError)
"""What a server that is away, starting or full answers with, or does not."""

_ANY_PAGE = "http://page.invalid"
_PATIENCE_S = 10.0

Answer = TypeVar("Answer")


def tell_server(call: Callable[[], Answer]) -> Answer | None:
    """Tell Prefect's server something that the run does not depend on; None where it cannot be told."""
    try:
        return call()
    except SERVER_ERRORS as problem:
        get_run_logger().warning(
            "Prefect's server did not take an artifact (%s). The run itself goes on.",
            redact_text(f"{type(problem).__name__}: {problem}"),
        )
        return None


def check_server() -> str:
    """Find out that there is a Prefect server, and give its address.

    Raises:
        InputError: none is named, or the one that is does not answer.
    """
    address = get_current_settings().api.url
    found = "no Prefect server is named: PREFECT_API_URL is not set"
    if address is not None:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
        if problem is None:
            return address
        found = f"no Prefect server answers at {address} ({type(problem).__name__})"
    raise InputError(
        found,
        expected="a server that keeps deployments and schedules",
        remedy="start one with `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api",
    )


def describe_exposure(address: str) -> str | None:
    """Say who else may have a server start runs and change deployments; None where it asks for a password.

    Args:
        address: Of the server's API.
    """
    try:
        answer = httpx.get(f"{address}/admin/version", headers={"Origin": _ANY_PAGE}, timeout=_PATIENCE_S)
    except httpx.HTTPError:
        return None
    if not answer.is_success:
        return None
    is_for_pages = answer.headers.get("access-control-allow-origin") in {"*", _ANY_PAGE}
    who = (
        "everyone who reaches it, and any web page open in a browser that does,"
        if is_for_pages
        else "everyone who reaches it"
    )
    return f"Prefect's server at {address} asks for no password: {who} can have code run by what works for it"

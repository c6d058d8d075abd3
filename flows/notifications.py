"""Messages to people, sent by the blocks that Prefect's server keeps: Slack, Teams, mail, any webhook."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterable
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from model.errors import InputError
from model.redaction import redact_text, shorten_text
from model.safe_text import clean_text

MAX_BODY_LENGTH = 3000


def load_notifier(name: str) -> NotificationBlock:
    """Load a block that sends messages.

    Args:
        name: ``TYPE/NAME``, such as ``slack-webhook/monitoring``.

    Raises:
        InputError: the server has no such block, or one that sends nothing.
    """
    remedy = "make it under Blocks in Prefect's pages, or correct the name"
    try:
        block = Block.load(name)
    # Prefect raises ValueError for a missing block and RuntimeError where a type is not known.
    except (ValueError, RuntimeError) as problem:
        raise InputError(f"notify: block {name} ({problem})", expected="a block TYPE/NAME", remedy=remedy) from None
    if not isinstance(block, NotificationBlock):
        raise InputError(f"notify: block {name} sends no messages", expected="a notification block", remedy=remedy)
    return block


def find_notifier_id(name: str) -> UUID:
    """Give the id under which the server keeps a block that sends messages.

    Raises:
        InputError: as `load_notifier`.
    """
    return cast(UUID, load_notifier(name)._block_document_id)


def send_messages(names: Iterable[str], *, subject: str, body: str) -> None:
    """Send one message through several blocks; one that fails is told in the log and stops nothing.

    Args:
        names: ``TYPE/NAME`` of the blocks.
        subject: One line.
        body: The words; cut off after `MAX_BODY_LENGTH` characters.
    """
    text = shorten_text(clean_text(redact_text(body)), max_length=MAX_BODY_LENGTH)
    for name in names:
        try:
            _send(load_notifier(name), subject=redact_text(subject), body=text)
        # Whatever a service of somebody else's answers, the results are there and the run goes on.
        except Exception as problem:
            get_run_logger().warning(
                "No message went through %s: %s", name, redact_text(f"{type(problem).__name__}: {problem}")
            )
        else:
            get_run_logger().info("Told through %s: %s", name, redact_text(subject))


def _send(block: NotificationBlock, *, subject: str, body: str) -> None:
    # A coroutine by its declaration; Prefect's own blocks send at once where no event loop runs.
    sending: Any = block.notify(body=body, subject=subject)
    if inspect.isawaitable(sending):
        asyncio.run(_wait_for(sending))


async def _wait_for(sending: Awaitable[Any]) -> None:
    await sending

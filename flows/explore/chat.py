"""Questions about the tiles of a run: one model answers them, one at a time, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.explore.requests import MAX_WAITING, ChatRequest, RequestError
from model.conversation import Conversation, Reply, describe_meaning, describe_reply
from model.interface import ChangeModel, NotingModel, PromptKind
from model.questions.known import OPEN_KINDS
from model.questions.replies import is_declined, list_known_questions
from pipeline.runs.read import read_tile_pair
from pipeline.storage.folder import RunFolder

_KEPT_PAIRS = 8


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

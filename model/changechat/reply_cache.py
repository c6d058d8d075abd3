"""Replies that were paid for, in a file of JSON lines that only ever grows.

Each goes into the file as soon as it is there, under the hash of its request. What was asked once is never asked again,
so a call that was killed goes on where it was, and comes to the same result.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from model.errors import refuse_unwritable
from model.remote.replies import ChatReply


class ReplyCache:
    """Replies in a file of JSON lines that only ever grows."""

    def __init__(self, file: Path) -> None:
        """Read what is there; lines that a kill cut off, or that are none of ours, are passed over.

        Raises:
            InputError: the file can be neither read nor made.
        """
        self.file = file
        self._replies: dict[str, ChatReply] = {}
        with refuse_unwritable(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._open("a+b") as stream:
                stream.seek(0)
                for line in stream:
                    self._take(line)
                # The next line must not go on where a killed one ended.
                if stream.tell() and not line.endswith(b"\n"):
                    stream.write(b"\n")

    def find(self, key: str) -> ChatReply | None:
        """Give the reply to a request that was answered already."""
        return self._replies.get(key)

    def add(self, key: str, reply: ChatReply) -> None:
        """Keep a reply, at once and for good.

        Raises:
            InputError: it cannot be written; those before it are safe.
        """
        values = {
            "key": key,
            "text": reply.text,
            "is_cut_off": reply.is_cut_off,
            "n_prompt_tokens": reply.n_prompt_tokens,
            "n_reply_tokens": reply.n_reply_tokens,
        }
        kept = "make room and start again: what was answered before is kept"
        with refuse_unwritable(self.file, remedy=kept), self._open("ab") as stream:
            stream.write(json.dumps(values).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._replies[key] = reply

    def _open(self, mode: str) -> IO[bytes]:
        # A link in a folder that others may write to would lead the lines to any file of the user's.
        return open(self.file, mode, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666))

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            key, text = values.pop("key"), values["text"]
            if isinstance(key, str) and isinstance(text, str):
                self._replies[key] = ChatReply(**values)
        except (ValueError, TypeError, KeyError, AttributeError):
            return

"""Files that have their name once they are whole, written through no link."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(name: str | Path, content: bytes | Path, *, folder: int | None = None) -> None:
    """Write a file beside its name, under one that nobody can know before, and let it take the name's place.

    Args:
        name: Of the file; what has that name, be it a link, is replaced and not followed.
        content: What it is to hold, or a file that is copied.
        folder: Descriptor of the folder that the name counts from; None: the working directory.

    Raises:
        OSError: it cannot be written; nothing is left of it then.
    """
    draft = f"{name}#{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(draft, _FLAGS, 0o666, dir_fd=folder), "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise

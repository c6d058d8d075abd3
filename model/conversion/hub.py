"""Files by their path, or by their name on the Hugging Face hub where there is a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from model.errors import InputError

_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+(/[\w.-]+)?)(:(?P<file>[\w./-]+))?")

CONFIG_PATTERNS = ("*.json", "*.model", "*.txt")
"""Files of a folder on the hub that hold config and vocabulary."""


def find_local_path(name: str, *, patterns: Sequence[str], option: str) -> Path:
    """Give a path that exists, downloading it first if the name is one of the hub's.

    Args:
        name: Path of a file or folder; or ``owner/name`` of a repository on the hub, with ``:file`` for one file of it.
        patterns: Which files of a repository are wanted.
        option: What the name was given as, for the message.

    Raises:
        InputError: there is no such path, and no download of that name.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    found = _HUB_NAME.fullmatch(name)
    # A path that is mistyped must not be asked of the hub as if it were a repository.
    if found is None or name.startswith(".") or (path.suffix and not found["file"] and "/" not in name):
        raise InputError(f"{option}: no file or folder {name}", expected="one that is there", remedy="correct the path")
    try:
        wanted = [found["file"]] if found["file"] else list(patterns)
        downloaded = Path(snapshot_download(found["repository"], allow_patterns=wanted)) / (found["file"] or "")
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(
            f"{option}: no file or folder {name} here, and no download of that name from the Hugging Face hub "
            f"({type(problem).__name__}: {reason})",
            expected="a path, or owner/name or owner/name:file with a network",
            remedy="without one, fetch the files elsewhere, copy them here and give their path",
        ) from None
    if not downloaded.exists():
        raise InputError(
            f"{option}: {found['repository']} on the Hugging Face hub has no file {found['file']}",
            expected="the name of one that it has",
            remedy="correct what stands behind the colon",
        )
    return downloaded

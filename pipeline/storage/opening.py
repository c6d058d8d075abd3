"""The ways to a run's folder: made, taken up, or only found; one that holds other files is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.errors import InputError
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import LOCK_NAME
from pipeline.storage.object_store import RETRY_TIMEOUT_S, explain_failure
from pipeline.uris import check_run_uri, is_remote

_OWN_NAMES = frozenset({"run.json", "run.pending.json", "tiles.zarr", "marks"})
_LEFT_NAMES = frozenset({"answers", "outlines"})
"""What workers may still have put where all else of a run was being removed."""


def open_run_folder(uri: str, *, retry_timeout_s: float = RETRY_TIMEOUT_S) -> RunFolder:
    """Make the folder of a run, or take up the one that is there; nothing is written into it.

    Raises:
        InputError: the place cannot be made or read, or holds files that belong to no run.
    """
    folder = make_folder(uri, retry_timeout_s=retry_timeout_s)
    check_foreign(folder)
    return folder


def make_folder(uri: str, *, retry_timeout_s: float = RETRY_TIMEOUT_S) -> RunFolder:
    """Make a folder, or take up the one that is there, whatever it holds; in a bucket there is nothing to make.

    Raises:
        InputError: the place cannot be made.
    """
    folder = find_folder(uri, retry_timeout_s=retry_timeout_s)
    if not folder.is_remote:
        with folder.clear_errors():
            try:
                Path(folder.uri).mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as failure:
                # A dangling link on the way.
                raise explain_failure(folder.uri, failure) from None
    return replace(folder, is_made=True)


def check_foreign(folder: RunFolder) -> None:
    """Refuse a folder with files in it that belong to no run.

    Raises:
        InputError: there are such files.
    """
    names = {name for name in folder.list_top() if not name.startswith(LOCK_NAME)}
    if names - _LEFT_NAMES and not names & _OWN_NAMES:
        raise InputError(
            f"output {folder.uri} holds {len(names)} other files, such as {min(names)}",
            expected="an empty folder or the folder of an earlier run",
            remedy="choose another --output",
        )


def find_run_folder(uri: str) -> RunFolder:
    """Find the folder of a run, without making or trying anything in it.

    Raises:
        InputError: there is no such folder.
    """
    folder = find_folder(uri)
    if not folder.is_remote and not Path(folder.uri).is_dir():
        raise InputError(f"{uri} is no folder", expected="the folder of a run", remedy="correct the path")
    if folder.is_remote and not folder.list_top():
        raise InputError(f"{uri} holds nothing", expected="the prefix of a run", remedy="correct the URI")
    return folder


def find_folder(uri: str, *, retry_timeout_s: float = RETRY_TIMEOUT_S) -> RunFolder:
    """Give the folder of a URI, whether it is there or not.

    Raises:
        InputError: the URI is of another kind.
    """
    try:
        uri = check_run_uri(uri)
    except ValueError as problem:
        raise InputError(str(problem), expected="a local folder or s3://bucket/prefix", remedy="correct it") from None
    place = uri.rstrip("/") if is_remote(uri) else str(Path(uri).absolute())
    return RunFolder(place, retry_timeout_s)

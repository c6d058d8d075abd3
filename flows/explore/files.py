"""The files of a report over HTTP, from a local folder or a bucket, and nothing beside them."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError as ObstoreError
from starlette.responses import FileResponse, Response, StreamingResponse

from flows.explore.page import CLOSED_POLICY
from flows.explore.requests import RequestError
from pipeline.storage.folder import RunFolder

if TYPE_CHECKING:
    # Told to type checkers alone.
    from obstore import GetResult

REPORT_FOLDER = "report"
_CHUNK_BYTES = 2**20
_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".js": "text/javascript",
    ".pmtiles": "application/vnd.pmtiles",
}


def resolve_name(path: str, *, folder: RunFolder) -> str:
    """Give the name in the run's folder of what a URL names, which lies in its report or is refused.

    Args:
        path: Path of the URL without its first slash, already decoded.
        folder: Folder of the run.

    Raises:
        RequestError: it leads out of the report, by its words or by a link.
    """
    is_plain = not re.search(r"[\x00-\x1f\\]", path) and not {"", ".", ".."} & set(path.split("/"))
    name = f"{REPORT_FOLDER}/{path}"
    if is_plain and not folder.is_remote:
        root = Path(folder.join(REPORT_FOLDER)).resolve()
        is_plain = Path(folder.join(name)).resolve().is_relative_to(root)
    if not is_plain:
        raise _tell_missing(path)
    return name


def _tell_missing(path: str) -> RequestError:
    return RequestError(
        f"no file {path[:200]!r} in the report",
        expected="a file of the report",
        remedy="begin at the page, /",
        status=404,
    )


async def send_file(path: str, *, folder: RunFolder) -> Response:
    """Answer with a file of the report as a stream; out of a local folder also with the part that is asked for.

    Raises:
        RequestError: there is no such file.
        InputError: the folder cannot be read.
    """
    name = resolve_name(path, folder=folder)
    headers = {"Content-Security-Policy": CLOSED_POLICY}
    suffix = PurePosixPath(name).suffix.lower()
    media_type = _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    try:
        if not folder.is_remote:
            # A folder or a link is no file of the report, and what may not be read says so.
            await asyncio.to_thread(folder.read_part, name, start=0, length=1)
            return FileResponse(folder.join(name), headers=headers, media_type=media_type)
        with folder.clear_errors():
            found = await obstore.get_async(folder.store, name)
    except FileNotFoundError:
        raise _tell_missing(path) from None
    headers["Content-Length"] = str(found.meta["size"])
    return StreamingResponse(_read(found, name=folder.join(name)), headers=headers, media_type=media_type)


async def _read(found: GetResult, *, name: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in found.stream(_CHUNK_BYTES):
            yield bytes(chunk)
    except (ObstoreError, OSError) as failure:
        # The headers are out: all that is left is to break off, which a browser sees by the length.
        raise ConnectionError(f"{name} broke off") from failure

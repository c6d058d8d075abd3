"""The files of a report over HTTP, from a local folder or a bucket alike: whole, or the part that is asked for."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

import obstore
from obstore.exceptions import BaseError as ObstoreError
from starlette.responses import Response, StreamingResponse

from flows.explore.page import CLOSED_POLICY
from flows.explore.requests import RequestError
from pipeline.storage.folder import RunFolder

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


def parse_range(header: str | None, *, size: int) -> tuple[int, int] | None:
    """Read what part of a file is wanted, half-open; None: all of it.

    What is not one range of bytes is passed over, as RFC 9110 (14.2) lets a server do.

    Args:
        header: Value of the header Range.
        size: Bytes of the file.

    Raises:
        RequestError: the part lies beyond the end.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < int(first):
        return None
    if start >= end:
        raise RequestError(
            f"range {found[0]} of {size} bytes", expected="a part of the file", remedy="ask for less", status=416
        )
    return start, end


async def send_file(path: str, *, folder: RunFolder, range_header: str | None) -> Response:
    """Answer with a file of the report, or a part of it, as a stream.

    Raises:
        RequestError: there is no such file, or no such part.
        InputError: the store cannot be read.
    """
    name = resolve_name(path, folder=folder)
    try:
        with folder.clear_errors():
            facts = await obstore.head_async(folder.store, name)
    except FileNotFoundError:
        raise _tell_missing(path) from None
    part = parse_range(range_header, size=facts["size"])
    start, end = part or (0, facts["size"])
    suffix = PurePosixPath(name).suffix.lower()
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Security-Policy": CLOSED_POLICY,
    }
    if facts["e_tag"]:
        headers["ETag"] = str(facts["e_tag"])
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{facts['size']}"
    return StreamingResponse(
        _read_part(folder, name, start=start, end=end),
        status_code=206 if part is not None else 200,
        headers=headers,
        media_type=_MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream",
    )


async def _read_part(folder: RunFolder, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
    if start == end:
        return
    try:
        found = await obstore.get_async(folder.store, name, options={"range": (start, end)})
        async for chunk in found.stream(_CHUNK_BYTES):
            yield bytes(chunk)
    except (ObstoreError, OSError) as failure:
        # The headers are out: all that is left is to break off, which a browser sees by the length.
        raise ConnectionError(f"{folder.join(name)} broke off") from failure

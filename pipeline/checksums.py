"""Checksums of scenes, so that a run knows its inputs by their content and never by their path."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store

from pipeline.errors import InputError
from pipeline.sources import REMOTE_TIMEOUT_S, is_remote, refuse_unreadable, split_zip_uri

_READ_BYTES = 1 << 22
_ASK_AT_ONCE = 8
_REMOTE_NAMES = ("/vsicurl/", "/vsis3/")
_UNHASHED_SUFFIXES = (".aux.xml", ".ovr")
# ^ Files that change none of the pixels; what they say of CRS or nodata, the open raster says too.


def compute_checksum(uri: str, *, files: Sequence[str]) -> str:
    """Tell one content of a raster from another.

    Args:
        uri: An absolute local path, or an http(s), s3 or zip URI.
        files: The files that make up the raster, itself included, such as the parts of a VRT, by GDAL's names.

    Returns:
        sha256 in hex of what is in local files, or ``etag:...`` of a remote one; of a VRT that reads remote files,
        sha256 over their etags too.

    Raises:
        InputError: the server does not tell one content from another.
        OSError: the file cannot be read.
    """
    parts = sorted({_undo_gdal_name(file) for file in files if file.startswith(_REMOTE_NAMES)} - {uri})
    own = _read_etag(uri) if is_remote(uri) else _hash_files(uri, files=files)
    if not parts:
        return own
    with ThreadPoolExecutor(max_workers=_ASK_AT_ONCE) as pool:
        etags = list(pool.map(_read_etag, parts))
    return hashlib.sha256("\n".join([own, *etags]).encode()).hexdigest()


def _undo_gdal_name(name: str) -> str:
    return name.removeprefix("/vsicurl/").replace("/vsis3/", "s3://", 1)


def _read_etag(uri: str) -> str:
    return _read_s3_etag(uri) if uri.startswith("s3://") else _read_http_etag(uri)


def _hash_files(uri: str, *, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    if (archive := split_zip_uri(uri)) is not None:
        # The whole archive: the file may be a VRT of others in it.
        uri, member = archive
        digest.update(member.encode() + b"\0")
    others = sorted(f for f in files if f != uri and not f.endswith(_UNHASHED_SUFFIXES) and Path(f).is_file())
    for path in [uri, *others]:
        with Path(path).open("rb") as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
    return digest.hexdigest()


def _read_http_etag(uri: str) -> str:
    # One byte by GET: signed URLs often allow no HEAD.
    request = urllib.request.Request(uri, headers={"Range": "bytes=0-0"})
    with urllib.request.urlopen(request, timeout=REMOTE_TIMEOUT_S) as response:
        headers = response.headers
    modified, length = headers.get("Last-Modified"), headers.get("Content-Range")
    etag = headers.get("ETag") or (f"{modified} {length}" if modified else None)
    return _check_etag(uri, etag)


def _read_s3_etag(uri: str) -> str:
    folder, _, name = uri.rpartition("/")
    try:
        return _check_etag(uri, obstore.head(S3Store.from_url(folder), name)["e_tag"])
    except ObstoreError as problem:
        raise refuse_unreadable(uri, problem) from None


def _check_etag(uri: str, etag: str | None) -> str:
    if not etag:
        raise InputError(
            f"{uri} comes from a server that sends neither ETag nor Last-Modified",
            expected="one of them, to notice when the file changes",
            remedy="fetch the file first",
        )
    return "etag:" + etag.strip('"')

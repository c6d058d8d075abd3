"""What a VRT reads: a text that names other files, and that a stranger may have written.

GDAL opens whatever a VRT names. One from a server must not make it open files of this machine, one in a zip archive
nothing outside of that, and none may take the bytes of a file that is no raster for pixels, or bring code along.
"""

from __future__ import annotations

import posixpath
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import obstore
from obstore.exceptions import BaseError as ObstoreError

from model.errors import InputError
from pipeline.scenes.rasters import REMOTE_TIMEOUT_S, name_for_gdal, refuse_unreadable
from pipeline.storage.object_store import open_object
from pipeline.uris import is_remote, split_zip_uri

_MOST_BYTES = 1 << 26
_HEAD_BYTES = 4096
_SIGN = b"<VRTDataset"
_DEEPEST = 4
_SOURCE_TAGS = {"SourceFilename", "SourceDataset"}
_REMOTE_NAMES = ("/vsicurl/", "/vsis3/", "http://", "https://", "s3://")


def list_vrt_files(uri: str, *, depth: int = 0) -> list[str] | None:
    """List the files that a VRT reads, as resolved URIs; None if this is no VRT.

    Raises:
        InputError: it names files outside of its place, holds code or raw bytes, or cannot be read.
    """
    try:
        if not _is_vrt(uri):
            return None
        text = _read(uri, at_most=_MOST_BYTES)
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, OSError, KeyError, ObstoreError) as problem:
        raise refuse_unreadable(uri, problem) from None
    if len(text) >= _MOST_BYTES or depth > _DEEPEST:
        raise _refuse(uri, "is too large" if depth <= _DEEPEST else "names a VRT that names a VRT, and so on")
    for element in root.iter():
        if element.get("subClass") == "VRTRawRasterBand":
            raise _refuse(uri, "takes the bytes of another file for pixels (VRTRawRasterBand)")
        if element.tag == "PixelFunctionLanguage" and (element.text or "").strip().lower() != "c":
            raise _refuse(uri, "holds code (PixelFunctionCode)")
    found: dict[str, None] = {}
    for name, is_relative in dict.fromkeys(_list_sources(root)):
        source = _resolve(uri, name, is_relative=is_relative)
        found |= dict.fromkeys([source, *(list_vrt_files(source, depth=depth + 1) or [])])
    return list(found)


def _is_vrt(uri: str) -> bool:
    # A remote file is opened as a VRT only if it is named so.
    if is_remote(uri):
        return urlsplit(uri).path.lower().endswith(".vrt")
    return _SIGN in _read(uri, at_most=_HEAD_BYTES)


def _list_sources(root: ElementTree.Element) -> Iterator[tuple[str, bool]]:
    for element in root.iter():
        if element.tag in _SOURCE_TAGS and (name := (element.text or "").strip()):
            yield name, element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"


def _resolve(uri: str, name: str, *, is_relative: bool) -> str:
    """Give the URI of the file that a VRT names.

    Raises:
        InputError: it lies where this VRT must not reach.
    """
    if _SIGN.decode() in name:
        raise _refuse(uri, "holds another VRT in place of a file's name")
    if is_remote(uri):
        found = urljoin(uri, name) if is_relative and not uri.startswith("s3://") else name
        if is_relative and uri.startswith("s3://"):
            found = posixpath.normpath(posixpath.join(posixpath.dirname(name_for_gdal(uri)), name))
        if not found.startswith(_REMOTE_NAMES):
            raise _refuse(uri, f"reads {name}, which is on this machine and not where the VRT is")
        return _undo_gdal_name(found)
    if (archive := split_zip_uri(uri)) is not None:
        path, member = archive
        inner = posixpath.normpath(posixpath.join(posixpath.dirname(member), name))
        if not is_relative or name.startswith("/") or inner.startswith(".."):
            raise _refuse(uri, f"reads {name}, which is not in its archive")
        return f"zip://{path}!{inner}"
    if name.startswith(_REMOTE_NAMES):
        return _undo_gdal_name(name)
    return str((Path(uri).parent / name if is_relative else Path(name)).absolute())


def _undo_gdal_name(name: str) -> str:
    return name.removeprefix("/vsicurl/").replace("/vsis3/", "s3://", 1)


def _read(uri: str, *, at_most: int) -> bytes:
    if (archive := split_zip_uri(uri)) is not None:
        with zipfile.ZipFile(archive[0]) as files, files.open(archive[1]) as file:
            return file.read(at_most)
    if uri.startswith("s3://"):
        store, key = open_object(uri)
        return bytes(obstore.get_range(store, key, start=0, end=min(at_most, obstore.head(store, key)["size"])))
    if is_remote(uri):
        with urllib.request.urlopen(uri, timeout=REMOTE_TIMEOUT_S) as response:
            return bytes(response.read(at_most))
    with Path(uri).open("rb") as file:
        return file.read(at_most)


def _refuse(uri: str, words: str) -> InputError:
    return InputError(
        f"{uri} {words}",
        expected="a VRT that reads rasters beside it, of no more than a server or an archive gives",
        remedy="make a GeoTIFF of it where it comes from, or name its files as a list",
    )

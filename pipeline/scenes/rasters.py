"""Where rasters may be, and the only way in which they are opened."""

from __future__ import annotations

import logging
import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import httpx
import obstore
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from model.errors import InputError
from model.redaction import remember_secrets
from model.web import TRANSIENT_STATUSES, Reply, fetch, redact_record
from pipeline.config.limits import LimitsConfig, get_limits
from pipeline.hosts import check_redirect, hold_host
from pipeline.scenes.gate import find_address, is_at_gate, name_servers
from pipeline.scenes.memory import check_size
from pipeline.scenes.signing import MAX_RENEWALS, renew_signatures, sign_uri
from pipeline.storage.object_store import open_object
from pipeline.storage.s3_access import read_s3_access
from pipeline.uris import (
    AUX_SUFFIX,
    REMOTE_SCHEMES,
    S3_SCHEME,
    ZIP_MARK,
    find_lack,
    is_remote,
    normalise_uri,
    read_file_uri,
    split_zip_uri,
)

CACHE_BYTES = 256 << 20
"""Decoded blocks that GDAL keeps, so that neighbouring windows do not decode them again."""
# ^ GDAL itself takes a small number for megabytes; rasterio hands an integer on as bytes, and takes nothing else.

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
"""What an archive raises that is damaged, locked by a password, or packed in a way that is not known here."""

_REFUSED = {401, 403}
_SLOW_BYTES_PER_S = 1000
_JPEG_2000 = ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
_DRIVERS = ("GTiff", *_JPEG_2000, "PNG", "JPEG", "HFA")
# ^ GDAL knows formats that are no more than a list of servers and files to open. None is here; of a VRT GDAL is given
#   words of our own.


def resolve_uri(uri: str) -> str:
    """Make a local path absolute, so that workers elsewhere find it; leave http(s) and s3 URIs as they are.

    A file in a zip archive is named ``zip://PATH.zip!NAME``, or ``/vsizip/PATH.zip/NAME`` as GDAL has it.

    Raises:
        InputError: there is no such local file, or the scheme is none of these.
    """
    head, mark, _ = uri.partition("://")
    scheme = head.lower() if mark and head.isalnum() else ""
    if scheme in REMOTE_SCHEMES:
        return normalise_uri(uri)
    if scheme == "zip" or uri.startswith("/vsizip/"):
        return _resolve_zip(uri)
    if scheme not in {"", "file"}:
        raise InputError(
            f"{uri} is of the kind {scheme}://",
            expected="a local path, or an http(s), s3 or zip URI",
            remedy="fetch the file first",
        )
    path = (read_file_uri(uri) or Path(uri)).expanduser().absolute()
    if (lack := find_lack(path)) is not None:
        raise InputError(
            f"{path} {lack}",
            expected="a raster file",
            remedy="correct the path",
        )
    return str(path)


@contextmanager
def open_raster(uri: str, *, with_sidecars: bool = False, allow_private: bool = False) -> Iterator[DatasetReader]:
    """Open a raster by itself: no file beside it and none that it names is looked at.

    Args:
        uri: What `resolve_uri` gave.
        with_sidecars: Read the small files beside it too, which may tell CRS, transform and nodata. Masks and overviews
            must not be asked for then: GDAL would open those of any format.
        allow_private: Whether its server may lead to hosts of closed networks.

    Raises:
        InputError: it names another file as its overviews, or would take more memory than any raster should.
        rasterio.errors.RasterioError: this is nothing that GDAL can read.
    """
    address = find_address(uri, allow_private=allow_private)
    with share_settings([address], sidecars_of=address if with_sidecars else None):
        if with_sidecars and is_remote(uri):
            # Read here, and kept: GDAL reads it later, while it lets no other thread run.
            with suppress(RasterioError):
                DatasetReader(name_for_gdal(address + AUX_SUFFIX), driver=list(_DRIVERS)).close()
        with open_checked(uri, address=address) as dataset:
            yield dataset


@contextmanager
def open_checked(uri: str, *, address: str) -> Iterator[DatasetReader]:
    """Open a raster inside `share_settings`.

    Args:
        uri: What `resolve_uri` gave.
        address: That by which it is opened, as `find_address` gave it.

    Raises:
        InputError, rasterio.errors.RasterioError: as of `open_raster`.
    """
    with warnings.catch_warnings():
        # Said in better words by whoever finds the CRS or the transform missing.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = DatasetReader(name_for_gdal(address), driver=list(_DRIVERS))
    with closing(dataset):
        # On the dataset that is read from: a server may give another file the next time.
        check_size(dataset, uri=uri)
        if any(key.upper() == "OVERVIEW_FILE" for key in dataset.tags(ns="OVERVIEWS")):
            raise InputError(
                f"{uri} names another file as its overviews (OVERVIEW_FILE)",
                expected="overviews inside the file, or beside it in NAME.ovr",
                remedy="make new ones with gdaladdo, or copy the file with gdal_translate -of COG",
            )
        yield dataset


def refuse_changed(uri: str) -> InputError:
    """Make the error of a file that is not what it was when the scenes were looked at."""
    return InputError(
        f"{uri} is another file than when the scenes were looked at",
        expected="scenes that stay as they are until the run has ended",
        remedy="start the run again, or fetch the file first",
    )


def read_version(uri: str) -> tuple[int, int]:
    """Give what changes with a file on this machine: its size, and the time of the last change in nanoseconds."""
    archive = split_zip_uri(uri)
    found = Path(archive[0] if archive is not None else uri).stat()
    return found.st_size, found.st_mtime_ns


def read_start(uri: str, *, at_most: int, allow_private: bool = False) -> bytes:
    """Read the beginning of a file, wherever it is.

    Raises:
        InputError: a server redirects to a closed network, or an archive is damaged or locked.
        OSError, ObstoreError, KeyError: it cannot be read.
    """
    if (archive := split_zip_uri(uri)) is not None:
        try:
            with zipfile.ZipFile(archive[0]) as files, files.open(archive[1]) as file:
                return file.read(at_most)
        except ZIP_ERRORS as problem:
            raise refuse_unreadable(uri, problem) from None
    if sign_uri(uri).startswith(S3_SCHEME):
        store, key = open_object(uri)
        return bytes(obstore.get_range(store, key, start=0, end=min(at_most, obstore.head(store, key)["size"])))
    if is_remote(uri):
        return ask_server(uri, at_most=at_most, allow_private=allow_private).data
    with Path(uri).open("rb") as file:
        return file.read(at_most)


def name_for_gdal(uri: str) -> str:
    """Give the name by which GDAL itself knows what a resolved URI means, as a VRT needs it."""
    if (archive := split_zip_uri(uri)) is not None:
        # Braces, as the archive may be named in any way.
        return f"/vsizip/{{{archive[0]}}}/{archive[1]}"
    scheme, _, rest = uri.partition("://")
    # GDAL's own words will repeat it.
    remember_secrets(uri)
    if scheme.lower() in {"http", "https"}:
        return f"/vsicurl/{uri}"
    return f"/vsis3/{rest}" if scheme.lower() == "s3" else uri


def undo_gdal_name(name: str) -> str:
    """Give the URI of which `name_for_gdal` made a name."""
    if name.startswith("/vsizip/{"):
        path, _, member = name.removeprefix("/vsizip/{").partition("}/")
        return f"zip://{path}{ZIP_MARK}{member}"
    return name.removeprefix("/vsicurl/").replace("/vsis3/", "s3://", 1)


@contextmanager
def share_settings(addresses: Collection[str], *, sidecars_of: str | None = None) -> Iterator[None]:
    """Set what GDAL is told for all reads of this package.

    Args:
        addresses: Those by which the rasters are opened that are read.
        sidecars_of: The address of the one of which GDAL may read the small files beside it, too.
    """
    options: dict[str, Any] = {
        "GDAL_CACHEMAX": CACHE_BYTES,
        "GDAL_VRT_ENABLE_PYTHON": "NO",
        # Without this GDAL looks for sidecar files of any format, on a server by listing the whole folder.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR" if sidecars_of is None else "NO",
        **_limit_http(get_limits()),
    }
    if any(address.startswith(S3_SCHEME) for address in addresses):
        options |= read_s3_access(os.environ).to_gdal()
    if any(map(is_at_gate, addresses)):
        # The gate is on this machine; a proxy on the way to servers is its business.
        options |= {"GDAL_HTTP_PROXY": ""}
        options |= {"GDAL_HTTPS_PROXY": proxy} if (proxy := getproxies().get("https")) else {}
    if sidecars_of is not None and is_remote(sidecars_of):
        # Each is asked for by its name, of which the settings leave one.
        ending = PurePosixPath(urlsplit(sidecars_of).path).suffix or "{noext}"
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "YES",
            "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": f"{ending},{AUX_SUFFIX}",
        }
    with rasterio.Env(**options):
        yield


def _limit_http(limits: LimitsConfig) -> dict[str, Any]:
    """Set ends to GDAL's waits, of which it has none by itself; what the environment says of them stands."""
    options = {
        "GDAL_HTTP_CONNECTTIMEOUT": max(1, round(min(10.0, limits.server_silence_s))),
        "GDAL_HTTP_LOW_SPEED_TIME": max(1, round(limits.server_silence_s)),
        "GDAL_HTTP_LOW_SPEED_LIMIT": _SLOW_BYTES_PER_S,
        "GDAL_HTTP_TIMEOUT": max(1, round(limits.server_request_s)),
        "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT": "IF_SAME_HOST",
    }
    return {name: value for name, value in options.items() if name not in os.environ}


class NotServedError(InputError):
    """A server is there, but has no such file, or does not give it to us."""


def ask_server(uri: str, *, at_most: int, headers: dict[str, str] | None = None, allow_private: bool = False) -> Reply:
    """Read the beginning of a file on an http(s) server.

    Args:
        uri: Where it is.
        at_most: Bytes to read.
        headers: To be sent.
        allow_private: Whether it may redirect to a closed network.

    Raises:
        NotServedError: the server answers that it has no such file, or does not give it.
        InputError: it does not answer otherwise either, or redirects to where it may not.
    """
    check = None if allow_private else check_redirect
    if not allow_private:
        hold_host(sign_uri(uri))

    def ask(signed: str) -> Reply:
        limits = get_limits().to_web()
        return fetch(signed, limits=limits, headers=headers, at_most=at_most, check_redirect=check)

    used = sign_uri(uri)
    try:
        reply = ask(used)
        for _ in range(MAX_RENEWALS):
            if reply.status not in _REFUSED:
                break
            renew_signatures([uri])
            renewed = sign_uri(uri)
            if renewed == used:
                break
            used, reply = renewed, ask(renewed)
    except httpx.HTTPError as problem:
        raise refuse_unreadable(uri, problem) from None
    if not 200 <= reply.status < 300:
        refusal = refuse_unreadable(uri, OSError(f"the server answers {reply.status}"))
        if 400 <= reply.status < 500 and reply.status not in TRANSIENT_STATUSES:
            raise NotServedError(refusal.found, expected=refusal.expected, remedy=refusal.remedy)
        raise refusal
    return reply


def refuse_unreadable(uri: str, problem: Exception) -> InputError:
    """Make the error of a raster that GDAL gives up on, with GDAL's own last words."""
    words = name_servers(str(problem.__cause__ or problem)).strip().rstrip(".")
    return InputError(
        f"{uri} cannot be read ({words})",
        expected="a whole GeoTIFF or COG, VRT, JPEG 2000, PNG, JPEG or IMG",
        remedy="check the path, fetch the file again, or see what gdalinfo -checksum says about it",
    )


def _resolve_zip(uri: str) -> str:
    if uri.startswith("/vsizip/"):
        head, ending, member = uri.removeprefix("/vsizip/").replace("{", "").replace("}", "").partition(".zip/")
        path = Path(head + ending.rstrip("/"))
    else:
        head, _, member = unquote(uri.removeprefix("zip://")).partition(ZIP_MARK)
        path, member = Path(head), member.lstrip("/")
    path = path.expanduser().absolute()
    try:
        with zipfile.ZipFile(path) as archive:
            is_there = member in archive.namelist()
    # A name with a zero in it is a ValueError.
    except (OSError, ValueError, *ZIP_ERRORS) as problem:
        raise refuse_unreadable(str(path), problem) from None
    # No name with a way up: GDAL would follow it out of the archive.
    if not is_there or not member or ".." in PurePosixPath(member).parts:
        raise InputError(
            f"{path} has no file {member!r}",
            expected=f"zip://PATH.zip{ZIP_MARK}NAME with the name of a file in it",
            remedy="correct the name; unzip -l lists them",
        )
    return f"zip://{path}{ZIP_MARK}{member}"


# GDAL tells its troubles with the whole address, signature and all.
for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(redact_record)

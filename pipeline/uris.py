"""Kinds of URIs: local paths, members of zip archives, files on servers, and folders of runs."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from model.errors import InputError

S3_SCHEME = "s3://"
AUX_SUFFIX = ".aux.xml"
"""Ends the name of the file in which GDAL keeps what a raster's own format has no place for."""
_URL_LETTERS = "/%:@!$&'()*+,;=~-._[]?"
# ^ What stands in a URL as it is, beside letters and digits: what was encoded already among them.


def read_file_uri(uri: str) -> Path | None:
    """Give the local path that ``file:`` in any letters names; None where the URI is of another kind.

    Raises:
        InputError: it names a file of another machine.
    """
    if not uri.lower().startswith("file:"):
        return None
    host, path = split_uri(uri)[1:3]
    if host.lower() not in {"", "localhost"}:
        raise InputError(
            f"{uri} names a file of the machine {host}", expected="file:///PATH", remedy="fetch the file first"
        )
    return Path(unquote(path))


def find_lack(path: Path) -> str | None:
    """Say why a path names no file; None where it names one."""
    try:
        return None if path.is_file() else "is a folder" if path.is_dir() else "does not exist"
    # What cannot be a name, as it is too long or holds a zero.
    except (OSError, ValueError):
        return "does not exist"


def split_uri(uri: str) -> SplitResult:
    """Split a URI.

    Raises:
        InputError: it is half an address of IPv6.
    """
    try:
        return urlsplit(uri)
    except ValueError:
        raise InputError(f"{uri} names no host", expected="a URL", remedy="correct the address") from None


def expand_home(path: str) -> str:
    """Give a local path with the home folder in place of a ``~`` in front."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def normalise_uri(uri: str) -> str:
    """Write a remote URI as every program takes it: its scheme in small letters, a URL in ASCII alone.

    Keys of s3 stay as they are, letter by letter.

    Raises:
        InputError: the name of the host cannot be written in ASCII.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if scheme not in {"http", "https"}:
        return f"{scheme}://{rest}"
    parts = split_uri(f"{scheme}://{rest}")
    user, at, host = parts.netloc.rpartition("@")
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise InputError(f"{uri} names no host", expected="a URL", remedy="correct the address") from None
    texts = (_encode(text) for text in (parts.path, parts.query, parts.fragment))
    path, query, fragment = texts
    return parts._replace(netloc=f"{_encode(user)}{at}{host}", path=path, query=query, fragment=fragment).geturl()


def _encode(text: str) -> str:
    # A % that encodes nothing stands for itself.
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text), safe=_URL_LETTERS)


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Give bucket and key of ``s3://bucket/key``; no letter of the key has a meaning of its own."""
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    return bucket, key


def read_path(uri: str) -> str:
    """Give the path of a URI or of a local file, in the letters that people read."""
    if uri.lower().startswith(S3_SCHEME):
        return split_s3_uri(normalise_uri(uri))[1]
    return unquote(urlsplit(uri).path) if "://" in uri else uri


def check_run_uri(uri: str) -> str:
    """Give the URI of a run, with the home folder in place of ``~``, if there can be a run.

    Raises:
        ValueError: it is of another kind, names no bucket, or holds what belongs into the environment.
    """
    if "://" not in uri:
        return expand_home(uri)
    uri = normalise_uri(uri)
    parts = urlsplit(uri)
    if not uri.startswith(S3_SCHEME) or not parts.hostname:
        raise ValueError(f"{uri} is neither a local path nor s3://bucket/prefix; name a folder on this machine")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an s3:// URI has no user, query or fragment; put credentials into the environment (AWS_*)")
    return uri


ZIP_MARK = "!"


def split_zip_uri(uri: str) -> tuple[str, str] | None:
    """Give path and member of a file in a zip archive; None for any other URI."""
    if not uri.startswith("zip://"):
        return None
    path, _, member = uri.removeprefix("zip://").partition(ZIP_MARK)
    return path, member


def find_local_file(uri: str) -> str | None:
    """Give the local file that a URI is read from, be it an archive with a member; None for one on a server."""
    member = split_zip_uri(uri)
    path = uri if member is None else member[0]
    return None if "://" in path else path


REMOTE_SCHEMES = {"http", "https", "s3"}


def is_remote(uri: str) -> bool:
    """Tell whether this is an http(s) or s3 URI."""
    scheme, mark, _ = uri.partition("://")
    return bool(mark) and scheme.lower() in REMOTE_SCHEMES

"""Kinds of URIs: local paths, members of zip archives, files on servers, and folders of runs."""

from __future__ import annotations

from urllib.parse import urlsplit

S3_SCHEME = "s3://"


def check_run_uri(uri: str) -> str:
    """Give the URI of a run as it was, if there can be a run.

    Raises:
        ValueError: it is of another kind, names no bucket, or holds what belongs into the environment.
    """
    if "://" not in uri:
        return uri
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


REMOTE_SCHEMES = {"http", "https", "s3"}


def is_remote(uri: str) -> bool:
    """Tell whether this is an http(s) or s3 URI."""
    return urlsplit(uri).scheme.lower() in REMOTE_SCHEMES if "://" in uri else False

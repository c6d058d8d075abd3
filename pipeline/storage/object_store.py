"""Where the objects of a run are: a local folder or a prefix of a bucket, opened with the patience that each needs."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from model.errors import FolderError, InputError
from model.proxies import check_proxies

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

from pipeline.storage.s3_access import read_s3_access
from pipeline.uris import is_remote, split_s3_uri

Result = TypeVar("Result")

RETRY_TIMEOUT_S = 120.0
"""A request is repeated for so long while the server answers 5xx, cuts the connection or is silent."""
_MAX_RETRIES = 1000
# ^ The time above is what ends it.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
# ^ Twice as long from try to try, give or take. The longest is short, so that a server that is back is noticed.
_CONNECT_TIMEOUT_S, _REQUEST_TIMEOUT_S = 5.0, 60.0
# ^ The largest request is one shard read whole, of some tens of megabytes; it is written in pieces of 5 MB.

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MAX_WORDS = 300
_METADATA_SERVICE = "169.254.169.254"


def open_store(uri: str, *, retry_timeout_s: float = RETRY_TIMEOUT_S) -> ObjectStore:
    """Open the store of a run; credentials, endpoint and region of a bucket come from the environment.

    Args:
        uri: Absolute local path, or ``s3://bucket/prefix``.
        retry_timeout_s: How long a request to a bucket is repeated while it fails.

    Raises:
        InputError: the endpoint of the environment has no TLS and is not on this machine.
    """
    if not is_remote(uri):
        return LocalStore(prefix=uri)
    bucket, prefix = split_s3_uri(uri)
    return _open_bucket(bucket, prefix=prefix, max_retries=_MAX_RETRIES, retry_timeout_s=retry_timeout_s)


def open_object(
    uri: str, *, max_retries: int = _MAX_RETRIES, retry_timeout_s: float = RETRY_TIMEOUT_S
) -> tuple[ObjectStore, str]:
    """Open the bucket of one object; gives its key there, too, with all of its letters as they are.

    Args:
        uri: ``s3://bucket/key``.
        max_retries: How often a failing request is repeated at most.
        retry_timeout_s: How long a failing request is repeated.

    Raises:
        InputError: the key cannot be asked for, or the endpoint has no TLS and is not on this machine.
    """
    bucket, key = split_s3_uri(uri)
    if not key or "" in key.split("/"):
        raise InputError(
            f"{uri} has {'an empty name between two slashes' if key else 'no key'}",
            expected="s3://bucket/key with one slash after each folder",
            remedy="copy the object to another key, or correct the URI",
        )
    return _open_bucket(bucket, prefix=None, max_retries=max_retries, retry_timeout_s=retry_timeout_s), key


def _open_bucket(bucket: str, *, prefix: str | None, max_retries: int, retry_timeout_s: float) -> S3Store:
    check_proxies()
    access = read_s3_access(os.environ)
    # Options that are given replace those of the environment as a whole, so the word on http is passed on.
    client: ClientConfig = {
        "allow_http": access.allow_http,
        "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=_REQUEST_TIMEOUT_S),
    }
    retry: RetryConfig = {
        "max_retries": max_retries,
        "retry_timeout": timedelta(seconds=retry_timeout_s),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_WAIT_S),
            "max_backoff": timedelta(seconds=_LONGEST_WAIT_S),
            "base": 2,
        },
    }
    config = cast("S3Config", access.to_obstore(bucket))
    return S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry)


def repeat_request(call: Callable[[], Result], *, timeout_s: float) -> Result:
    """Repeat a call that obstore itself gives up on when the connection is cut: bulk deletes and conditional writes.

    Args:
        call: Does no harm when its first time had an effect, and only the answer was lost.
        timeout_s: How long to go on.

    Raises:
        GenericError: the time is over.
    """
    deadline_s, wait_s = time.monotonic() + timeout_s, _FIRST_WAIT_S
    while True:
        try:
            return call()
        except GenericError:
            if time.monotonic() + wait_s > deadline_s:
                raise
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def explain_failure(uri: str, failure: Exception) -> FolderError:
    """Turn what a store or the operating system says into what people can act on."""
    text = str(failure)
    words = text.partition("\n")[0].strip()[:_MAX_WORDS]
    code = _find_code(failure, text=text)
    if code in _FULL:
        return FolderError(
            f"output {uri} is full ({words})",
            expected="room for the rest of the run",
            remedy="make room and run again: what is there is kept, and nothing half-written counts",
        )
    if isinstance(failure, PermissionDeniedError | UnauthenticatedError) or code in _FORBIDDEN:
        where = "the credentials in the environment (AWS_*) and the bucket's policy" if is_remote(uri) else "its rights"
        return FolderError(
            f"output {uri} cannot be written to or read ({words})",
            expected="a place that is open to you",
            remedy=f"check {where}, or choose another --output",
        )
    if is_remote(uri) and "NoSuchBucket" in text:
        return FolderError(
            f"output {uri}: there is no such bucket ({words})",
            expected="a bucket that is there",
            remedy="make it, or correct --output, AWS_ENDPOINT_URL or AWS_REGION",
        )
    if is_remote(uri) and _METADATA_SERVICE in text:
        return FolderError(
            f"output {uri}: there are no credentials",
            expected="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a role of this machine",
            remedy="set them; AWS_SKIP_SIGNATURE=true asks without any",
        )
    if is_remote(uri):
        return FolderError(
            f"output {uri} does not answer ({words})",
            expected="an object store that answers",
            remedy="see whether it is up and can be reached, then run again: what is there is kept",
        )
    return FolderError(
        f"output {uri} cannot be written to ({words})",
        expected="a folder that can be made, written to and read",
        remedy="choose another --output, or check the disk and the folder's rights",
    )


def _find_code(failure: Exception, *, text: str) -> int | None:
    if isinstance(failure, OSError) and failure.errno is not None:
        return failure.errno
    # The store's errors carry the system's number in their words alone.
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None

"""Who may talk to the workers of a run: whoever can send a scheduler a task has code run as the user of the run."""

from __future__ import annotations

import ipaddress
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dask
from distributed import LocalCluster
from distributed.security import Security

from model.errors import InputError
from pipeline.config.cluster import ClusterConfig

_PLAIN = {"tcp", "ws", "ucx", "ucxx"}
"""Schemes of Dask's addresses that neither encrypt nor ask who it is."""


def make_security(config: ClusterConfig, *, cluster_class: type) -> Security | None:
    """Make the TLS settings of a cluster that is started here.

    The loopback keeps other machines out, not the other users of this one. So where the config names no certificates,
    workers of this machine get one that was made for them; it lives in memory, and as long as they do.

    Raises:
        InputError: a certificate or key is missing or cannot be used.
    """
    security = read_security(config)
    if security is None and not config.allow_unencrypted and issubclass(cluster_class, LocalCluster):
        temporary: Security = Security.temporary()
        return temporary
    return security


@contextmanager
def keep_own_scratch() -> Iterator[str]:
    """Have Dask's processes keep their files, while the context lasts, in a new folder that is nobody else's.

    Dask's own is one of a known name, which whoever comes first can make; and all that lies in it can be imported in
    place of a library, by the process that starts workers and by theirs.
    """
    root = dask.config.get("temporary-directory", default=None)
    with tempfile.TemporaryDirectory(prefix="deltavlm-", dir=root, ignore_cleanup_errors=True) as folder:
        try:
            with dask.config.set({"temporary-directory": folder}):
                yield folder
        finally:
            # Once it is gone, anybody can make one of its name.
            sys.path[:] = [each for each in sys.path if not Path(each).is_relative_to(folder)]


def read_security(config: ClusterConfig) -> Security | None:
    """Make Dask's TLS settings of the config's certificates, if it names any: they refuse to talk without.

    Raises:
        InputError: a certificate or key is missing or cannot be used.
    """
    if config.security is None:
        return None
    files = config.security.model_dump(exclude_none=True)
    for key, path in files.items():
        if not Path(path).is_file():
            raise InputError(
                f"cluster.security.{key}: no file {path}", expected="a PEM file", remedy="correct the path"
            )
    security = Security(require_encryption=True, **files)
    try:
        for role in ("client", "scheduler", "worker"):
            if f"tls_{role}_cert" in files:
                security.get_connection_args(role)
    except OSError as problem:
        # ssl.SSLError is one of them; its words are OpenSSL's and hold no content of the files.
        raise InputError(
            f"cluster.security: certificates cannot be used ({problem})",
            expected="certificates in PEM with their keys, signed by tls_ca_file",
            remedy="check the files with `openssl verify`",
        ) from None
    return security


def check_encrypted(address: str, *, config: ClusterConfig) -> None:
    """Refuse a scheduler that talks to everyone who reaches it, unless the config says that this is meant.

    A scheduler that runs already is taken as it is on the loopback: who started it there has decided.

    Args:
        address: Of the scheduler, such as ``tcp://host:8786``.
        config: What the config says of the cluster.

    Raises:
        InputError: its address is of a kind without TLS.
    """
    found = urlsplit(address if "://" in address else f"tcp://{address}")
    is_left_alone = config.kind == "address" and _is_loopback(found.hostname or "")
    if config.allow_unencrypted or is_left_alone or found.scheme not in _PLAIN:
        return
    raise InputError(
        f"cluster of kind {config.kind}: its scheduler talks without TLS ({address}), so everyone who reaches it can "
        "run code as its user",
        expected="a scheduler at tls://, with certificates in cluster.security",
        remedy="give it certificates, or set cluster.allow_unencrypted: true where nobody else reaches it",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

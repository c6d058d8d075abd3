"""A real S3 endpoint on this machine: moto's server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import obstore
from obstore.store import S3Store
from patience import PATIENCE_S

BUCKET = "runs"
SECRET = "s3cr3t-k3y-that-nobody-may-see"
SERVE = """
import signal

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
signal.pause()
"""


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server with one empty bucket."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it."""
        return make_environment(self.port)

    def open_store(self, prefix: str) -> S3Store:
        """Open a prefix of the bucket beside the code under test."""
        return S3Store(
            BUCKET,
            prefix=prefix,
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key_id="AKIATEST",
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def read_all(self, prefix: str) -> dict[str, bytes]:
        """Give every object below a prefix by its name."""
        store = self.open_store(prefix)
        names = [entry["path"] for batch in obstore.list(store) for entry in batch]
        return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def make_environment(port: int) -> dict[str, str]:
    """Give the variables that lead to an S3 endpoint on a port of this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def start_s3_server() -> Iterator[S3Server]:
    """Start the server on a port that the system gives, with an empty bucket, and stop it with the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        _make_bucket(port)
        yield S3Server(port=port)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        process.stdout.close()


def _make_bucket(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
    urllib.request.urlopen(request, timeout=PATIENCE_S).close()

"""A real STAC API: stac-fastapi-pgstac on PostgreSQL and PostGIS, made, filled and started for the tests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parent / "stac-api-requirements.txt"
INSTALL_TIMEOUT_S, START_TIMEOUT_S = 240, 240
ACCOUNT = "postgres"
"""PostgreSQL does not run as root; Debian's package brings this account."""


class MissingPartError(Exception):
    """Something of the API is not on this machine; says what."""


def prepare_environment(cache: Path) -> Path:
    """Make the venv of the API, once for these versions, and give its folder of programs."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"stac-api-{digest}"
    mark = folder / "complete"
    if not mark.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", folder], check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
            )
            command = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run(
                [*command, "-r", REQUIREMENTS], check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
        except (subprocess.SubprocessError, OSError) as problem:
            words = (getattr(problem, "stderr", None) or str(problem)).strip().splitlines()
            raise MissingPartError(f"stac-fastapi-pgstac cannot be installed ({words[-1] if words else ''})") from None
        mark.touch()
    return folder / "bin"


def find_postgres() -> Path:
    """Find the folder of PostgreSQL's programs, Debian's or those on the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if (found := shutil.which("initdb")) is not None:
        folders.append(Path(found).parent)
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "pg_ctl").is_file():
            return folder
    raise MissingPartError("no PostgreSQL; install postgresql-15 and postgresql-15-postgis-3")


@contextmanager
def run_api(collections: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]], *, cache: Path) -> Iterator[str]:
    """Start a database and the API on it with these collections and items, and give the API's root.

    Raises:
        MissingPartError: PostgreSQL, PostGIS or the API is not there and cannot be had.
    """
    postgres, programs = find_postgres(), prepare_environment(cache)
    with ExitStack() as stack:
        # Below the system's folder: PostgreSQL's account may not enter pytest's.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stac-api-", ignore_cleanup_errors=True)))
        stack.enter_context(_run_database(postgres, folder=folder))
        _fill(programs, collections, items, folder=folder)
        yield stack.enter_context(_run_server(programs, folder=folder))


@contextmanager
def _run_database(postgres: Path, *, folder: Path) -> Iterator[None]:
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    data = folder / "data"
    _run_as_account([postgres / "initdb", "-D", data, "-U", ACCOUNT, "-A", "trust", "-E", "UTF8", "--no-sync"])
    # A socket in the folder and no port: no other test's database is in the way. Nothing has to outlive the tests.
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off"
    _run_as_account([postgres / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
    try:
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgis'"
        told = _run_as_account([postgres / "psql", "-h", folder, "-U", ACCOUNT, "-Atc", query])
        if told.strip() != "1":
            raise MissingPartError("no PostGIS; install postgresql-15-postgis-3")
        yield
    finally:
        _run_as_account([postgres / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])


def _run_as_account(command: Sequence[str | Path]) -> str:
    account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        result = subprocess.run(
            [str(word) for word in command],
            check=True,
            stdout=subprocess.PIPE,
            # The server keeps what it inherits: waiting for the end of a pipe would be waiting for the server.
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            timeout=START_TIMEOUT_S,
            **account,
        )
    except (subprocess.SubprocessError, OSError, LookupError) as problem:
        raise MissingPartError(f"PostgreSQL does not start ({problem})") from None
    return result.stdout


def _fill(
    programs: Path, collections: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]], *, folder: Path
) -> None:
    environment = {**os.environ, "PGHOST": str(folder), "PGUSER": ACCOUNT, "PGDATABASE": ACCOUNT}
    pypgstac = programs / "pypgstac"
    subprocess.run([pypgstac, "migrate"], check=True, capture_output=True, env=environment, timeout=START_TIMEOUT_S)
    for name, rows in (("collections", collections), ("items", items)):
        path = folder / f"{name}.ndjson"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        command = [pypgstac, "load", name, path, "--method", "upsert"]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=START_TIMEOUT_S)


@contextmanager
def _run_server(programs: Path, *, folder: Path) -> Iterator[str]:
    environment = {
        **os.environ,
        # It stands in a URL, where a path is written so.
        "PGHOST": str(folder).replace("/", "%2F"),
        "PGPORT": "5432",
        "PGUSER": ACCOUNT,
        "PGPASSWORD": "none",
        "PGDATABASE": ACCOUNT,
    }
    # A port that listens already: who comes before the server is up waits in line.
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "api.log").open("wb") as log:
        command = [programs / "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app"]
        process = subprocess.Popen(
            [*command, "--fd", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(timeout=START_TIMEOUT_S)

"""A real Prefect server and what works for it, each a process of its own that is gone when its context ends."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dispositions import heed_hangups
from made_scenes import command_environment
from patience import PATIENCE_S, Found, wait_for

PREFECT = [sys.executable, "-m", "prefect"]
END_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PAUSE_S = 0.5
"""Between two questions to a server: asked without one, it does little else than answer."""
N_BUSY_ANSWERS = 5
"""How often a server may say that its database is busy before it is believed: as often as Prefect's own clients ask."""
PORTS = range(20_000, 32_000)
"""Below those that the system gives to whoever asks for any, outgoing connections first of all."""


def find_free_port() -> int:
    """Find a port that nobody takes before the server does, nor while it is being started anew."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port for a server")


@contextmanager
def start_process(arguments: list[str], *, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a process group of its own, and end the whole group with the context."""
    with log.open("ab") as sink:
        with heed_hangups():
            process = subprocess.Popen(
                arguments, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            stop(process)


def open_request(request: urllib.request.Request | str) -> Any:
    """Send a request as Prefect's own clients do: on 503, with which a server answers while SQLite is busy, again."""
    for _ in range(N_BUSY_ANSWERS):
        try:
            return urllib.request.urlopen(request, timeout=PATIENCE_S)
        except urllib.error.HTTPError as answer:
            if answer.code != 503:
                raise
            time.sleep(PAUSE_S)
    return urllib.request.urlopen(request, timeout=PATIENCE_S)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started as a power cut would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@dataclass(kw_only=True)
class PrefectServer:
    """A server on a port of its own, and its API in plain words."""

    folder: Path
    first_home: Path | None = None
    """What its home is a copy of, as `provide_home` makes it; left out, it makes its tables itself."""
    port: int = field(default_factory=find_free_port)
    settings: dict[str, str] = field(default_factory=dict)
    """Further environment variables of the server and of what works for it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        """Where it and what works for it keep things."""
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to know of it."""
        return command_environment(
            PREFECT_HOME=str(self.home),
            PREFECT_API_URL=f"{self.url}/api",
            PREFECT_SERVER_API_PORT=str(self.port),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            PREFECT_CLI_PROMPT="false",
            PREFECT_RUNNER_POLL_FREQUENCY="1",
            PREFECT_WORKER_QUERY_SECONDS="1",
            # How often the server looks for runs to schedule and for automations that are due.
            PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="2",
            PREFECT_SERVER_SERVICES_TRIGGERS_PG_NOTIFY_ENABLED="false",
            DO_NOT_TRACK="1",
            OMP_NUM_THREADS="1",
            **self.settings,
        )

    @contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """Have it run while the context lasts; again, and it has all it had before."""
        if self.first_home is not None and not self.home.exists():
            shutil.copytree(self.first_home, self.home)
        arguments = [*PREFECT, "server", "start", "--port", str(self.port)]
        with start_process(arguments, environment=self.environment, log=self.folder / "server.log") as process:
            wait_for(lambda: self.is_healthy() or process.poll() is not None, what="healthy Prefect server")
            assert process.poll() is None, (self.folder / "server.log").read_text()
            yield process

    def is_healthy(self) -> bool:
        try:
            return bool(self.get("health"))
        except (urllib.error.URLError, OSError):
            return False

    @contextmanager
    def work(self, *arguments: str, log: str = "worker.log") -> Iterator[subprocess.Popen[bytes]]:
        """Have ``prefect`` or another program work for it."""
        with start_process(list(arguments), environment=self.environment, log=self.folder / log) as process:
            yield process

    def call(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run ``prefect ARGUMENTS`` to its end and give what it says."""
        cwd = cwd or Path.cwd()
        done = subprocess.run(
            [*PREFECT, "--no-prompt", *arguments],
            # As a shell would have it; prefect.yaml asks for it.
            env={**self.environment, "PWD": str(cwd)},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str) -> Any:
        with open_request(f"{self.url}/api/{path}") as answer:
            return json.load(answer)

    def post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            method="POST",
        )
        with open_request(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def list_runs(self, deployment: str) -> list[dict[str, Any]]:
        """List the runs of a deployment, the first to be expected first."""
        return self.post(
            "flow_runs/filter", deployments={"name": {"any_": [deployment]}}, sort="EXPECTED_START_TIME_ASC", limit=50
        )

    def find_deployment(self, name: str) -> dict[str, Any] | None:
        found = self.post("deployments/filter", deployments={"name": {"any_": [name]}})
        return found[0] if found else None

    def start_run(self, deployment: dict[str, Any], **parameters: Any) -> str:
        """Ask for a run at once and give its id."""
        answer = self.post(f"deployments/{deployment['id']}/create_flow_run", parameters=parameters)
        return str(answer["id"])

    def wait_for(self, look: Callable[[], Found | None], *, what: str) -> Found:
        """Wait for something that the server knows."""
        return wait_for(look, what=what, pause_s=PAUSE_S)

    def wait_for_state(self, run_id: str, *types: str) -> dict[str, Any]:
        """Wait until a run is in one of some states, or, without any, has ended."""

        def look() -> dict[str, Any] | None:
            run = self.get(f"flow_runs/{run_id}")
            return run if run["state_type"] in (set(types) or END_STATES) else None

        return self.wait_for(look, what=f"run in {', '.join(types) or 'an end state'}")

    def read_log(self, run_id: str) -> str:
        logs = self.post("logs/filter", logs={"flow_run_id": {"any_": [run_id]}}, sort="TIMESTAMP_ASC", limit=200)
        return "\n".join(line["message"] for line in logs)

    def read_artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        found = self.post("artifacts/filter", flow_runs={"id": {"any_": [run_id]}}, limit=100)
        return {artifact["key"]: artifact for artifact in found}


def provide_home(folder: Path) -> Path:
    """Give what a server leaves in its home at its first start, of whose time most goes into tables and block types.

    Args:
        folder: Where it is made, if it is not there yet; other processes wait meanwhile.
    """
    home = folder / f"home-{version('prefect')}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=folder) as name:
                server = PrefectServer(folder=Path(name))
                with server.run():
                    # It comes last: a note of the block types that are there.
                    server.wait_for((server.home / "memo_store.toml").exists, what="block types")
                server.home.rename(home)
    return home

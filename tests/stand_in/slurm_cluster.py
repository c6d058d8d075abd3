"""A SLURM cluster of one node on this machine, of Debian's slurm-wlm: controller, node and munge as processes."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from patience import end_process

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "scancel")
_START_S = 60.0


class NoSlurmError(Exception):
    """Why there is no cluster here."""


@contextmanager
def start_slurm(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start a cluster with the queue ``main``, and end it with the context; gives what its commands need to know.

    Args:
        folder: Empty folder for its state and logs.

    Raises:
        NoSlurmError: it is not installed, or does not start here.
    """
    # Debian has the daemons where only root's path leads.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = {program: shutil.which(program, path=path) for program in PROGRAMS}
    if missing := [program for program, place in found.items() if place is None]:
        raise NoSlurmError(f"{', '.join(missing)} not installed; apt-get install slurm-wlm munge")
    programs = {program: str(place) for program, place in found.items()}
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    _configure(folder)
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                [programs[name], *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(end_process, process)
            return process

        key, secret = folder / "munge.sock", folder / "munge.key"
        files = [f"--{name}-file={folder / f'munge.{name}'}" for name in ("pid", "log", "seed", "key")]
        secret.touch(mode=0o600)
        secret.write_bytes(secrets.token_bytes(128))
        daemons = [start("munged", "--foreground", "--force", f"--socket={key}", *files)]
        _wait(key.exists, daemons=daemons, folder=folder)
        daemons += [start("slurmctld", "-D", "-c"), start("slurmd", "-D")]

        def is_idle() -> bool:
            told = subprocess.run(
                [programs["sinfo"], "-h", "-o", "%t"], env={**os.environ, **environment}, capture_output=True, text=True
            )
            return told.stdout.strip() == "idle"

        _wait(is_idle, daemons=daemons, folder=folder)
        yield environment


def _configure(folder: Path) -> None:
    ports = []
    with ExitStack() as stack:
        for _ in range(2):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host, user = socket.gethostname().partition(".")[0], getpass.getuser()
    settings = {
        "ClusterName": "one",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports[0],
        "SlurmdPort": ports[1],
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.sock'}",
        "CredType": "cred/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        # A container has no groups of its own to give out.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SchedulerParameters": "sched_interval=1",
        "SlurmdParameters": "config_overrides",
        "KillWait": 2,
    }
    n_cpus, memory_mb = max(2, os.cpu_count() or 2), psutil.virtual_memory().total >> 20
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory={memory_mb} State=UNKNOWN")
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
    (folder / "slurm.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")
    kind = "cgroup/v1" if Path("/sys/fs/cgroup/memory").is_dir() else "autodetect"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={kind}\n", encoding="utf-8")


def _wait(is_ready: object, *, daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    assert callable(is_ready)
    end = time.monotonic() + _START_S
    while not is_ready():
        ended = [process for process in daemons if process.poll() is not None]
        if ended or time.monotonic() > end:
            name = Path(str((ended or daemons[-1:])[0].args[0])).name  # type: ignore[index]
            lines = (folder / f"{name}.out").read_text(encoding="utf-8", errors="replace").splitlines()
            raise NoSlurmError(f"{name} does not start here: {' | '.join(lines[-3:])}")
        time.sleep(0.2)

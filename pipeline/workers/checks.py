"""Whether workers are fit for a run, before it starts: the same packages as here, the same files before their eyes."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from distributed import Client

from model.errors import InputError
from model.interface import ENGINE_VERSION
from pipeline.storage.folder import RunFolder
from pipeline.uris import find_local_file
from pipeline.workers.tasks import ask_workers

_ENGINE = "answering engine"
_EXACT = ("deltavlm-monitor", "dask", "distributed", "cloudpickle")
"""Packages that talk to each other over the wire, or are this one."""
_ALIKE = ("numpy", "torch", "transformers", "tokenizers", "safetensors", "zarr", "rasterio", "pyarrow", "obstore")
"""Packages that results or pickles depend on; patch releases and builds may differ."""


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What one worker makes of the files it is to work with."""

    problem: str = ""
    """What it does not see; empty where all is well."""
    written: tuple[str, ...] = ()
    """What it has put into the folder, to be seen by others."""


@cache
def list_versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that have to be alike, without importing them."""
    return {
        "python": platform.python_version(),
        _ENGINE: str(ENGINE_VERSION),
        **{name: _find_version(name) for name in (*_EXACT, *_ALIKE)},
    }


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def find_mismatches(found: Mapping[str, str], *, expected: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give found and expected version of every package whose difference would matter, by name.

    Packages that only one side tells of are not compared.
    """
    return {
        name: (found[name], expected[name])
        for name in expected
        if name in found and _shorten(name, found[name]) != _shorten(name, expected[name])
    }


def _shorten(name: str, text: str) -> str:
    # A build such as 2.13.0+cu126 is the same release.
    public = text.partition("+")[0]
    return public if name in {*_EXACT, _ENGINE} else ".".join(public.split(".")[:2])


def refuse_mismatch(found: Mapping[str, str], *, expected: Mapping[str, str], source: str) -> None:
    """Refuse a worker or scheduler whose packages differ in what matters.

    Raises:
        InputError: they do.
    """
    if mismatches := find_mismatches(found, expected=expected):
        raise InputError(
            f"{source} has " + ", ".join(f"{name} {theirs}" for name, (theirs, _) in mismatches.items()),
            expected="as here, " + ", ".join(f"{name} {ours}" for name, (_, ours) in mismatches.items()),
            remedy="install the same environment there, such as one image or one constraints file for all",
        )


def check_workers(client: Client, *, folder: RunFolder, scenes: Sequence[str]) -> None:
    """Refuse to start work on workers that would only fail at it, or do it differently.

    Args:
        client: The cluster.
        folder: The run's folder, which every worker has to read and write.
        scenes: Where the scenes' files are; local ones have to lie before every worker.

    Raises:
        InputError: a worker has other packages or does not see a file; it names the worker and what is wrong.
    """
    _check_versions(client)
    files = {path for uri in scenes if (path := find_local_file(uri)) is not None and Path(path).is_file()}
    sizes = {path: Path(path).stat().st_size for path in sorted(files)}
    name, token = f"probe-{uuid4().hex}", uuid4().hex
    written = [name]
    folder.put(name, token.encode())
    try:
        for address, found in ask_workers(client, _probe, folder, name, token, sizes).items():
            if isinstance(found, BaseException):
                problem = f"cannot use the run's folder {folder.uri} ({type(found).__name__}: {found})"
            elif isinstance(found, _Sight):
                written += found.written
                is_elsewhere = not all(folder.has(each) for each in found.written)
                problem = "writes into another folder than this process" if is_elsewhere else found.problem
            if problem:
                raise InputError(
                    f"worker {address} {problem}",
                    expected="the same files under the same paths for all workers",
                    remedy="put them on storage that all machines share, such as s3://, or use cluster.kind: local",
                )
    finally:
        folder.delete([each for each in written if folder.has(each)])


def _check_versions(client: Client) -> None:
    # Dask's own question is answered without a line of ours, by whatever worker and scheduler there is.
    told = cast(dict[str, Any], client.get_versions(check=False))
    ours = list_versions()
    others = {f"worker {address}": info for address, info in told["workers"].items()}
    for source, info in ({"the scheduler": told["scheduler"]} | others).items():
        packages = (info or {}).get("packages", {})
        python = ".".join(str(packages.get("python", "")).split(".")[:3])
        refuse_mismatch(
            {name: text for name, text in packages.items() if text} | {"python": python}, expected=ours, source=source
        )
    for address, found in ask_workers(client, list_versions).items():
        if isinstance(found, BaseException):
            raise InputError(
                f"worker {address} cannot run this package ({type(found).__name__}: {found})",
                expected=f"deltavlm-monitor {ours['deltavlm-monitor']} on every worker",
                remedy="install it there, such as from one image for all",
            )
        refuse_mismatch(found, expected=ours, source=f"worker {address}")


def _probe(folder: RunFolder, name: str, token: str, sizes: Mapping[str, int]) -> _Sight:
    # Looked at first, as a local folder that is not there would be made.
    is_there = "://" in folder.uri or Path(folder.uri).is_dir()
    try:
        is_same = is_there and folder.read(name).decode() == token
    except FileNotFoundError:
        is_same = False
    except OSError as problem:
        return _Sight(problem=f"cannot read the run's folder {folder.uri} ({problem})")
    if not is_same:
        return _Sight(problem=f"does not see the run's folder {folder.uri}")
    for path, size in sizes.items():
        if not Path(path).is_file():
            return _Sight(problem=f"does not see the scene {path}")
        if Path(path).stat().st_size != size:
            return _Sight(problem=f"sees another scene {path}, of {Path(path).stat().st_size} bytes, not {size}")
    answer = f"{name}-{uuid4().hex}"
    try:
        folder.put(answer, b"")
    except OSError as problem:
        return _Sight(problem=f"cannot write into the run's folder {folder.uri} ({problem})")
    return _Sight(written=(answer,))

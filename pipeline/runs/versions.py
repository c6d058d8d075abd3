"""By what a run was made: Python, the packages that shape its result, and this program's own code."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import resources
from importlib.metadata import version

_PACKAGES = ("deltavlm-monitor", "torch", "transformers", "dask", "rasterio", "zarr", "geopandas", "pyarrow")
_OWN_PACKAGES = ("model", "pipeline")
_OWN_SUFFIXES = {".py", ".html", ".css", ".mjs", ".js", ".yaml", ".qml"}


@cache
def list_versions() -> dict[str, str]:
    """Give versions by name, and under ``code`` the first digits of a hash of this program's modules and templates."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES} | {"code": _hash_code()}


def _hash_code() -> str:
    digest = hashlib.sha256()
    for package in _OWN_PACKAGES:
        with resources.as_file(resources.files(package)) as folder:
            for path in sorted(path for path in folder.rglob("*") if path.suffix in _OWN_SUFFIXES):
                digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]

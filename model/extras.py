"""What only some commands need comes with extras of this package; a missing one is told before any work begins."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from model.errors import InputError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "clouds": ("omnicloudmask",),
    "convert": ("google.protobuf", "sentencepiece"),
    "cuda": ("dask_cuda",),
    "docx": ("docx",),
    "mcp": ("duckdb", "mcp"),
    "openai": ("openai",),
    "smollm2": ("gguf",),
    "train": ("pycocoevalcap", "tensorboard"),
}
"""The modules that each extra of pyproject.toml brings."""


def require_extra(extra: str, *, use: str, otherwise: str | None = None) -> None:
    """Tell how to get the packages of an extra, if they are not there; none of them is imported.

    Args:
        extra: One of `EXTRAS`.
        use: What needs them, in the words of who asked for it.
        otherwise: What could be done without them.

    Raises:
        InputError: one of them is missing.
    """
    missing = [module for module in EXTRAS[extra] if not _is_installed(module)]
    if missing:
        remedy = f"pip install 'deltavlm-monitor[{extra}]'"
        raise InputError(
            f"{use} without {', '.join(missing)}",
            expected=f"the packages of the extra {extra}",
            remedy=f"{remedy}; or {otherwise}" if otherwise else remedy,
        )


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package that the module is in.
        return False

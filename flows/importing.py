"""Imports without the garbage collector, which would look through half a million new objects again and again.

Modules leave no garbage: of the seconds that torch, Dask and their like take to import, it was a fifth.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def import_undisturbed() -> Iterator[None]:
    """Keep the garbage collector waiting while the context lasts; what is there by then it passes over for good."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()

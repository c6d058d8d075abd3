"""Warped rasters that stay open from one window to the next.

Neighbouring windows share blocks, of the files and of the warp. GDAL keeps what it has decoded and warped only for as
long as a raster is open, and opening one costs as much as warping a tile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rasterio.vrt import WarpedVRT

Raster = TypeVar("Raster")


@dataclass(frozen=True, kw_only=True)
class _Entry(Generic[Raster]):
    key: Hashable
    raster: Raster
    held: ExitStack


class OpenRasters(Generic[Raster]):
    """A few rasters that nobody reads at the moment, those read last; each is lent to one thread at a time."""

    def __init__(self, *, at_most: int, idle_s: float) -> None:
        """Begin with none.

        Args:
            at_most: Rasters that are kept.
            idle_s: Seconds without any read after which none is kept: whoever removes a file gets its space back.
        """
        self._at_most, self._idle_s = at_most, idle_s
        self._entries: list[_Entry[Raster]] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    @contextmanager
    def take(self, key: Hashable, hold: Callable[[], AbstractContextManager[Raster]]) -> Iterator[Raster]:
        """Give an open raster while the context lasts.

        Args:
            key: Rasters of equal keys are the same.
            hold: Opens one that is not kept; it stays open until it is put aside for others, or an error comes.
        """
        entry = self._find(key) or _open(key, hold)
        try:
            yield entry.raster
        except BaseException:
            entry.held.close()
            raise
        self._put_back(entry)

    def close(self) -> None:
        """Close all that nobody reads."""
        with self._lock:
            unused, self._entries = self._entries, []
        for entry in unused:
            entry.held.close()

    def _find(self, key: Hashable) -> _Entry[Raster] | None:
        with self._lock:
            for index, entry in enumerate(self._entries):
                if entry.key == key:
                    return self._entries.pop(index)
        return None

    def _put_back(self, entry: _Entry[Raster]) -> None:
        with self._lock:
            self._entries.append(entry)
            surplus = self._entries[: -self._at_most]
            del self._entries[: -self._at_most]
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._idle_s, self.close)
            self._timer.daemon = True
            self._timer.start()
        for other in surplus:
            other.held.close()


def _open(key: Hashable, hold: Callable[[], AbstractContextManager[Raster]]) -> _Entry[Raster]:
    with ExitStack() as stack:
        raster = stack.enter_context(hold())
        return _Entry(key=key, raster=raster, held=stack.pop_all())


KEPT_OPEN: OpenRasters[WarpedVRT] = OpenRasters(at_most=8, idle_s=20)
"""Those of this process: colours and classes of both dates, of two threads."""

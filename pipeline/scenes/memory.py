"""Memory that rasters take while they are decoded: a file of some kilobytes may hold blocks of gigabytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rasterio.io import DatasetReader

from model.errors import InputError

MAX_PIXELS = 10**12
"""Pixels of a file beyond which its header is not believed: a million by a million."""
MAX_BLOCK_BYTES = 1 << 29
"""Bytes that one block of a file may take in memory when it is decoded; whatever is read, whole blocks are."""
DECODED_BYTES = 1 << 29
"""What all blocks may take that the threads of one process decode at a time, beside what GDAL keeps of them."""


class Budget:
    """So many bytes for all threads of a process; whoever wants more than is left waits."""

    def __init__(self, n_bytes: int) -> None:
        """Begin with all of them."""
        self._n_bytes = self._n_left = n_bytes
        self._changed = threading.Condition()

    @contextmanager
    def take(self, n_bytes: int) -> Iterator[None]:
        """Have some while the context lasts; what is larger than the whole has all of it, and is alone."""
        wanted = min(n_bytes, self._n_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._n_left >= wanted)
            self._n_left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._n_left += wanted
                self._changed.notify_all()


DECODED = Budget(DECODED_BYTES)
"""That of this process."""


def count_block_bytes(dataset: DatasetReader) -> int:
    """Tell how much memory the largest block of a raster takes when it is decoded; only whole blocks are."""
    is_interleaved = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    sizes = [
        # numpy has no complex numbers of two 16-bit integers.
        height * width * (4 if dtype == "complex_int16" else np.dtype(dtype).itemsize)
        for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    ]
    return sum(sizes) if is_interleaved else max(sizes, default=0)


def check_size(dataset: DatasetReader, *, uri: str) -> None:
    """Refuse a raster whose header is not to be believed, or whose blocks would fill memory.

    Raises:
        InputError: it is one.
    """
    if dataset.width * dataset.height > MAX_PIXELS:
        raise InputError(
            f"{uri} says that it has {dataset.width} x {dataset.height} pixels",
            expected=f"at most {MAX_PIXELS:.0e} pixels",
            remedy="check the file with gdalinfo; cut it into several, and name them as a list",
        )
    largest = count_block_bytes(dataset)
    if largest > MAX_BLOCK_BYTES:
        raise InputError(
            f"{uri} is stored in blocks that take {largest / 1e6:.0f} MB each to decode",
            expected=f"blocks of at most {MAX_BLOCK_BYTES / 1e6:.0f} MB",
            remedy="store it in tiles, for example with gdal_translate -of COG -co BLOCKSIZE=512",
        )

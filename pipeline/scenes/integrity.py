"""Whether a scene is whole and what it holds: checksums, and a look at the pixels of a large one.

A run knows its inputs by their content and never by their path.
"""

from __future__ import annotations

import base64
import hashlib
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import obstore
from obstore.exceptions import BaseError as ObstoreError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from model.errors import InputError
from pipeline.grid.grid import GDAL_ERRORS
from pipeline.grid.window import BoolArray
from pipeline.scenes.rasters import REMOTE_TIMEOUT_S, open_raster, refuse_unreadable
from pipeline.scenes.scene import Asset, BandSource
from pipeline.storage.object_store import open_object
from pipeline.uris import is_remote, split_zip_uri

_READ_BYTES = 1 << 22
_ASK_AT_ONCE = 8
_UNHASHED_SUFFIXES = (".aux.xml", ".ovr")
# ^ Files that change none of the pixels; what they say of CRS or nodata, the open raster says too.


def compute_checksum(uri: str, *, files: Sequence[str]) -> str:
    """Tell one content of a raster from another.

    Args:
        uri: An absolute local path, or an http(s), s3 or zip URI.
        files: The other files that make up the raster, such as the parts of a VRT: local paths or resolved URIs.

    Returns:
        sha256 in hex of what is in local files, or ``etag:...`` of a remote one; of a VRT that reads remote files,
        sha256 over their etags too.

    Raises:
        InputError: the server does not tell one content from another.
        OSError: the file cannot be read.
    """
    parts = sorted({file for file in files if is_remote(file)})
    own = _read_etag(uri) if is_remote(uri) else _hash_files(uri, files=files)
    if not parts:
        return own
    with ThreadPoolExecutor(max_workers=_ASK_AT_ONCE) as pool:
        etags = list(pool.map(_read_etag, parts))
    return hashlib.sha256("\n".join([own, *etags]).encode()).hexdigest()


def _read_etag(uri: str) -> str:
    return _read_s3_etag(uri) if uri.startswith("s3://") else _read_http_etag(uri)


def _hash_files(uri: str, *, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    if (archive := split_zip_uri(uri)) is not None:
        # The whole archive: the file may be a VRT of others in it.
        uri, member = archive
        digest.update(member.encode() + b"\0")
    others = sorted(f for f in files if f != uri and not f.endswith(_UNHASHED_SUFFIXES) and Path(f).is_file())
    for path in [uri, *others]:
        with Path(path).open("rb") as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
    return digest.hexdigest()


def _read_http_etag(uri: str) -> str:
    # One byte by GET: signed URLs often allow no HEAD.
    address, headers = _split_credentials(uri)
    request = urllib.request.Request(address, headers={"Range": "bytes=0-0", **headers})
    with urllib.request.urlopen(request, timeout=REMOTE_TIMEOUT_S) as response:
        told = response.headers
    modified, length = told.get("Last-Modified"), told.get("Content-Range")
    etag = told.get("ETag") or (f"{modified} {length}" if modified else None)
    return _check_etag(uri, etag)


def _split_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """Give a URI without user and password, which urllib would take for the host, and the header that says them."""
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri, {}
    token = base64.b64encode(unquote(user).encode()).decode("ascii")
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {token}"}


def _read_s3_etag(uri: str) -> str:
    store, key = open_object(uri)
    try:
        return _check_etag(uri, obstore.head(store, key)["e_tag"])
    except (ObstoreError, OSError) as problem:
        raise refuse_unreadable(uri, problem) from None


def _check_etag(uri: str, etag: str | None) -> str:
    if not etag:
        raise InputError(
            f"{uri} comes from a server that sends neither ETag nor Last-Modified",
            expected="one of them, to notice when the file changes",
            remedy="fetch the file first",
        )
    return "etag:" + etag.strip('"')


_STRIP_ROWS = 512
_SMALL_SCENE_PX = 4096 * 4096
_ALPHA_SAMPLE_PX = 256
_MOST_BETWEEN = 0.5
_MOST_BLOCKS = 1 << 16
# ^ Blocks of which the length is looked up: 0.1 s worth.


def check_pixels(sources: Sequence[BandSource]) -> bool:
    """Find out cheaply whether the pixels are there: all of a small raster, of a large one the length.

    Args:
        sources: The bands of one raster that are going to be read.

    Returns:
        Whether there is a valid pixel. A large raster is taken to have some: its tiles say so if not.

    Raises:
        InputError: the file is shorter than it says, or a small one has a block that cannot be decoded.
    """
    uri = sources[0].asset.uri
    try:
        with open_raster(uri) as dataset:
            _check_length(dataset)
            is_small = dataset.width * dataset.height <= _SMALL_SCENE_PX
            return _read_through(dataset, sources=sources) if is_small else True
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(uri, problem) from None


def check_alpha(asset: Asset, *, date: str) -> None:
    """Refuse an alpha band whose values are those of a picture; of a large raster without overviews nobody looks.

    Args:
        asset: The raster.
        date: ``before`` or ``after``, to name the config key in errors.

    Raises:
        InputError: most of its pixels are neither opaque nor transparent, or it cannot be read.
    """
    is_large = asset.width * asset.height > _SMALL_SCENE_PX and not asset.overviews
    if asset.alpha_band is None or is_large:
        return
    try:
        with open_raster(asset.uri) as dataset:
            size = min(dataset.height, _ALPHA_SAMPLE_PX), min(dataset.width, _ALPHA_SAMPLE_PX)
            alpha = dataset.read(asset.alpha_band, out_shape=size)
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(asset.uri, problem) from None
    # What is opaque is written as 255 in files of 16 bits, too.
    between = float(((alpha > 0) & (alpha < alpha.max())).mean())
    if between > _MOST_BETWEEN:
        raise InputError(
            f"{asset.uri} flags band {asset.alpha_band} as alpha, but {between:.0%} of it is neither opaque nor "
            "transparent",
            expected="an alpha band, or a word that it is none, such as near infrared",
            remedy=f"set {date}.has_alpha=false if it is another band, true if it is meant so",
        )


def _read_through(dataset: DatasetReader, *, sources: Sequence[BandSource]) -> bool:
    """Read every pixel; tell whether any is valid."""
    has_valid = False
    for row in range(0, dataset.height, _STRIP_ROWS):
        window = Window(0, row, dataset.width, min(_STRIP_ROWS, dataset.height - row))
        pixels = dataset.read([source.band for source in sources], window=window)
        if not has_valid:
            is_shown = is_shown_by_mask(dataset, sources[0].asset, window=window)
            has_valid = any(
                bool((find_valid(band, nodata=source.nodata) & is_shown).any())
                for band, source in zip(pixels, sources, strict=True)
            )
    return has_valid


def find_valid(stored: np.ndarray[Any, Any], *, nodata: float | None) -> BoolArray:
    """Tell which stored values of a band stand for something seen; NaN never does."""
    is_valid = np.isfinite(stored)
    if nodata is not None and np.isfinite(nodata):
        is_valid &= stored != stored.dtype.type(nodata)
    return np.asarray(is_valid, dtype=np.bool_)


def is_shown_by_mask(dataset: DatasetReader, asset: Asset, *, window: Window, **options: Any) -> BoolArray:
    """Tell which pixels of a window no mask and no alpha band hides."""
    if asset.alpha_band is not None:
        return np.asarray(dataset.read(asset.alpha_band, window=window, **options) > 0)
    if asset.has_mask:
        return np.asarray(dataset.read_masks(1, window=window, **options) > 0)
    return np.asarray(True)


def _check_length(dataset: DatasetReader) -> None:
    path = Path(dataset.name)
    if dataset.driver != "GTiff" or not path.is_file():
        return
    size = path.stat().st_size
    needed = max(_list_block_ends(dataset), default=0)
    if needed > size:
        raise InputError(
            f"{path} ends after {size} bytes",
            expected=f"at least the {needed} bytes that its own index speaks of",
            remedy="fetch the file again; it was cut off",
        )


def _list_block_ends(dataset: DatasetReader) -> Iterator[int]:
    is_shared = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    for band in (1,) if is_shared else dataset.indexes:
        height, width = dataset.block_shapes[band - 1]
        n_blocks = -(-dataset.height // height) * -(-dataset.width // width)
        step = -(-n_blocks // _MOST_BLOCKS)
        for (row, col), _ in islice(dataset.block_windows(band), 0, None, step):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
            # Blocks of a sparse file that were never written have neither.
            if offset is not None and length is not None:
                yield int(offset) + int(length)

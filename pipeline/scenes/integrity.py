"""Whether a scene is whole and what it holds: checksums, and a look at the pixels of a large one.

A run knows its inputs by their content and never by their path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.exceptions import BaseError as ObstoreError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from model.addresses import keep_public
from model.errors import InputError
from pipeline.grid.grid import GDAL_ERRORS
from pipeline.grid.window import BoolArray
from pipeline.scenes.held_vrt import open_vrt
from pipeline.scenes.memory import DECODED
from pipeline.scenes.rasters import ask_server, open_raster, refuse_changed, refuse_unreadable
from pipeline.scenes.scene import Asset, BandSource
from pipeline.scenes.signing import read_signed, sign_uri
from pipeline.scenes.threads import map_at_once
from pipeline.storage.object_store import open_object
from pipeline.uris import S3_SCHEME, is_remote, split_zip_uri

_READ_BYTES = 1 << 22
_CHECKS_KEPT = 1 << 16
_UNHASHED_SUFFIXES = (".aux.xml", ".ovr")
# ^ Files that change none of the pixels; what they say of CRS or nodata, the open raster says too.


def compute_checksum(uri: str, *, files: Sequence[str], etag: str | None = None, allow_private: bool = False) -> str:
    """Tell one content of a raster from another.

    Args:
        uri: An absolute local path, or an http(s), s3 or zip URI.
        files: The other files that make up the raster, such as the parts of a VRT: local paths or resolved URIs.
        etag: What `read_etag` gave; left out, a remote raster's is asked for.
        allow_private: Whether servers may redirect to hosts of closed networks.

    Returns:
        sha256 in hex of what is in local files, or ``etag:...`` of a remote one; of one that others on servers belong
        to, sha256 over their etags too.

    Raises:
        InputError: the server does not tell one content from another.
        OSError: the file cannot be read.
    """
    parts = sorted({file for file in files if is_remote(file)})
    own = etag or (read_etag(uri, allow_private=allow_private) if is_remote(uri) else _hash_files(uri, files=files))
    if not parts:
        return own
    etags = map_at_once(lambda part: read_etag(part, allow_private=allow_private), parts)
    return hashlib.sha256("\n".join([own, *etags]).encode()).hexdigest()


def read_etag(uri: str, *, allow_private: bool = False) -> str:
    """Tell one content of a remote file from another.

    Raises:
        InputError: the server does not, or redirects to a closed network.
        OSError: it does not answer.
    """
    is_object = sign_uri(uri).startswith(S3_SCHEME)
    return _read_s3_etag(uri) if is_object else _read_http_etag(uri, allow_private=allow_private)


def check_unchanged(asset: Asset) -> None:
    """Refuse a raster on a server that is another by now, once in each process.

    Raises:
        InputError: it is.
        OSError: the server does not answer.
    """
    _hold_hosts(asset)
    if is_remote(asset.uri):
        _check_etag_again(asset.uri, asset.checksum, asset.access.files, asset.access.allow_private)


def _hold_hosts(asset: Asset) -> None:
    """Have this process too ask hosts that were found at public addresses at those alone."""
    for host in asset.access.public_hosts:
        keep_public(host)


@lru_cache(maxsize=_CHECKS_KEPT)
def _check_etag_again(uri: str, checksum: str, files: tuple[str, ...], allow_private: bool) -> None:
    if compute_checksum(uri, files=files, allow_private=allow_private) != checksum:
        raise refuse_changed(uri)


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


def _read_http_etag(uri: str, *, allow_private: bool) -> str:
    # One byte by GET: signed URLs often allow no HEAD.
    told = ask_server(uri, at_most=1, headers={"Range": "bytes=0-0"}, allow_private=allow_private).headers
    modified, length = told.get("last-modified"), told.get("content-range")
    etag = told.get("etag") or (f"{modified} {length}" if modified else None)
    return _check_etag(uri, etag)


def _read_s3_etag(uri: str) -> str:
    store, key = open_object(uri)
    try:
        told = obstore.head(store, key)
    except (ObstoreError, OSError) as problem:
        refusal = refuse_unreadable(uri, problem)
    else:
        return _check_etag(uri, told["e_tag"])
    # Out here it has no context, which workers would send home with it.
    raise refusal


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


def check_pixels(sources: Sequence[BandSource], *, is_quick: bool = False) -> bool:
    """Find out cheaply whether the pixels are there: all of a small raster, of a large one the length.

    Args:
        sources: The bands of one raster that are going to be read.
        is_quick: Whether to treat it as a large one.

    Returns:
        Whether there is a valid pixel. A large raster is taken to have some: its tiles say so if not.

    Raises:
        InputError: the file is shorter than it says, or a small one has a block that cannot be decoded.
    """
    asset = sources[0].asset
    try:
        is_small = not is_quick and asset.width * asset.height <= _SMALL_SCENE_PX
        if asset.access.vrt and not is_small:
            return True
        return read_signed(lambda: _look_through(sources, is_small=is_small), uris=[asset.uri, *asset.access.rasters])
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(asset.uri, problem) from None


def _look_through(sources: Sequence[BandSource], *, is_small: bool) -> bool:
    asset = sources[0].asset
    with open_asset(asset) as dataset:
        _check_length(dataset)
        if not is_small:
            return True
        with DECODED.take(asset.access.block_bytes):
            return _read_through(dataset, sources=sources)


@contextmanager
def open_asset(asset: Asset) -> Iterator[DatasetReader]:
    """Open a raster as it was found: of a VRT its text in words of our own."""
    access = asset.access
    _hold_hosts(asset)
    is_open = access.allow_private
    with (
        open_vrt(access.vrt, rasters=access.rasters, allow_private=is_open)
        if access.vrt
        else open_raster(asset.uri, allow_private=is_open)
    ) as dataset:
        yield dataset


def check_alpha(asset: Asset, *, date: str, is_meant: bool) -> None:
    """Refuse an alpha band with values of a picture, or from 0 to 1; of a large raster without overviews nobody looks.

    Args:
        asset: The raster.
        date: ``before`` or ``after``, to name the config key in errors.
        is_meant: Whether the config says that it is one.

    Raises:
        InputError: most of its pixels are neither opaque nor transparent, it goes to 1 and not to 255, or it cannot be
            read.
    """
    is_large = asset.width * asset.height > _SMALL_SCENE_PX and not asset.overviews
    if asset.alpha_band is None or is_large:
        return
    try:
        with open_asset(asset) as dataset:
            size = min(dataset.height, _ALPHA_SAMPLE_PX), min(dataset.width, _ALPHA_SAMPLE_PX)
            alpha = dataset.read(asset.alpha_band, out_shape=size)
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(asset.uri, problem) from None
    if np.issubdtype(alpha.dtype, np.floating) and 0 < alpha.max() <= 1:
        raise InputError(
            f"the alpha band {asset.alpha_band} of {asset.uri} tells opacity from 0 to {alpha.max():g}",
            expected="0 to 255, as GDAL takes it",
            remedy="write it anew as bytes, for example with gdal_translate -ot Byte -scale_4 0 1 0 255",
        )
    # What is opaque is written as 255 in files of 16 bits, too.
    between = float(((alpha > 0) & (alpha < alpha.max())).mean())
    if between > _MOST_BETWEEN and not is_meant:
        raise InputError(
            f"{asset.uri} flags band {asset.alpha_band} as alpha, but {between:.0%} of it is neither opaque nor "
            "transparent",
            expected="an alpha band, or a word that it is none, such as near infrared",
            remedy=f"set {date}.has_alpha=false if it is another band, true if it is meant so",
        )


def _read_through(dataset: DatasetReader, *, sources: Sequence[BandSource]) -> bool:
    """Read every pixel; tell whether any is valid."""
    asset, has_valid = sources[0].asset, False
    with ExitStack() as beside:
        is_open = asset.access.allow_private
        mask = (
            beside.enter_context(open_raster(asset.access.mask, allow_private=is_open)) if asset.access.mask else None
        )
        for row in range(0, dataset.height, _STRIP_ROWS):
            window = Window(0, row, dataset.width, min(_STRIP_ROWS, dataset.height - row))
            pixels = dataset.read([source.band for source in sources], window=window)
            if not has_valid:
                is_shown = _is_shown(dataset, asset, mask=mask, window=window)
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


def _is_shown(dataset: DatasetReader, asset: Asset, *, mask: DatasetReader | None, window: Window) -> BoolArray:
    """Tell which pixels of a window no mask and no alpha band hides."""
    if asset.alpha_band is not None:
        return np.asarray(dataset.read(asset.alpha_band, window=window) > 0)
    if asset.has_mask:
        shown = dataset.read_masks(1, window=window) if mask is None else mask.read(1, window=window)
        return np.asarray(shown > 0)
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
        for row, col in (divmod(n, -(-dataset.width // width)) for n in range(0, n_blocks, step)):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
            # Blocks of a sparse file that were never written have neither.
            if offset is not None and length is not None:
                yield int(offset) + int(length)

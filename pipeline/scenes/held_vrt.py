"""VRTs in words of our own, as GDAL is given them, while all that they name is held to what it was."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from xml.etree import ElementTree

from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from pipeline.scenes.gate import find_address
from pipeline.scenes.rasters import (
    name_for_gdal,
    open_checked,
    read_version,
    refuse_changed,
    share_settings,
    undo_gdal_name,
)
from pipeline.scenes.warped_vrt import WarpedSize, check_warps
from pipeline.uris import is_remote

SOURCE_TAGS = ("SourceFilename", "SourceDataset")
"""Elements of a VRT that name what it reads."""

Shape = tuple[str, int, int]
"""GDAL's name of a raster's format, its width and its height."""

_CHECKS_KEPT = 1 << 16


@contextmanager
def open_vrt(text: str, *, rasters: Collection[str], allow_private: bool = False) -> Iterator[DatasetReader]:
    """Open a VRT in words of our own, as `hold_vrt` does, and have GDAL told what it needs meanwhile.

    Raises:
        InputError, rasterio.errors.RasterioError: as of `hold_vrt`.
    """
    addresses = {uri: find_address(uri, allow_private=allow_private) for uri in rasters}
    with share_settings(addresses.values()), hold_vrt(text, rasters=addresses) as dataset:
        yield dataset


@contextmanager
def hold_vrt(
    text: str, *, rasters: Mapping[str, str], shapes: Mapping[str, Shape] | None = None
) -> Iterator[DatasetReader]:
    """Open a VRT in words of our own, while all that it reads is held to what it was when it was looked at.

    GDAL opens what a VRT names by any format, a further VRT too. So each file is opened here first, by the formats of
    this list: one on this machine once for as long as it stays the same, one on a server every time. GDAL finds what
    was read for that in its cache and asks the server for nothing twice, so it cannot be given something else.

    Whoever opens and reads it does so inside `share_settings`; it may be held for longer, and by several threads in
    turn.

    Args:
        text: The VRT.
        rasters: All that it names, as resolved URIs, and the address that opens each, as `find_address` gives it.
        shapes: What some of them were when they were looked at.

    Raises:
        InputError: one of them is another by now, names another file as its overviews, or is too large.
        rasterio.errors.RasterioError: one is no such raster.
    """
    sizes: dict[str, WarpedSize] = {}
    with ExitStack() as held:
        for uri, address in rasters.items():
            if is_remote(uri):
                found, size = _tell(held.enter_context(open_checked(uri, address=address)))
            else:
                found, size = _look(uri, read_version(uri))
            sizes[name_for_gdal(uri)] = size
            if shapes is not None and found != shapes.get(uri, found):
                raise refuse_changed(uri)
        check_warps(text, sizes=sizes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = held.enter_context(closing(DatasetReader(_put_addresses(text, rasters), driver=["VRT"])))
        yield dataset


def _put_addresses(text: str, addresses: Mapping[str, str]) -> str:
    """Put the addresses by which files are opened into a VRT in words of our own, and into those that it holds."""
    if all(uri == address for uri, address in addresses.items()):
        return text
    root = ElementTree.fromstring(text)
    for element in (found for tag in SOURCE_TAGS for found in root.iter(tag)):
        name = element.text or ""
        uri = undo_gdal_name(name)
        element.text = (
            _put_addresses(name, addresses) if name.startswith("<") else name_for_gdal(addresses.get(uri, uri))
        )
    return ElementTree.tostring(root, encoding="unicode")


@lru_cache(maxsize=_CHECKS_KEPT)
def _look(uri: str, version: tuple[int, int]) -> tuple[Shape, WarpedSize]:  # noqa: ARG001  (a changed file is looked at again)
    with open_checked(uri, address=uri) as dataset:
        return _tell(dataset)


def _tell(dataset: DatasetReader) -> tuple[Shape, WarpedSize]:
    return (dataset.driver, dataset.width, dataset.height), WarpedSize.of(dataset)

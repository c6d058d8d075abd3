"""How much a warp inside of a VRT reads at a time: GDAL takes all that one of its blocks needs into memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from rasterio.io import DatasetReader

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.scenes.memory import MAX_BLOCK_BYTES

_WARPED = "VRTWarpedDataset"
_BLOCK_PX = (512, 128)
# ^ GDAL's own, where the VRT does not tell.
_BYTES = {"Byte": 1, "Int8": 1, "Int16": 2, "UInt16": 2, "Int32": 4, "UInt32": 4, "Float32": 4, "CInt16": 4}
_MOST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class WarpedSize:
    """How large a raster is that may be warped."""

    width: int
    """Columns, in pixels."""
    height: int
    """Rows, in pixels."""
    overviews: tuple[int, ...] = ()
    """How many times smaller those are that it holds: GDAL takes the smallest that is fine enough."""

    @classmethod
    def of(cls, dataset: DatasetReader) -> WarpedSize:
        """Tell of an open raster."""
        overviews = tuple(dataset.overviews(1)) if dataset.count else ()
        return cls(width=dataset.width, height=dataset.height, overviews=overviews)


def check_warps(text: str, *, sizes: Mapping[str, WarpedSize]) -> None:
    """Refuse a VRT in which a block of a warp needs more memory than a block of a raster may.

    The warp is taken for an even one: a block needs as many times more pixels as the raster below it has.

    Args:
        text: A VRT in words of our own.
        sizes: Of the rasters that it names, by the names that GDAL has for them.

    Raises:
        InputError: so it is.
    """
    if _WARPED not in text:
        return
    for root in _list_datasets(ElementTree.fromstring(text)):
        source = root.findtext(".//SourceDataset") or ""
        if root.get("subClass") != _WARPED or not source:
            continue
        needed = _count_bytes(root, size=_read_size(source, sizes=sizes))
        if needed > MAX_BLOCK_BYTES:
            raise InputError(
                f"a VRT warps {redact_uri(source[:200])} in blocks that take {needed / 1e6:.0f} MB each to read",
                expected=f"blocks of at most {MAX_BLOCK_BYTES / 1e6:.0f} MB",
                remedy="warp it with gdalwarp into a GeoTIFF, or add overviews with gdaladdo",
            )


def _list_datasets(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """List a VRT and all VRTs that it holds as text."""
    yield root
    for element in root.iter():
        if (element.text or "").startswith("<VRTDataset"):
            yield from _list_datasets(ElementTree.fromstring(element.text or ""))


def _read_size(source: str, *, sizes: Mapping[str, WarpedSize]) -> WarpedSize:
    if not source.startswith("<"):
        return sizes[source]
    root = ElementTree.fromstring(source)
    return WarpedSize(width=_read_number(root.get("rasterXSize")), height=_read_number(root.get("rasterYSize")))


def _count_bytes(root: ElementTree.Element, *, size: WarpedSize) -> float:
    width, height = _read_number(root.get("rasterXSize")), _read_number(root.get("rasterYSize"))
    block_px = [
        min(_read_number(root.findtext(name)) or usual, most)
        for name, usual, most in zip(("BlockXSize", "BlockYSize"), _BLOCK_PX, (width, height), strict=True)
    ]
    n_pixels = float(size.width * size.height)
    times = n_pixels / max(1, width * height)
    fine = [factor for factor in size.overviews if factor**2 <= times]
    n_pixels /= max(fine, default=1) ** 2
    kinds = [root.findtext(".//WorkingDataType"), *(band.get("dataType") for band in root.iter("VRTRasterBand"))]
    n_bytes = max(_BYTES.get(kind, _MOST_BYTES) for kind in kinds if kind) if any(kinds) else _MOST_BYTES
    n_bands = max(1, len(root.findall("VRTRasterBand")))
    share = min(1.0, block_px[0] * block_px[1] / max(1, width * height))
    return n_pixels * share * n_bands * n_bytes


def _read_number(text: str | None) -> int:
    """Read a whole number as GDAL does, which takes words for 0."""
    return int(text) if text is not None and text.strip().isdecimal() else 0

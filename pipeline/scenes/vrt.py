"""What a VRT reads: a text that names other files, and that a stranger may have written.

GDAL opens whatever a VRT names, and it finds names that nobody else would: in elements of any case, in any namespace,
in metadata, in other VRTs. So none is handed to it. What GDAL gets is a text of our own: of the elements listed here,
each copied by name, with every file by the name that was checked and every further VRT as its text. Whatever is not
listed is refused. A VRT from a server reads only what servers have, one in a zip archive only what is in it, and one
that a STAC item on this machine names only what that item could.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

from obstore.exceptions import BaseError as ObstoreError

from model.errors import InputError
from pipeline.grid.projections import refuse_named_files
from pipeline.hosts import check_host
from pipeline.scenes.held_vrt import SOURCE_TAGS
from pipeline.scenes.rasters import (
    name_for_gdal,
    read_start,
    refuse_unreadable,
    resolve_uri,
    undo_gdal_name,
)
from pipeline.uris import is_remote, read_path, split_zip_uri

MAX_BYTES = 1 << 24
"""Largest VRT, all that it names in turn included: some ten thousand files."""
MOST_HELD = 16
"""So many files on servers are opened for every window of a VRT, in it or not."""
_HEAD_BYTES = 4096
_SIGN = "<VRTDataset"
_DEEPEST = 4
_REMOTE_NAMES = ("/vsicurl/", "/vsis3/", "http://", "https://", "s3://")
_ZIP_NAMES = ("/vsizip/", "zip://")

_PLACED_TAGS = {"SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource", "NoDataFromMaskSource"}
_CLASSES = {
    *("VRTSourcedRasterBand", "VRTDerivedRasterBand"),
    *("VRTWarpedDataset", "VRTWarpedRasterBand", "VRTPansharpenedDataset", "VRTPansharpenedRasterBand"),
}
_DOMAINS = {None, "", "IMAGERY", "RPC"}
# ^ Of metadata. Others name files: overviews, geolocation arrays.
_OPTIONS = {
    *("OVERVIEW_LEVEL", "NUM_THREADS", "INIT_DEST", "UNIFIED_SRC_NODATA", "SOURCE_EXTRA", "SAMPLE_GRID"),
    *("SAMPLE_STEPS", "OPTIMIZE_SIZE", "CUTLINE_ALL_TOUCHED", "SKIP_NOSOURCE", "XSCALE", "YSCALE", "AREA_OF_INTEREST"),
    *("ERROR_OUT_IF_EMPTY_SOURCE_WINDOW",),
}
_ELEMENTS = (
    {*SOURCE_TAGS}
    | _PLACED_TAGS
    | {
        # A dataset and its place.
        *("VRTDataset", "SRS", "GeoTransform", "GCPList", "GCP", "Metadata", "MDI", "BlockXSize", "BlockYSize"),
        *("OverviewList", "MaskBand"),
        # A band and what its values mean.
        *("VRTRasterBand", "ColorInterp", "Description", "NoDataValue", "HideNoDataValue", "Offset", "Scale"),
        *("ColorTable", "Entry", "Overview", "PixelFunctionType", "PixelFunctionArguments", "PixelFunctionLanguage"),
        *("SourceTransferType",),
        # What it reads.
        *("SourceBand", "SourceProperties", "SrcRect", "DstRect", "OpenOptions", "OOI", "NODATA", "UseMaskBand"),
        *("ScaleOffset", "ScaleRatio", "LUT", "SrcMin", "SrcMax", "DstMin", "DstMax", "Exponent", "Clamp"),
        *("ColorTableComponent", "Kernel", "Size", "Coefs", "MaskValueThreshold", "RemappedValue"),
        # What it warps.
        *("GDALWarpOptions", "ResampleAlg", "WorkingDataType", "Option", "Transformer"),
        *("ApproxTransformer", "MaxError", "BaseTransformer", "GenImgProjTransformer", "SrcGeoTransform"),
        *("SrcInvGeoTransform", "DstGeoTransform", "DstInvGeoTransform", "SrcGCPTransformer", "SrcTPSTransformer"),
        *("GCPTransformer", "TPSTransformer", "Order", "Reversed", "ReprojectTransformer", "ReprojectionTransformer"),
        *("SourceSRS", "TargetSRS", "Options", "BandList", "BandMapping", "SrcNoDataReal", "SrcNoDataImag"),
        *("DstNoDataReal", "DstNoDataImag", "SrcAlphaBand", "DstAlphaBand", "Cutline", "CutlineBlendDist"),
        # What it sharpens.
        *("PansharpeningOptions", "Algorithm", "AlgorithmOptions", "Weights", "Resampling", "NumThreads", "BitDepth"),
        *("NoData", "SpatialExtentAdjustment", "PanchroBand", "SpectralBand"),
    }
)
_CRS_TAGS = {"SRS", "SourceSRS", "TargetSRS", "Option", "Options"}
_LEFT_OUT = {"Histograms", "GDALRasterAttributeTable", "CategoryNames", "UnitType", "WarpMemoryLimit"}
# ^ What changes no pixel. GDAL's own limit of memory holds.
_ATTRIBUTES = {
    *("rasterXSize", "rasterYSize", "subClass", "dataType", "band", "blockXSize", "blockYSize", "domain", "key"),
    *("dataAxisToSRSAxisMapping", "coordinateEpoch", "Projection", "Id", "Info", "Pixel", "Line", "X", "Y", "Z"),
    *("GCPPixel", "GCPLine", "c1", "c2", "c3", "c4", "resampling", "xOff", "yOff", "xSize", "ySize", "RasterXSize"),
    *("RasterYSize", "DataType", "BlockXSize", "BlockYSize", "normalized", "name", "src", "dst", "dstBand"),
}
_NAMING = {"relativeToVRT", "relativetoVRT", "shared"}


@dataclass(frozen=True, kw_only=True)
class Vrt:
    """A VRT as GDAL is given it."""

    text: str
    """In words of our own."""
    rasters: tuple[str, ...]
    """The rasters that it reads, those of VRTs in it included, as resolved URIs."""
    files: tuple[str, ...]
    """The same and the further VRTs: all that its pixels depend on but itself."""


def read_vrt(uri: str, *, root: str | None = None, allow_private: bool = False) -> Vrt | None:
    """Read a VRT and all VRTs that it names; None if this is none.

    Args:
        uri: What `resolve_uri` gave.
        root: Folder that what it names may not lead out of, if it lies on this machine.
        allow_private: Whether one from a server may name hosts of closed networks.

    Raises:
        InputError: it names files outside of its place, holds code, raw bytes or what is not known here, or cannot
            be read.
    """
    return _Reader(root=root, allow_private=allow_private).read(uri, depth=0)


def choose_text(
    text: str, *, rasters: Sequence[str], window: tuple[float, float, float, float]
) -> tuple[str, Sequence[str]]:
    """Leave out of a VRT of many files on servers what a window of it does not need, as each is opened for it.

    Args:
        text: What `read_vrt` gave.
        rasters: All that it reads.
        window: Left, top, right and bottom in its pixels.

    Returns:
        The text and what it reads.
    """
    if sum(map(is_remote, rasters)) <= MOST_HELD:
        return text, rasters
    root = ElementTree.fromstring(text)
    for band in root.iter("VRTRasterBand"):
        for source in [part for part in band if part.tag in _PLACED_TAGS]:
            rect = source.find("DstRect")
            if rect is not None and not _touches(rect, window):
                band.remove(source)
    return ElementTree.tostring(root, encoding="unicode"), list(dict.fromkeys(_list_rasters(root)))


def _touches(rect: ElementTree.Element, window: tuple[float, float, float, float]) -> bool:
    try:
        left, top, width, height = (float(rect.get(key, "nan")) for key in ("xOff", "yOff", "xSize", "ySize"))
    except ValueError:
        # What GDAL makes of words is GDAL's to say.
        return True
    is_beside = left + width <= window[0] or top + height <= window[1] or left >= window[2] or top >= window[3]
    return not is_beside


def _list_rasters(root: ElementTree.Element) -> Iterator[str]:
    for tag in SOURCE_TAGS:
        for element in root.iter(tag):
            name = element.text or ""
            if name.startswith(_SIGN):
                yield from _list_rasters(ElementTree.fromstring(name))
            else:
                yield undo_gdal_name(name)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses what entities are declared in: a few lines of them unfold into gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ElementTree.ParseError("a document type declaration")


@dataclass(kw_only=True)
class _Reader:
    root: str | None
    allow_private: bool
    n_bytes: int = 0
    known: dict[str, Vrt | None] = field(default_factory=dict)

    def read(self, uri: str, *, depth: int) -> Vrt | None:
        if uri not in self.known:
            # One that leads back to itself is found by its depth.
            root = self._parse(uri, depth=depth)
            self.known[uri] = None if root is None else self._rewrite(root, uri=uri, depth=depth)
        vrt = self.known[uri]
        self.n_bytes += 0 if vrt is None else len(vrt.text)
        if self.n_bytes > MAX_BYTES:
            raise _refuse(uri, "is too large, with the VRTs that it names")
        return vrt

    def _parse(self, uri: str, *, depth: int) -> ElementTree.Element | None:
        try:
            if not _is_vrt(uri, allow_private=self.allow_private):
                return None
            text = read_start(uri, at_most=MAX_BYTES, allow_private=self.allow_private)
            if len(text) >= MAX_BYTES or depth > _DEEPEST:
                raise _refuse(uri, "is too large" if depth <= _DEEPEST else "names a VRT that names a VRT, and so on")
            root = ElementTree.fromstring(text, parser=ElementTree.XMLParser(target=_NoDoctype()))
        except InputError:
            raise
        # What is no text in the encoding that it claims is a ValueError or a LookupError.
        except (ElementTree.ParseError, OSError, LookupError, ValueError, ObstoreError) as problem:
            raise refuse_unreadable(uri, problem) from None
        if root.tag != "VRTDataset":
            raise _refuse(uri, f"begins with an element {root.tag}")
        return root

    def _rewrite(self, root: ElementTree.Element, *, uri: str, depth: int) -> Vrt:
        rasters: dict[str, None] = {}
        files: dict[str, None] = {}

        def name(element: ElementTree.Element) -> str:
            is_relative = element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"
            source = self._resolve(uri, (element.text or "").strip(), is_relative=is_relative)
            vrt = self.read(source, depth=depth + 1)
            files.setdefault(source)
            files.update(dict.fromkeys(vrt.files if vrt else ()))
            rasters.update(dict.fromkeys(vrt.rasters if vrt else (source,)))
            return vrt.text if vrt else name_for_gdal(source)

        def copy(element: ElementTree.Element) -> ElementTree.Element | None:
            if element.tag in _LEFT_OUT or (element.tag == "Metadata" and element.get("domain") not in _DOMAINS):
                return None
            _check_element(element, uri=uri)
            kept = {key: value for key, value in element.attrib.items() if key not in _NAMING}
            twin = ElementTree.Element(element.tag, kept)
            twin.text = element.text
            if element.tag in SOURCE_TAGS:
                twin.text = name(element)
                twin.set("relativeToVRT", "0")
            twin.extend([child for part in element if (child := copy(part)) is not None])
            return twin

        twin = copy(root)
        text = "" if twin is None else ElementTree.tostring(twin, encoding="unicode")
        return Vrt(text=text, rasters=tuple(rasters), files=tuple(files))

    def _resolve(self, uri: str, name: str, *, is_relative: bool) -> str:
        """Give the URI of the file that a VRT names.

        Raises:
            InputError: it lies where this VRT must not reach.
        """
        if _SIGN in name:
            raise _refuse(uri, "holds another VRT in place of a file's name")
        if is_remote(uri):
            return self._resolve_remote(uri, name, is_relative=is_relative)
        if (archive := split_zip_uri(uri)) is not None:
            path, member = archive
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(member), name))
            if not is_relative or name.startswith("/") or inner.startswith(".."):
                raise _refuse(uri, f"reads {name}, which is not in its archive")
            return resolve_uri(f"zip://{path}!{inner}")
        if name.startswith(_REMOTE_NAMES):
            return _find_remote(uri, name)
        place = str(Path(uri).parent / name if is_relative else Path(name).absolute())
        found = resolve_uri(name if name.startswith(_ZIP_NAMES) else place)
        held = Path((split_zip_uri(found) or (found,))[0])
        if self.root is not None and not held.resolve().is_relative_to(Path(self.root).resolve()):
            raise _refuse(uri, f"reads {name}, which is outside {self.root}")
        return found

    def _resolve_remote(self, uri: str, name: str, *, is_relative: bool) -> str:
        found = urljoin(uri, name) if is_relative and not uri.startswith("s3://") else name
        if is_relative and uri.startswith("s3://"):
            found = posixpath.normpath(posixpath.join(posixpath.dirname(name_for_gdal(uri)), name))
        if not found.startswith(_REMOTE_NAMES):
            raise _refuse(uri, f"reads {name}, which is on this machine and not where the VRT is")
        source = _find_remote(uri, found)
        if not self.allow_private:
            check_host(source, named_by=uri, what=f"the VRT {uri}")
        return source


def _is_vrt(uri: str, *, allow_private: bool) -> bool:
    # A remote file is opened as a VRT only if it is named so.
    if is_remote(uri):
        return read_path(uri).lower().endswith(".vrt")
    return _SIGN.encode() in read_start(uri, at_most=_HEAD_BYTES, allow_private=allow_private)


def _check_element(element: ElementTree.Element, *, uri: str) -> None:
    subclass = element.get("subClass")
    if subclass == "VRTRawRasterBand":
        raise _refuse(uri, "takes the bytes of another file for pixels (VRTRawRasterBand)")
    if element.tag == "PixelFunctionCode" or (
        element.tag == "PixelFunctionLanguage" and (element.text or "").strip().lower() != "c"
    ):
        raise _refuse(uri, "holds code (PixelFunctionCode)")
    for words in (element.get("Projection"), element.text if element.tag in _CRS_TAGS else None):
        refuse_named_files(words or "", named_by=uri)
    if element.tag not in _ELEMENTS:
        raise _refuse(uri, f"has an element {element.tag[:80]!r}, which is not read here")
    # Arguments of a pixel function are numbers under any name.
    attributes = () if element.tag == "PixelFunctionArguments" else set(element.attrib) - _ATTRIBUTES - _NAMING
    if attributes or subclass not in {None, *_CLASSES}:
        words = f"{sorted(attributes)[0][:80]!r}" if attributes else f"subClass {subclass!r}"
        raise _refuse(uri, f"has an attribute {words} at {element.tag}, which is not read here")
    option = element.get("name" if element.tag == "Option" else "key", "").upper()
    if element.tag in {"Option", "OOI"} and option not in _OPTIONS:
        raise _refuse(uri, f"has an option {option[:80]!r}, which is not read here")


def _find_remote(uri: str, name: str) -> str:
    found = undo_gdal_name(name)
    if not is_remote(found):
        raise _refuse(uri, f"reads {name}, which is on this machine and not where the VRT is")
    return found


def _refuse(uri: str, words: str) -> InputError:
    return InputError(
        f"{uri} {words}",
        expected="a VRT that reads rasters beside it, of no more than a server or an archive gives",
        remedy="make a GeoTIFF of it where it comes from, or name its files as a list",
    )

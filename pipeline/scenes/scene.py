"""What the files of a scene are, after their headers have been read: the values that later stages work with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import shapely
from affine import Affine
from shapely.geometry.base import BaseGeometry

from pipeline.config.scene import NO_SIGNER, MosaicRule
from pipeline.scenes.classes import HiddenClasses
from pipeline.tables.nested_shapes import read_wkt

COLOURS = ("red", "green", "blue")
"""The bands of a part, in the order of the store."""


@dataclass(frozen=True, kw_only=True)
class ControlPoint:
    """One place of a raster whose coordinates are known."""

    col: float
    """Column in pixels, from the left edge."""
    row: float
    """Row in pixels, from the upper edge."""
    x: float
    """Coordinate in the raster's CRS, eastwards."""
    y: float
    """Coordinate in the raster's CRS, northwards."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What GDAL is given to read a raster by, beside its name; of no account for a record."""

    driver: str = ""
    """GDAL's name of the file's format."""
    block_bytes: int = 0
    """Memory that the largest block takes when it is decoded."""
    vrt: str = ""
    """Text that is read in place of a VRT."""
    rasters: tuple[str, ...] = ()
    """All that this text names."""
    files: tuple[str, ...] = ()
    """Files that the checksum covers, beside the raster itself."""
    mask: str = ""
    """Raster beside the file that is its mask; empty where the mask is inside."""
    overviews: str = ""
    """Raster beside the file that is its first overview and holds the others; empty where they are inside."""
    allow_private: bool = False
    """Whether servers may lead to hosts of closed networks."""
    public_hosts: tuple[str, ...] = ()
    """Hosts of these files that were found at public addresses; whoever reads the files asks them at those alone."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One raster file, as its header tells."""

    uri: str = field(repr=False)
    """Where it is: an absolute local path, or an http(s), s3 or zip URI; may be signed, so it is not shown."""
    checksum: str
    """sha256 in hex of a local file; ``etag:...`` of a remote one."""
    crs: str
    """CRS of the file, or the one assumed: an authority code or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """The six numbers a to f of the affine transform from (column, row) to coordinates of `crs`; of a file placed by
    control points the one that fits them best, good enough for its resolution and not for its pixels."""
    control_points: tuple[ControlPoint, ...] = ()
    """What places the file in place of `transform`, by a polynomial through them; empty where that does."""
    width: int
    """Columns of the file, in pixels."""
    height: int
    """Rows of the file, in pixels."""
    alpha_band: int | None = None
    """1-based number of the band that tells how opaque a pixel is."""
    has_mask: bool = False
    """Whether a mask inside or beside the file tells which pixels are valid."""
    overviews: tuple[int, ...] = ()
    """How many times smaller than the file the versions of itself are that it holds, rising."""
    overview_level: int | None = None
    """Place in its `overviews` of the version that is meant in place of the file itself."""
    full_size_px: tuple[int, int] | None = None
    """Width and height of the file where an overview is meant; None where the file is."""
    access: Access = field(default_factory=Access, repr=False, compare=False)
    """How its pixels are come by."""
    footprint: BaseGeometry
    """Outline in WGS84 longitude and latitude."""

    @property
    def affine(self) -> Affine:
        """The transform as a value that multiplies."""
        return Affine(*self.transform)

    def take_overview(self, *, at_most: float) -> Asset:
        """Give the smallest version of the file that is at most some times smaller; the file itself if none is."""
        level = max((n for n, factor in enumerate(self.overviews) if factor <= at_most), default=None)
        if level is None:
            return self
        factor = self.overviews[level]
        width, height = -(-self.width // factor), -(-self.height // factor)
        x_scale, y_scale = self.width / width, self.height / height
        points = (replace(p, col=p.col / x_scale, row=p.row / y_scale) for p in self.control_points)
        a, b, c, d, e, f = self.transform
        return replace(
            self,
            transform=(a * x_scale, b * y_scale, c, d * x_scale, e * y_scale, f),
            control_points=tuple(points),
            width=width,
            height=height,
            overviews=(),
            overview_level=level,
            full_size_px=(self.width, self.height),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `from_dict` takes them back."""
        unrecorded = {"access", "full_size_px"}
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in unrecorded}
        points = [[point.col, point.row, point.x, point.y] for point in self.control_points]
        return values | {
            "transform": list(self.transform),
            "overviews": list(self.overviews),
            "control_points": points,
            "footprint": shapely.to_wkt(self.footprint, rounding_precision=-1),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take back what `to_dict` gave."""
        points = tuple(ControlPoint(col=c, row=r, x=x, y=y) for c, r, x, y in values["control_points"])
        footprint = read_wkt(values["footprint"])
        lists = {name: tuple(values[name]) for name in ("transform", "overviews")}
        return cls(**{**values, **lists, "control_points": points, "footprint": footprint})


@dataclass(frozen=True, kw_only=True)
class BandSource:
    """One band of one asset, and what its values mean."""

    asset: Asset
    """The file."""
    band: int
    """1-based number of the band."""
    dtype: str
    """Type of the stored values, such as uint16."""
    scale: float = 1.0
    """Physical value = stored value * scale + offset."""
    offset: float = 0.0
    """Added after scaling."""
    nodata: float | None = None
    """Stored value that stands for nothing seen; None where every value is one."""

    @property
    def is_plain(self) -> bool:
        """Whether the stored values are the bytes to be shown."""
        return self.dtype == "uint8" and self.scale == 1 and self.offset == 0

    def describe_content(self) -> dict[str, Any]:
        """Give all that its pixels depend on, for a content key: never a path."""
        # A sidecar file may hold CRS, transform and nodata, so the file's own checksum does not cover them.
        placed = {
            name: getattr(self.asset, name) for name in ("checksum", "crs", "transform", "alpha_band", "has_mask")
        }
        points = [list(asdict(point).values()) for point in self.asset.control_points]
        return placed | self._to_plain() | {"control_points": points}

    def to_dict(self, *, places: Mapping[str, int]) -> dict[str, Any]:
        """Give plain values for JSON, with the asset as its place in a list, by URI."""
        return {"asset": places[self.asset.uri]} | self._to_plain()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, assets: list[Asset]) -> Self:
        """Take back what `to_dict` gave."""
        nodata = None if values["nodata"] is None else float(values["nodata"])
        return cls(**{**values, "asset": assets[values["asset"]], "nodata": nodata})

    def _to_plain(self) -> dict[str, Any]:
        names = ("band", "dtype", "scale", "offset", "nodata")
        values = {name: getattr(self, name) for name in names}
        # JSON has no word for it.
        return values | ({"nodata": "nan"} if self.nodata is not None and math.isnan(self.nodata) else {})


@dataclass(frozen=True, kw_only=True)
class ScenePart:
    """One piece of a scene: its three colours and, where there is one, its class band."""

    red: BandSource
    """Red."""
    green: BandSource
    """Green."""
    blue: BandSource
    """Blue."""
    classes: BandSource | None = None
    """Band of classes from which clouds are told."""
    nir: BandSource | None = None
    """Near infrared, by which clouds are found; None where there are classes, or nobody asked for it."""
    footprint: BaseGeometry
    """Where all three colours are, in WGS84 longitude and latitude."""

    @property
    def colours(self) -> tuple[BandSource, BandSource, BandSource]:
        """Red, green and blue."""
        return self.red, self.green, self.blue

    @property
    def sources(self) -> tuple[BandSource, ...]:
        """All of its bands."""
        others = (source for source in (self.classes, self.nir) if source is not None)
        return (*self.colours, *others)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one date: what its files tell, and how they go together."""

    scene_id: str
    """Name for people."""
    datetime: str | None
    """Acquisition time in ISO 8601, UTC, such as 2024-05-01T10:30:00Z; None where nobody knows."""
    parts: tuple[ScenePart, ...]
    """In the order in which they count."""
    mosaic: MosaicRule = "first"
    """What counts where parts overlap."""
    hidden: HiddenClasses = field(default_factory=HiddenClasses)
    """Classes that stand for clouds and what else hides the ground."""
    cloud_method: str | None = None
    """What finds the clouds of parts without classes, with its version; None: nothing does."""
    footprint: BaseGeometry
    """What the parts cover together, in WGS84 longitude and latitude."""
    notes: tuple[str, ...] = ()
    """What people should know of how its files were found; of no account for its pixels, and kept in no record."""
    sign: str = NO_SIGNER
    """Who signs the addresses of its files where they are opened; likewise."""

    @property
    def assets(self) -> tuple[Asset, ...]:
        """Every file once, in the order of the parts."""
        found: dict[str, Asset] = {}
        for part in self.parts:
            for source in part.sources:
                found.setdefault(source.asset.uri, source.asset)
        return tuple(found.values())

    @property
    def uris(self) -> tuple[str, ...]:
        """Where the files are."""
        return tuple(asset.uri for asset in self.assets)

    @property
    def checksum(self) -> str:
        """The checksum of the only file; of several, sha256 in hex over theirs."""
        checksums = [asset.checksum for asset in self.assets]
        return checksums[0] if len(checksums) == 1 else hashlib.sha256("\n".join(checksums).encode()).hexdigest()

    @property
    def is_plain(self) -> bool:
        """Whether every colour of every part is stored as the bytes to be shown."""
        return all(source.is_plain for source in self._list_colours())

    @property
    def has_classes(self) -> bool:
        """Whether any part tells of clouds."""
        return any(part.classes is not None or part.nir is not None for part in self.parts)

    def describe_content(self) -> dict[str, Any]:
        """Give all that the scene's pixels depend on, for a content key: never a path or a name."""
        # Only where there are some: keys of scenes without stay what they were.
        bits = {"cloud_bits": list(self.hidden.bits)} if self.has_classes and self.hidden.bits else {}
        method = {"cloud_method": self.cloud_method} if self.cloud_method else {}
        return {
            "mosaic": self.mosaic,
            **method,
            "cloud_classes": list(self.hidden.values) if self.has_classes else None,
            **bits,
            "parts": [[source.describe_content() for source in part.sources] for part in self.parts],
        }

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `from_dict` takes them back."""
        places = {asset.uri: place for place, asset in enumerate(self.assets)}
        return {
            "scene_id": self.scene_id,
            "datetime": self.datetime,
            "checksum": self.checksum,
            "mosaic": self.mosaic,
            "cloud_classes": list(self.hidden.values),
            "cloud_bits": list(self.hidden.bits),
            **({"cloud_method": self.cloud_method} if self.cloud_method else {}),
            "assets": [asset.to_dict() for asset in self.assets],
            "parts": [_describe_part(part, places=places) for part in self.parts],
            "footprint": shapely.to_wkt(self.footprint, rounding_precision=-1),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take back what `to_dict` gave."""
        assets = [Asset.from_dict(asset) for asset in values["assets"]]
        return cls(
            scene_id=values["scene_id"],
            datetime=values["datetime"],
            parts=tuple(_restore_part(part, assets=assets) for part in values["parts"]),
            mosaic=values["mosaic"],
            # Records of earlier versions have no bits.
            hidden=HiddenClasses(values=tuple(values["cloud_classes"]), bits=tuple(values.get("cloud_bits", ()))),
            cloud_method=values.get("cloud_method"),
            footprint=read_wkt(values["footprint"]),
        )

    def _list_colours(self) -> Iterator[BandSource]:
        return (source for part in self.parts for source in part.colours)


def _describe_part(part: ScenePart, *, places: Mapping[str, int]) -> dict[str, Any]:
    sources = {name: getattr(part, name) for name in (*COLOURS, "classes")}
    described = {name: source and source.to_dict(places=places) for name, source in sources.items()}
    if part.nir is not None:
        described["nir"] = part.nir.to_dict(places=places)
    return described | {"footprint": shapely.to_wkt(part.footprint, rounding_precision=-1)}


def _restore_part(values: Mapping[str, Any], *, assets: list[Asset]) -> ScenePart:
    red, green, blue = (BandSource.from_dict(values[name], assets=assets) for name in COLOURS)
    return ScenePart(
        red=red,
        green=green,
        blue=blue,
        classes=None if values["classes"] is None else BandSource.from_dict(values["classes"], assets=assets),
        nir=None if values.get("nir") is None else BandSource.from_dict(values["nir"], assets=assets),
        footprint=read_wkt(values["footprint"]),
    )

"""Where the pixels of a scene are: what a config, a folder or a STAC item comes down to before any raster is opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.config.scene import MosaicRule


@dataclass(frozen=True, kw_only=True)
class BandFile:
    """One band in one raster, and what is known of its values better than the raster tells."""

    uri: str = field(repr=False)
    """A local path, or an http(s) or s3 URI; it may be signed, so it is not shown."""
    band: int | str | None = None
    """1-based number or name (description) of the band; None where the raster itself has to tell."""
    scale: float | None = None
    """Physical value = stored value * scale + offset; None: what the raster tells, else 1."""
    offset: float | None = None
    """Added after scaling; None: what the raster tells, else 0."""
    nodata: float | None = None
    """Stored value that stands for nothing seen; None: what the raster tells."""
    root: str | None = None
    """Local folder that a VRT may not lead out of; None: it may name what anybody may who names the VRT."""


@dataclass(frozen=True, kw_only=True)
class PartFiles:
    """One piece of a scene: its colours and, where there is one, its class band."""

    red: BandFile
    """Red; of a colour raster whose order its own header tells, a `BandFile` without a band, the same in all three."""
    green: BandFile
    """Green."""
    blue: BandFile
    """Blue."""
    classes: BandFile | None = None
    """Band of classes such as Sentinel-2's SCL, from which clouds are told; None where there is none."""
    nir: BandFile | None = None
    """Near infrared, by which clouds are found where there are no classes; None where nobody knows it."""


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """All pieces of one acquisition of one date."""

    scene_id: str
    """Name for people."""
    datetime: str | None
    """Acquisition time in ISO 8601, UTC; None: what the rasters tell."""
    parts: tuple[PartFiles, ...]
    """In the order in which they count."""
    mosaic: MosaicRule = "first"
    """What counts where parts overlap."""
    notes: tuple[str, ...] = ()
    """What people should know of how the files were found."""

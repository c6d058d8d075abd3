"""What a run is told of a scene: where its pixels are, what its user knows better than its files, how it is shown."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from pipeline.config.loading import StrictConfig
from pipeline.config.stac import StacConfig, names_document
from pipeline.uris import is_remote


def is_remote_scene(scene: SceneConfig) -> bool:
    """Tell whether a scene is read over the network; of a STAC item nobody knows before it is read."""
    if scene.stac is not None:
        return True
    return any(is_remote(uri) for uri in list_scene_uris(scene))


def list_scene_uris(scene: SceneConfig) -> tuple[str, ...]:
    """Give the files that a scene names: of colours, of classes and of near infrared; none of STAC's."""
    named = [scene.uri] if scene.uri is not None else []
    if scene.band_files is not None:
        named += [getattr(scene.band_files, band) for band in BandFilesConfig.model_fields]
    named += [each.uri for each in (scene.classes, scene.clouds) if each is not None and each.uri is not None]
    return tuple(uri for uris in named for uri in list_uris(uris))


NO_SIGNER = "none"
"""Files are asked for by their plain addresses."""
PLANETARY_COMPUTER = "planetary-computer"
"""Files in containers of Azure are asked for with tokens of the Planetary Computer."""
SignerName = Annotated[str, Field(pattern=rf"^({NO_SIGNER}|{PLANETARY_COMPUTER}|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]
"""Who signs the addresses of files."""

Uris = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""One path or URI, or several."""


class BandFilesConfig(StrictConfig):
    """The rasters of a scene that has one per band."""

    red: Uris = Field(description="Raster of the red band, or one for each part of the scene.")
    green: Uris = Field(description="The same of the green band, in the same order.")
    blue: Uris = Field(description="The same of the blue band, in the same order.")

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        counts = {name: len(list_uris(getattr(self, name))) for name in ("red", "green", "blue")}
        if len(set(counts.values())) > 1:
            words = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise ValueError(f"{words}; name as many rasters of each band")
        return self


DEFAULT_CLOUD_CLASSES = (3, 8, 9, 10)
"""Of Sentinel-2's SCL."""


class ClassesConfig(StrictConfig):
    """Where the classes of a scene's pixels are, such as Sentinel-2's SCL."""

    uri: Uris | None = Field(
        default=None, description="Raster of classes, or one for each part; left out, the scene's own raster."
    )
    band: int | str = Field(default=1, description="1-based number or name of the band of classes.")


class CloudsConfig(StrictConfig):
    """Who finds the clouds of scenes that have no class band."""

    method: Literal["omnicloudmask"] = Field(
        description="omnicloudmask: its network tells clouds and their shadows by red, green and near infrared. It "
        "comes with the extra clouds, and fetches its weights from a hub."
    )
    uri: Uris | None = Field(
        default=None,
        description="Raster of near infrared, or one for each part; left out, the scene's own raster. With stac the "
        "items tell (stac.nir).",
    )
    band: int | str = Field(default="nir", description="1-based number or name of the band of near infrared in it.")


class SceneSettings(StrictConfig):
    """What a user knows better than the files of a scene, whichever scene it is."""

    mosaic: MosaicRule = Field(
        default="first",
        description="Which pixel counts where rasters of one date overlap. first: the first valid one, in the "
        "order given; median: the median of the valid ones.",
    )
    bands: tuple[int | str, int | str, int | str] | None = Field(
        default=None,
        description="Numbers (from 1) or names of the red, green and blue band. Left out, those that the "
        "raster declares, else 1, 2, 3 if it has 3 or 4 bands.",
    )
    classes: ClassesConfig | None = Field(
        default=None,
        description="Band of a scene classification that shows clouds: a mapping of uri and band. Left out, "
        "no clouds are masked.",
    )
    cloud_classes: tuple[int, ...] = Field(
        default=DEFAULT_CLOUD_CLASSES,
        description="Classes that hide the ground; left out, those of Sentinel-2's SCL: cloud shadow, cloud "
        "of medium and high probability, thin cirrus; of a band called QA_PIXEL or Fmask the bits of the same.",
    )
    snow_hides: bool = Field(
        default=False, description="Whether snow and ice, as the class band tells them, count as not seen like clouds."
    )
    clouds: CloudsConfig | None = Field(
        default=None,
        # Settings without stay what they were, and so do the names of pairs and runs.
        exclude_if=lambda value: value is None,
        description="How clouds are found in what has no class band: a mapping of method and where near infrared is. "
        "Left out, they are not.",
    )
    assume_crs: str | None = Field(
        default=None, description="CRS of rasters that have none, such as EPSG:32614; the others keep theirs."
    )
    has_alpha: bool | None = Field(
        default=None,
        description="Whether a band that the raster flags as alpha tells which pixels are seen. Left out, it does, "
        "unless its name or its values say that it is another, such as near infrared.",
    )
    nodata: float | None = Field(
        default=None, description="Stored value of pixels without data. Left out, the raster's own."
    )
    scale: float | None = Field(
        default=None,
        description="Physical value = stored value * scale + offset. Left out, the raster's own, else 1.",
    )
    offset: float | None = Field(default=None, description="Added after scaling. Left out, the raster's own, else 0.")

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("0 would make every pixel the same; leave it out")
        return value


MAX_COMPOSED = 64
"""Most dates of a composite: a pixel keeps one bit for each."""
CompositeRule = Literal["first_clear", "median"]
"""What counts where several dates show the ground: the first that does, in their order, or the median of all."""


class CompositeConfig(StrictConfig):
    """How one picture is made of several dates, pixel by pixel, where the class band shows the ground."""

    rule: CompositeRule = Field(
        description="first_clear: of each pixel the first date that shows it; median: the median of all that do."
    )
    cloud_buffer_m: float = Field(
        default=100,
        ge=0,
        le=5000,
        description="So many metres around what hides the ground nothing counts as seen.",
    )
    order: Literal["newest", "least_cloudy"] = Field(
        default="newest",
        description="Which date comes first: the newest, or the one with the fewest clouds by its metadata.",
    )
    datetimes: tuple[dt.datetime, ...] = Field(
        default=(),
        description="With uri or band_files, when each raster was acquired: those of one moment make one date. With "
        "stac, the first acquisitions of the days that are meant; left out, all days that are found.",
    )

    @field_validator("datetimes")
    @classmethod
    def _check_datetimes(cls, value: tuple[dt.datetime, ...]) -> tuple[dt.datetime, ...]:
        if len(set(value)) > MAX_COMPOSED:
            raise ValueError(f"{len(set(value))} dates; a composite is made of {MAX_COMPOSED} at most")
        return value


SCENE_SOURCES = ("uri", "band_files", "stac")
"""The settings that say where a scene is; one of them is given."""


def _put_source_first(schema: dict[str, Any]) -> None:
    """Have forms ask first where a scene is, then what its user knows better than its files."""
    properties = schema["properties"]
    first = {name: properties[name] for name in (*SCENE_SOURCES, "datetime", "sign")}
    schema["properties"] = first | properties


class SceneConfig(SceneSettings):
    """One acquisition of one date."""

    model_config = ConfigDict(json_schema_extra=_put_source_first)

    uri: Uris | None = Field(
        default=None,
        description="Raster of the scene: a local path, or an http(s) or s3 URI; a list of them makes a mosaic.",
    )
    band_files: BandFilesConfig | None = Field(
        default=None,
        description="In place of uri, one raster per band: a mapping of red, green and blue, each a path or a list.",
    )
    stac: StacConfig | None = Field(
        default=None,
        description="In place of uri, items that STAC describes: a mapping of href and what chooses among them. A uri "
        "that ends in .json or .geojson is such an href.",
    )
    datetime: dt.datetime | None = Field(
        default=None,
        description="Acquisition time (ISO 8601). Left out, it is taken from the raster's tags where they tell it.",
    )
    sign: SignerName = Field(
        default=NO_SIGNER,
        description="Who signs the addresses of files where they are opened: planetary-computer, or module:function of "
        "an installed package, which takes an address and gives the signed one; signatures are kept nowhere.",
    )
    composite: CompositeConfig | None = Field(
        default=None,
        # Records of runs without stay what they were.
        exclude_if=lambda value: value is None,
        description="Several dates in place of one: a mapping of rule and what goes with it, the same for both scenes. "
        "Passes over a region set it (dates.composite).",
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_description(cls, values: Any) -> Any:
        uri = values.get("uri") if isinstance(values, dict) else None
        stac = values.get("stac") or {} if isinstance(values, dict) else None
        if not isinstance(stac, dict) or "href" in stac or not names_document(uri):
            return values
        return {**values, "uri": None, "stac": {"href": str(uri), **stac}}

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        given = [name for name in SCENE_SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} given; name one of {', '.join(SCENE_SOURCES)}")
        if self.stac is not None and self.bands is not None:
            raise ValueError("bands goes with uri and band_files; set stac.bands")
        if self.stac is not None and self.clouds is not None and self.clouds.uri is not None:
            raise ValueError("clouds.uri goes with uri and band_files; set stac.nir")
        return self

    @model_validator(mode="after")
    def _check_composite(self) -> Self:
        if self.composite is None:
            return self
        if self.datetime is not None:
            raise ValueError("datetime given beside composite, whose dates have one each; leave it out")
        if self.stac is None:
            uris = self.uri if self.band_files is None else self.band_files.red
            n_rasters, n_dates = len(list_uris(uris or ())), len(self.composite.datetimes)
            if n_rasters != n_dates:
                raise ValueError(f"composite.datetimes names {n_dates} moments, not one of each of {n_rasters} rasters")
        return self


Limits = tuple[float, float]
"""Lowest and highest value."""


class StretchConfig(StrictConfig):
    """How values other than bytes become bytes; plain bytes are never stretched."""

    limits: Limits | tuple[Limits, Limits, Limits] | None = Field(
        default=None,
        description="Physical values that become 0 and 255: [low, high], or three such pairs for red, green and "
        "blue. Left out, they come from percentiles.",
    )
    percentiles: Limits = Field(
        default=(2.0, 98.0),
        description="Percentiles of the valid pixels of each band that become 0 and 255, from a sample of the "
        "area that both dates show.",
    )
    per_date: bool = Field(
        default=False,
        description="true: percentiles of each date separately; false: of both dates together, so that equal "
        "values stay equal.",
    )

    @field_validator("limits")
    @classmethod
    def _check_limits(cls, value: Any) -> Any:
        pairs = [] if value is None else value if isinstance(value[0], tuple) else [value]
        if wrong := [pair for pair in pairs if not -math.inf < pair[0] < pair[1] < math.inf]:
            raise ValueError(f"{list(wrong[0])} is not low before high")
        return value

    @field_validator("percentiles")
    @classmethod
    def _check_percentiles(cls, value: Limits) -> Limits:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError(f"{list(value)} is not two rising numbers from 0 to 100")
        return value


def list_uris(uris: Uris) -> tuple[str, ...]:
    """Give one or several URIs as several."""
    return (uris,) if isinstance(uris, str) else tuple(uris)


MosaicRule = Literal["first", "median"]
"""Which of several parts counts where they overlap: the first valid one in their order, or the median of the valid."""

"""Where a region's scenes come from, and how those that are compared are chosen among them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline.config.loading import StrictConfig
from pipeline.config.scene import NO_SIGNER, SceneSettings, SignerName
from pipeline.config.stac import StacConfig
from pipeline.dates import compile_name_pattern, parse_interval
from pipeline.uris import normalise_uri

FOLDER_SCHEMES = ("s3", "http", "https")
"""Kinds of folders beside local ones."""


class StacSourceConfig(StrictConfig):
    """Scenes that STAC describes."""

    kind: Literal["stac"] = Field(default="stac", description="Scenes are searched for in STAC.")
    search: StacConfig = Field(
        description="Where items are described and which of them fit, as before.stac of a run has it; datetime and ids "
        "are the region's to choose; order is that of the items of a day, pairing says which day is taken."
    )
    sign: SignerName = Field(
        default=NO_SIGNER,
        description="Who signs the addresses of files where they are opened: planetary-computer, or module:function of "
        "an installed package, which takes an address and gives the signed one; signatures are kept nowhere.",
    )
    scene: SceneSettings = Field(
        default_factory=SceneSettings, description="What overrides the metadata of the files, for all scenes."
    )

    @field_validator("search")
    @classmethod
    def _check_search(cls, value: StacConfig) -> StacConfig:
        given = [name for name in ("datetime", "ids") if getattr(value, name)]
        if given:
            raise ValueError(f"{' and '.join(given)} given; pairing says which dates are meant: leave it out")
        return value


class FolderSourceConfig(StrictConfig):
    """Scenes whose files lie in a folder and have their date in their name."""

    kind: Literal["folder"] = Field(description="Scenes are files of a folder.")
    folder: str = Field(
        min_length=1,
        description="A local folder, s3://bucket/prefix, or an http(s) folder whose server lists it (WebDAV).",
    )
    files: str = Field(
        default="*%Y%m%d*.tif",
        description="Path below the folder of the files that are scenes: * and ? stand for letters other than /, ** "
        "for folders, %Y %m %d (or %j) and %H %M %S for the acquisition time in UTC. Files of one day make one scene.",
    )
    scene: SceneSettings = Field(
        default_factory=SceneSettings, description="What overrides the metadata of the files, for all scenes."
    )

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme.lower() not in FOLDER_SCHEMES:
            raise ValueError(f"{scheme}:// is neither a local path nor one of {', '.join(FOLDER_SCHEMES)}")
        return normalise_uri(value) if separator else value

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: str) -> str:
        compile_name_pattern(value)
        return value


SourceConfig = Annotated[StacSourceConfig | FolderSourceConfig, Field(discriminator="kind")]
"""Where scenes come from."""


class _WindowPairing(StrictConfig):
    """What the kinds of pairing have in common that choose one scene out of a window of time."""

    order: Literal["newest", "least_cloudy"] = Field(
        default="newest",
        description="Which of the dates of a window that are good enough is taken, where several show as much of the "
        "area: the newest, or the one with the fewest clouds.",
    )


class DatesPairing(_WindowPairing):
    """One pair, out of two windows of time that stay as they are."""

    kind: Literal["dates"] = Field(description="One scene of each of two windows of time.")
    before_dates: str = Field(
        description="Window of the earlier scene, UTC: a day, month or year, or two of them as in 2024-05-01/2024-06."
    )
    after_dates: str = Field(description="Window of the later scene, in the same way.")

    @field_validator("before_dates", "after_dates", mode="before")
    @classmethod
    def _accept_date(cls, value: Any) -> Any:
        # What YAML makes of a plain date, and of a plain year.
        return value.isoformat() if isinstance(value, dt.date) else str(value) if isinstance(value, int) else value

    @field_validator("before_dates", "after_dates")
    @classmethod
    def _check_dates(cls, value: str) -> str:
        parse_interval(value)
        return value


class YearEarlierPairing(_WindowPairing):
    """The last days against the same days a year earlier, so that both dates show one season."""

    kind: Literal["year-earlier"] = Field(
        description="A scene of the last days against one of the same days a year earlier."
    )
    window_days: int = Field(
        default=30,
        ge=1,
        le=183,
        description="Length of both windows in days of 24 hours, up to now and up to a year before now.",
    )
    max_season_days: int = Field(
        default=21,
        ge=0,
        le=183,
        description="Where the two dates lie further apart in the year than so many days, the pass warns: what grew or "
        "withered in between may look like a change.",
    )


class LastAnalysedPairing(StrictConfig):
    """The newest scene against the one that was analysed last."""

    kind: Literal["last-analysed"] = Field(description="The newest scene against the last one that was analysed.")
    since: dt.date = Field(
        description="The first scene from this day (UTC) on is what the first pass compares the newest one with."
    )


class SeriesPairing(StrictConfig):
    """Every scene against the one before it."""

    kind: Literal["series"] = Field(description="Every scene of a series against the one before it.")
    since: dt.date = Field(description="First day of the series, UTC.")
    until: dt.date | None = Field(default=None, description="Last day of the series, UTC; left out, it goes on.")
    min_days_apart: int = Field(
        default=1, ge=1, le=3660, description="Scenes that follow the one before by fewer days are left out."
    )


PairingConfig = Annotated[
    DatesPairing | YearEarlierPairing | LastAnalysedPairing | SeriesPairing, Field(discriminator="kind")
]
"""How before and after are chosen."""

"""Settings of the common grid: how both dates are laid on it, beside each other and in tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.loading import StrictConfig
from pipeline.config.scene import StretchConfig


class GridConfig(StrictConfig):
    """The common grid that both dates are warped onto."""

    crs: str = Field(
        default="auto",
        description="CRS of the grid in metres, such as EPSG:32614; auto: the UTM zone of the overlap's centre.",
    )
    resolution_m: float = Field(
        default=0.5, gt=0, le=1000, description="Pixel size in metres. deltavlm-tiny was trained on tiles of 128 m."
    )
    tile_size_px: int = Field(default=256, ge=16, le=4096, description="Side of a tile in pixels, a multiple of 16.")

    anchor: Literal["overlap", "lattice"] = Field(
        default="overlap",
        description="Where the first tile begins. overlap: at the edge of what both scenes show; lattice: at a whole "
        "multiple of the tiles' spacing, so that runs of neighbouring or repeated areas have their tiles in common.",
    )
    max_tiles: int = Field(
        default=20_000_000,
        ge=1,
        description="A grid of more tiles is refused: a scene may say that it covers a continent. The default is "
        "330,000 square kilometres in tiles of 128 m, more than one UTM zone has of most countries.",
    )

    @field_validator("tile_size_px")
    @classmethod
    def _check_tile_size(cls, value: int) -> int:
        if value % 16:
            raise ValueError(f"{value} is no multiple of 16; use {max(16, round(value / 16) * 16)}")
        return value


class TilesConfig(StrictConfig):
    """How the tile store is written and which of its tiles are worth a look."""

    resampling: Literal["auto", "nearest", "bilinear", "cubic", "average"] = Field(
        default="auto",
        description="How pixels are interpolated onto the grid. auto: average, weighted by area, where the raster is "
        "finer than the grid by more than 1.25 times, else bilinear.",
    )
    stretch: StretchConfig = Field(
        default_factory=StretchConfig, description="How values other than 8-bit ones are scaled to 0-255."
    )
    shard_size_tiles: int = Field(
        default=8, ge=1, le=32, description="Side of a shard in tiles; a shard is the unit of write and one batch."
    )
    overlap_px: int = Field(
        default=0,
        ge=0,
        multiple_of=2,
        description="Pixels that neighbouring tiles share, so that one of them shows an object on a border as "
        "a whole; less than half of grid.tile_size_px. Nothing is counted twice.",
    )
    min_valid_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Tiles of whose ground, inside both scenes and the area of interest, less than this fraction is "
        "valid on both dates get the status no_data.",
    )
    max_cloud_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Tiles of whose ground more than this fraction is cloudy on either date get the status cloudy.",
    )


class RegistrationConfig(StrictConfig):
    """How the shift between the two dates is measured, and whether it is corrected."""

    gone_keys: ClassVar[Mapping[str, str]] = {
        "n_blocks": "16 blocks are looked at",
        "block_size_px": "blocks are 512 pixels wide",
    }

    estimate: bool = Field(
        default=True,
        description="Measure the shift between the dates, in blocks spread over the area that both scenes show.",
    )
    correct: bool = Field(
        default=False, description="Correct the later date by the measured shift, if one shift fits the whole area."
    )
    max_shift_px: float = Field(
        default=32, ge=8, le=256, description="Largest shift to search for, in pixels of the grid."
    )

    @model_validator(mode="after")
    def _check_correction(self) -> Self:
        if self.correct and not self.estimate:
            raise ValueError("registration.correct needs registration.estimate: a shift is corrected once it is known")
        return self

"""Everything that is to be said about a region once, typed and described, so that it is watched from then on."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from pipeline.config.cluster import ClusterConfig
from pipeline.config.grid import GridConfig, RegistrationConfig
from pipeline.config.loading import StrictConfig, load_settings
from pipeline.config.region_sources import PairingConfig, SourceConfig
from pipeline.config.run import BlockConfig, ReportConfig, RunConfig, RunSettings
from pipeline.config.scene import MAX_COMPOSED, CompositeConfig, SceneConfig

_ANY_MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_CRON_FIELDS = ("minute", "hour", "day", "month", "weekday")


class LatticeGridConfig(GridConfig):
    """The grid of a region: its tiles are the same in all pairs."""

    anchor: Literal["overlap", "lattice"] = Field(
        default="lattice",
        description="Where the first tile begins. lattice: at a whole multiple of the tiles' spacing, so that all "
        "pairs of the region have their tiles in common; overlap: at the edge of what the two scenes of a pair show.",
    )


class DateChoiceConfig(StrictConfig):
    """Which dates are good enough to be compared at all."""

    min_covered_fraction: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Dates whose scenes cover less than this fraction of the area, by their metadata, are "
        "left out; of composites what their scenes cover together. Scenes in a folder count as covering all of it.",
    )
    max_cloud_percent: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Dates with a higher mean cloud cover are left out; dates without cloud cover in their "
        "metadata are kept.",
    )
    composite: Literal["none", "first_clear", "median"] = Field(
        default="none",
        description="none: each date is one day's scene. first_clear and median: of the scenes of a window, pixel by "
        "pixel the first that shows the ground, or the median of all that do.",
    )
    composite_days: int = Field(
        default=30,
        ge=1,
        le=366,
        description="Length of the windows that composites are made of, in days of 24 hours, with the pairings series "
        "and last-analysed, counted from since. With dates and year-earlier the windows are the pairing's own.",
    )
    max_scenes: int = Field(
        default=16,
        ge=1,
        le=MAX_COMPOSED,
        description="A composite is made of so many scenes of its window at most, the first in its order.",
    )
    cloud_buffer_m: float = Field(
        default=100,
        ge=0,
        le=5000,
        description="With composites: so many metres around clouds and shadows are not seen.",
    )


class BlocksConfig(StrictConfig):
    """Into which squares a region is divided, each with dates, runs and failures of its own."""

    size_km: float = Field(
        default=10.0,
        gt=0,
        le=1000,
        description="Side of a block, to the nearest whole number of tiles; an area that is no larger is worked off as "
        "one piece. It stays as it is once there are blocks.",
    )
    n_blocks_at_once: int = Field(
        default=1, ge=1, le=32, description="Blocks that are worked on at the same time; they share the workers."
    )


class ScheduleConfig(StrictConfig):
    """When passes over the region start automatically."""

    cron: str = Field(description="Five fields of cron, such as 30 2 * * 1: Mondays at half past two.")
    timezone: str = Field(
        default="UTC",
        description="Name of the time zone that cron's hours are of, such as Europe/Berlin; its clock changes count.",
    )

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, value: str) -> str:
        if len(value.split()) != len(_CRON_FIELDS):
            raise ValueError(f"{value!r} has {len(value.split())} fields; cron has {', '.join(_CRON_FIELDS)}")
        try:
            CronSim(value, _ANY_MOMENT)
        except CronSimError as problem:
            raise ValueError(f"{value!r} is no schedule ({problem}); write for example 30 2 * * 1") from None
        day, weekday = value.upper().split()[2], value.upper().split()[4]
        if "L" in weekday or ("L" in day and day != "L"):
            raise ValueError(
                f"{value!r} counts from the end of a month, of which Prefect knows L alone as the day; "
                "write for example 30 2 L * *, or 30 2 * * 1#1 for the first Monday"
            )
        return value

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError(f"{value!r} is no time zone of the IANA database; write for example Europe/Berlin")
        return value


class KeepConfig(StrictConfig):
    """How many pairs, and of what age, keep something; where neither is given, all keep it for ever."""

    newest: int | None = Field(default=None, ge=1, description="Number of the newest pairs that keep it.")
    days: int | None = Field(
        default=None, ge=1, description="Pairs keep it while their later scene is no older than so many days."
    )


class RetentionConfig(StrictConfig):
    """What becomes of old pairs; the region's own report keeps what they have told, and the newest pair stays."""

    pixels: KeepConfig = Field(
        default_factory=KeepConfig, description="Pairs that keep their tile store; the others still have their report."
    )
    folders: KeepConfig = Field(
        default_factory=KeepConfig,
        description="Pairs that keep their folder; of the others, only what the region's report holds remains.",
    )


class TellingConfig(ReportConfig):
    """What of changes and events is told, and when; a pass that finds other rules for events asks no model."""

    min_area_m2: float = Field(default=0.0, ge=0, description="Smaller events are not told.")
    tell_new: Literal["first-sighting", "confirmed"] | None = Field(
        default=None,
        description="When an event is told as new: first-sighting, or confirmed, by a second independent pair. Left "
        "out, confirmed where pairing is year-earlier, whose pairs overlap in time, and first-sighting elsewhere.",
    )


class NotifyConfig(StrictConfig):
    """Who is told of what."""

    block: str = Field(
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect block that takes messages, as TYPE/NAME, such as slack-webhook/monitoring.",
    )
    events: tuple[Literal["new-changes", "failure"], ...] = Field(
        default=("new-changes", "failure"),
        min_length=1,
        description="new-changes: a pass tells events as new (report.tell_new); failure: a pass or one of "
        "its pairs has failed.",
    )


class RegionPlaces(StrictConfig):
    """Where a region is, where its scenes come from, and where its results go."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the region: small letters, digits and hyphens."
    )
    aoi: str = Field(min_length=1, description="Polygons of the area (GeoJSON, GeoPackage and the like).")
    source: SourceConfig = Field(description="Where scenes come from.")
    pairing: PairingConfig = Field(description="How before and after are chosen.")
    output: str = Field(
        min_length=1,
        description="Local folder of the region, or s3://bucket/prefix; its pairs, time line and report go there.",
    )
    dates: DateChoiceConfig = Field(default_factory=DateChoiceConfig, description="Which dates are good enough.")


class RegionConfig(RunSettings, RegionPlaces):
    """One region: an area, where its scenes come from, how they are paired, and what is asked of each pair."""

    zones: str | None = Field(
        default=None,
        description="Polygons to sum the changes of each pair over (GeoJSON, GeoPackage and the like); pairs that are "
        "done keep what they have.",
    )
    exclude: str | None = Field(
        default=None,
        description="Polygons in which no event is told, such as water or airports (GeoJSON, GeoPackage and the like).",
    )
    report: TellingConfig = Field(
        default_factory=TellingConfig, description="What of changes and events is told, and when."
    )
    grid: LatticeGridConfig = Field(
        default_factory=LatticeGridConfig,
        description="The common grid of all pairs; crs auto is the UTM zone of the area's middle.",
    )
    registration: RegistrationConfig = Field(
        default_factory=RegistrationConfig, description="The shift between the dates of a pair."
    )
    cluster: ClusterConfig = Field(default_factory=ClusterConfig, description="The Dask workers, shared by all pairs.")
    schedule: ScheduleConfig | None = Field(
        default=None, description="When passes start automatically. Left out, only when somebody starts one."
    )
    blocks: BlocksConfig | None = Field(
        default=None,
        description="Squares that the area is divided into, each with the best dates of its own; left out, all of it "
        "is one piece.",
    )
    max_concurrent_pairs: int = Field(
        default=1,
        ge=1,
        le=32,
        description="Pairs that are worked on at the same time; they share the workers. With several blocks, "
        "blocks.n_blocks_at_once says it.",
    )
    max_pairs_per_pass: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Pairs of one pass at most, with several blocks of each of them, the oldest first; the next pass "
        "goes on.",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=100, description="Passes that try a failing pair before it is given up."
    )
    retention: RetentionConfig = Field(default_factory=RetentionConfig, description="What becomes of old pairs.")
    notify: tuple[NotifyConfig, ...] = Field(default=(), description="Who is told of what, through Prefect.")

    @model_validator(mode="after")
    def _check_confirming(self) -> Self:
        if self.report.tell_new == "confirmed" and self.pairing.kind != "year-earlier":
            raise ValueError(
                f"report.tell_new confirmed does not go with pairing {self.pairing.kind}: no two of its pairs see one "
                "change, so none would ever be told; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if self.blocks is not None and self.grid.anchor != "lattice":
            raise ValueError("blocks needs grid.anchor lattice, as its squares are whole tiles; leave one of them out")
        return self

    @property
    def waits_for_confirmation(self) -> bool:
        """Whether an event is told as new once it is confirmed, rather than at its first sighting."""
        if self.report.tell_new is None:
            return self.pairing.kind == "year-earlier"
        return self.report.tell_new == "confirmed"

    def make_composite(self) -> CompositeConfig | None:
        """Give the rule by which each date is made of several; None where it is one day's scene."""
        if self.dates.composite == "none":
            return None
        order: Literal["newest", "least_cloudy"] = getattr(self.pairing, "order", "newest")
        return CompositeConfig(rule=self.dates.composite, cloud_buffer_m=self.dates.cloud_buffer_m, order=order)

    def make_run_config(
        self,
        *,
        before: SceneConfig,
        after: SceneConfig,
        output: str,
        crs: str | None = None,
        block: BlockConfig | None = None,
    ) -> RunConfig:
        """Give the config of the run of one pair.

        Args:
            before: The earlier scene.
            after: The later scene.
            output: Folder of the run.
            crs: CRS of the grid in place of ``auto``.
            block: The block that the run keeps to; None: it goes over the whole area.

        Raises:
            pydantic.ValidationError: a run cannot be told these settings.
        """
        shared = {name: getattr(self, name) for name in RunSettings.model_fields}
        shared["grid"] = GridConfig(**self.grid.model_dump() | ({"crs": crs} if crs is not None else {}))
        shared["report"] = ReportConfig(**self.report.model_dump(include=set(ReportConfig.model_fields)))
        return RunConfig(before=before, after=after, output=output, aoi=self.aoi, block=block, **shared)


def load_region_config(
    path: str | Path | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> RegionConfig:
    """Build a `RegionConfig` from a YAML file, then values, then ``key=value`` assignments, each over the former.

    Args:
        path: YAML file with the keys of `RegionConfig`.
        values: Keys of `RegionConfig` to put on top; None values are left out, mappings merge.
        assignments: ``dotted.key=value`` with the value in YAML, such as ``pairing.window_days=14``.

    Raises:
        InputError: the file cannot be read, an assignment has no ``=``, or a key or value does not fit.
    """
    return load_settings(
        RegionConfig,
        path,
        values=values,
        assignments=assignments,
        described_in="configs/regions/sentinel2.yaml",
        begin_with="configs/regions/folder.yaml",
    )

"""A region's settings: what the shipped examples say, and what a mistake gets."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from pydantic import BaseModel

from model.errors import InputError
from pipeline.config.grid import GridConfig
from pipeline.config.region import (
    DateChoiceConfig,
    KeepConfig,
    NotifyConfig,
    RegionConfig,
    RetentionConfig,
    ScheduleConfig,
    TellingConfig,
    load_region_config,
)
from pipeline.config.region_sources import (
    DatesPairing,
    FolderSourceConfig,
    LastAnalysedPairing,
    SeriesPairing,
    StacSourceConfig,
    YearEarlierPairing,
)
from pipeline.config.scene import SceneConfig
from pipeline.dates import compile_name_pattern

REQUIRED: dict[str, Any] = {
    "name": "harbour",
    "aoi": "area.geojson",
    "source": {"kind": "folder", "folder": "scenes"},
    "pairing": {"kind": "year-earlier"},
    "output": "regions/harbour",
}


REGIONS = sorted((Path(__file__).parents[4] / "configs" / "regions").glob("*.yaml"))


@pytest.mark.parametrize("path", REGIONS, ids=lambda path: path.stem)
def test_shipped_region_is_valid(path: Path) -> None:
    config = load_region_config(path)

    assert config.grid.anchor == "lattice"
    assert RegionConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "model",
    [
        RegionConfig, DateChoiceConfig, ScheduleConfig, KeepConfig, RetentionConfig, NotifyConfig, TellingConfig,
        StacSourceConfig, FolderSourceConfig, DatesPairing, YearEarlierPairing, LastAnalysedPairing, SeriesPairing,
    ],
)  # fmt: skip
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("name=Harbour", "name"),
        ("sorce=x", "sorce: unknown key"),
        ("schedule={cron: 30 2 * *}", "has 4 fields; cron has minute, hour, day, month, weekday"),
        ("schedule={cron: 61 2 * * *}", "is no schedule"),
        ("schedule={cron: 30 2 * * 5L}", "of which Prefect knows L alone as the day"),
        ("schedule={cron: 30 2 LW * *}", "of which Prefect knows L alone as the day"),
        ("schedule={cron: 30 2 * * *, timezone: Europe/Bonn}", "'Europe/Bonn' is no time zone"),
        ("source.files=scene.tif", "does not tell the day"),
        ("source.files=scene-%q%Y%m%d", "%q is no code of a date"),
        ("source.folder=ftp://host/x", "ftp:// is neither a local path"),
        ("pairing={kind: weekly}", "pairing"),
        ("pairing={kind: dates, before_dates: 2024, after_dates: soon}", "pairing.dates.after_dates"),
        ("pairing.window_days=0", "pairing.year-earlier.window_days"),
        ("source={kind: stac, search: {href: x.json, datetime: 2024}}", "datetime given; pairing says"),
        ("notify=[{block: Slack}]", "notify.0.block"),
        ("output=ftp://x", "neither a local path nor s3"),
        ("tiles.overlap_px=200", "tiles.overlap_px is 200"),
        ("prompts=[{name: a, kind: ask, text: t}, {name: a, kind: ask, text: u}]", "more than once"),
    ],
)
def test_mistake_is_named(assignment: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        load_region_config(values=REQUIRED, assignments=(assignment,))


def test_credentials_stay_out_of_what_is_written_down() -> None:
    source = {"kind": "stac", "search": {"href": "https://me:pa55@host/v1?key=s3cret"}}
    config = load_region_config(values={**REQUIRED, "source": source})

    told = config.model_dump_json()

    assert "pa55" not in told
    assert "s3cret" not in told


def test_run_of_a_pair_is_told_what_the_region_is_told() -> None:
    config = load_region_config(values=REQUIRED, assignments=("grid.resolution_m=2", "model.device=cpu"))

    run = config.make_run_config(
        before=SceneConfig(uri="b.tif"), after=SceneConfig(uri="a.tif"), output="run", crs="EPSG:32632"
    )

    assert run.grid == GridConfig(crs="EPSG:32632", resolution_m=2, anchor="lattice")
    assert (run.aoi, run.model.device, run.output) == ("area.geojson", "cpu", "run")


def test_hour_that_a_clock_change_skips_does_not_lose_a_day() -> None:
    schedule = ScheduleConfig(cron="30 2 * * *", timezone="Europe/Berlin")
    begin = dt.datetime(2026, 3, 28, tzinfo=ZoneInfo(schedule.timezone))
    times = CronSim(schedule.cron, begin)

    # On 29 March 2026 there is no half past two; on the others there is, at the hour of the wall clock.
    fired = [next(times) for _ in range(3)]

    assert [moment.date().day for moment in fired] == [28, 29, 30]
    assert [moment.astimezone(dt.UTC).hour for moment in fired] == [1, 1, 0]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*%Y%m%d*.tif", "T14RPV_20240503T103021_B04.tif", "2024-05-03T00:00:00+00:00"),
        ("*_%Y%m%dT%H%M%S_*.tif", "T14RPV_20240503T103021_B04.tif", "2024-05-03T10:30:21+00:00"),
        ("**/ortho_%Y-%m-%d*.tif", "a/b/ortho_2024-05-03.tif", "2024-05-03T00:00:00+00:00"),
        ("**/ortho_%Y-%m-%d*.tif", "ortho_2024-05-03_b.tif", "2024-05-03T00:00:00+00:00"),
        ("%Y/%Y%j.tif", "2024/2024060.tif", "2024-02-29T00:00:00+00:00"),
        ("%Y/%Y%j.tif", "2023/2024060.tif", None),
        ("%Y%m%d.tif", "20240503_tif", None),
        ("%Y%m%d.tif", "x/20240503.tif", None),
    ],
)
def test_date_is_read_out_of_a_name(pattern: str, name: str, expected: str | None) -> None:
    compiled = compile_name_pattern(pattern)

    assert compiled.matches(name) == (expected is not None)
    if expected is not None:
        assert compiled.read_datetime(name).isoformat() == expected


def test_digits_that_are_no_date_are_named() -> None:
    with pytest.raises(ValueError, match=r"has no date where %Y%m%d\.tif wants one: 2023-02-29"):
        compile_name_pattern("%Y%m%d.tif").read_datetime("20230229.tif")


@pytest.mark.parametrize(
    ("pairing", "tell_new", "waits"),
    [
        ({"kind": "year-earlier"}, None, True),
        ({"kind": "year-earlier"}, "confirmed", True),
        ({"kind": "year-earlier"}, "first-sighting", False),
        ({"kind": "series", "since": "2025-01-01"}, None, False),
        ({"kind": "last-analysed", "since": "2025-01-01"}, "first-sighting", False),
    ],
)
def test_pairs_that_overlap_wait_for_confirmation(pairing: dict[str, Any], tell_new: str | None, waits: bool) -> None:
    config = RegionConfig.model_validate(REQUIRED | {"pairing": pairing, "report": {"tell_new": tell_new}})

    assert config.waits_for_confirmation is waits


def test_waiting_for_what_cannot_come_is_refused() -> None:
    values = REQUIRED | {"pairing": {"kind": "series", "since": "2025-01-01"}, "report": {"tell_new": "confirmed"}}

    with pytest.raises(ValueError, match="none would ever be told; leave it out"):
        RegionConfig.model_validate(values)

"""What a cron schedule does on the days when the clocks change, by the schedule of Prefect's own server."""

from __future__ import annotations

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import pytest

BERLIN = ZoneInfo("Europe/Berlin")


def list_firings(cron: str, *, first: dt.date, n_days: int) -> list[dt.datetime]:
    from prefect.server.schemas.schedules import CronSchedule

    start = dt.datetime.combine(first, dt.time(), BERLIN)
    end = dt.datetime.combine(first + dt.timedelta(days=n_days), dt.time(), BERLIN)
    schedule = CronSchedule(cron=cron, timezone="Europe/Berlin")
    found = asyncio.run(schedule.get_dates(100, start=start, end=end))
    return [dt.datetime.fromtimestamp(each.timestamp(), dt.UTC) for each in found]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        # Where 02:30 does not exist, the run comes at 01:30 by the old clock, as 02:30 of the new one would be.
        (dt.date(2027, 3, 27), ["2027-03-27T01:30", "2027-03-28T00:30", "2027-03-29T00:30"]),
        # Where it comes twice, the run comes at the first.
        (dt.date(2026, 10, 24), ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_half_past_two_comes_once_on_the_day_the_clocks_change(first: dt.date, expected: list[str]) -> None:
    firings = list_firings("30 2 * * *", first=first, n_days=3)

    assert [f"{each:%Y-%m-%dT%H:%M}" for each in firings] == expected

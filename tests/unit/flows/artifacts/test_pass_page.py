"""What a pass tells people: how many events are new, and how many are still to be confirmed."""

from __future__ import annotations

from typing import Any

import pytest

from flows.artifacts.pass_page import choose_notifiers, word_message, word_subject, write_pass_page
from pipeline.config.region import NotifyConfig

OUTCOME: dict[str, Any] = {
    "region": "harbour",
    "output": "regions/harbour",
    "n_scenes": 4,
    "n_pairs_done": 1,
    "n_pairs_skipped": 2,
    "n_new_changes": 7,
    "events": {"added": 7, "confirmed": 1, "altered": 2, "retired": 0, "new": 1},
    "n_provisional": 7,
    "failed": {},
    "report": ["regions/harbour/report/index.html"],
}


def test_what_is_new_is_told_by_events_and_what_waits_beside_it() -> None:
    words = "Events: 7 added, 1 confirmed, 2 altered, 0 retired; 7 neither confirmed nor denied so far."

    assert word_subject(OUTCOME) == "Region harbour: 1 new change"
    assert words in word_message(OUTCOME).splitlines()
    assert words in write_pass_page(OUTCOME)


@pytest.mark.parametrize(("n_new", "told"), [(1, ["slack-webhook/all"]), (0, [])])
def test_sightings_that_wait_for_a_second_send_no_message(n_new: int, told: list[str]) -> None:
    outcome = OUTCOME | {"events": OUTCOME["events"] | {"new": n_new}}

    assert choose_notifiers((NotifyConfig(block="slack-webhook/all"),), outcome=outcome) == told

"""What a pass tells people: how many events are new, and how many are still to be confirmed."""

from __future__ import annotations

from typing import Any

import pytest

from flows.artifacts.pass_page import (
    MAX_BLOCK_ROWS,
    choose_notifiers,
    tabulate_blocks,
    word_message,
    word_subject,
    write_pass_page,
)
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


def test_blocks_are_a_table_in_which_those_to_look_at_come_first() -> None:
    rows = [
        ("b", "done", None),
        ("a", "known", "before"),
        ("c", "failed", "x" * 500),
        ("d", "no_scene", "no scene shows it"),
    ]
    blocks = [
        {"block_id": name, "status": status, "reason": why, "n_scenes": 2, "n_to_do": 1} for name, status, why in rows
    ]

    table = tabulate_blocks(OUTCOME | {"blocks": blocks})

    assert [row["block"] for row in table] == ["c", "d", "b", "a"]
    assert len(table[0]["reason"]) < 500
    assert "Blocks: 1 failed, 1 no_scene, 1 done, 1 known." in word_message(OUTCOME | {"blocks": blocks}).splitlines()
    assert tabulate_blocks(OUTCOME) == []
    assert "Blocks" not in word_message(OUTCOME)


def test_table_of_a_country_stays_small() -> None:
    block = {"status": "done", "reason": None, "n_scenes": 2, "n_to_do": 1}

    table = tabulate_blocks(OUTCOME | {"blocks": [block | {"block_id": str(n)} for n in range(MAX_BLOCK_ROWS + 5)]})

    assert len(table) == MAX_BLOCK_ROWS + 1
    assert table[-1]["block"] == "5 more"

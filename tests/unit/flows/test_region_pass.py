"""Which pairs of a pass wait for one another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows.region_pass import list_turns


@pytest.mark.parametrize(
    ("blocks", "turns"),
    [
        ([], []),
        ([None, None], [[0], [1]]),
        (["west", "east", "west"], [[0, 2], [1]]),
    ],
)
def test_pairs_of_one_block_are_run_one_after_the_other(blocks: list[str | None], turns: list[list[int]]) -> None:
    records: list[Any] = [SimpleNamespace(block=block, block_id=block, place=n) for n, block in enumerate(blocks)]

    assert [[record.place for record in turn] for turn in list_turns(records)] == turns

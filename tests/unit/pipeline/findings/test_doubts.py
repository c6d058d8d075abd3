"""Claims with nothing to show and tiles of other looks are counted, and told where they are many."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from model.interface import Prompt, PromptKind
from pipeline.findings.doubts import find_empty_claims, list_doubts, note_empty_claims

CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Yes or no?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
NO_CHANGES = pd.DataFrame({"tile_ids": pd.Series([], dtype="str")})


def make_findings(*rows: dict[str, Any]) -> pd.DataFrame:
    plain = {"status": "analysed", "is_changed": True, "building_count": 0, "road_count": None}
    plain |= {"building_cells": "", "road_cells": None}
    frame = pd.DataFrame([plain | {"tile_id": f"t{number}"} | row for number, row in enumerate(rows)])
    return frame.astype({"is_changed": "boolean", "building_count": "Int32", "road_count": "Int32"})


def test_a_claim_is_empty_without_a_count_a_cell_or_a_part_of_a_change() -> None:
    findings = make_findings(
        {},
        {"building_count": 1},
        {"road_cells": "top-left"},
        {"is_changed": False},
        {"is_changed": None, "status": "unreadable"},
        {},
    )
    changes = pd.DataFrame({"tile_ids": ["t9;t5"]})

    assert find_empty_claims(findings, changes=changes).tolist() == [True, False, False, False, False, False]


@pytest.mark.parametrize(("n_empty", "is_noted"), [(3, False), (4, True), (10, True)])
def test_a_run_with_many_empty_claims_says_so(n_empty: int, is_noted: bool) -> None:
    findings = make_findings(*[{"is_changed": number < n_empty} for number in range(10)])

    note = note_empty_claims(findings, changes=NO_CHANGES, prompts=[CLASSIFY, COUNT])

    assert (note is not None) == is_noted
    assert note is None or f"of 10 analysed tiles, {n_empty} are called changed with nothing to show" in note


def test_where_nothing_to_show_was_asked_for_nothing_is_missed() -> None:
    assert note_empty_claims(make_findings({}), changes=NO_CHANGES, prompts=[CLASSIFY]) is None


@pytest.mark.parametrize(("n_unlike", "is_noted"), [(3, False), (4, True)])
def test_a_run_with_many_tiles_of_other_looks_says_so(n_unlike: int, is_noted: bool) -> None:
    findings = make_findings(*[{"is_changed": False}] * 10).assign(
        familiarity=0.5, model_fit=["unlike"] * n_unlike + ["inside"] * (10 - n_unlike)
    )

    doubts = list_doubts(findings, changes=NO_CHANGES, prompts=[CLASSIFY, COUNT])

    assert [doubt[:31] for doubt in doubts] == [f"of 10 analysed tiles, {n_unlike} look un"] * is_noted

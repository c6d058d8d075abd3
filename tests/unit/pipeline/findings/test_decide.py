from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.certainty import BareYes, Certainty, CountFit, CountStep
from model.home import ModelFit
from model.interface import NOT_ASKED, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, parse_answer
from pipeline.answers.meaning import GivenAnswers
from pipeline.findings.decide import BARE_YES, WITHHELD, judge_tiles
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.table import Tile, TileTable

DESCRIBE = Prompt(name="description", kind=PromptKind.DESCRIBE, text="Describe.")
CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Yes or no?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
LOCATE = Prompt(name="location", kind=PromptKind.LOCATE, text="Where?")
ASK = Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?")

NOTHING_COUNTED = "There are no changes in roads or buildings between the two images."
NOTHING_PLACED = "roads: []. buildings: []."


Given = Mapping[str, tuple[str, float]]
"""Text and confidence of one tile's answers, by the name of the prompt."""


def make_tile(status: TileStatus | None = None, reason: str = "", *, col: int = 2) -> Tile:
    return Tile(row=1, col=col, tile_id=f"r0001_c{col:04d}", valid_fraction=0.5, status=status, reason=reason)


def judge_all(
    tiles: Sequence[Tile],
    *,
    prompts: Sequence[Prompt],
    answers: Sequence[Given],
    failures: Mapping[str, str],
    fit: ModelFit | None = None,
    familiarities: Sequence[float] | None = None,
    certainty: Certainty | None = None,
) -> list[dict[str, Any]]:
    """Give the columns of `judge_tiles` as one row per tile."""
    given = {}
    for prompt in prompts:
        said = [tile.get(prompt.name) for tile in answers]
        texts = sorted({answer[0] for answer in said if answer})
        given[prompt.name] = GivenAnswers(
            texts=pa.array(texts, pa.string()),
            codes=np.array([texts.index(answer[0]) if answer else -1 for answer in said], dtype=np.int32),
            confidences=np.array([answer[1] if answer else 0 for answer in said], dtype=np.float32),
            familiarities=None if familiarities is None else np.array(familiarities, dtype=np.float32),
        )
    columns = judge_tiles(
        TileTable.gather(tiles), prompts=prompts, answers=given, failures=failures, fit=fit, certainty=certainty
    )
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


def judge(
    *pairs: tuple[Prompt, str, float], failure: str | None = None, certainty: Certainty | None = None
) -> dict[str, Any]:
    """Judge one tile; gives what is known of it, without the columns that are null."""
    answers = {prompt.name: (text, part) for prompt, text, part in pairs}
    failures = {"r0001_c0002": failure} if failure else {}
    (row,) = judge_all(
        [make_tile()],
        prompts=[pair[0] for pair in pairs],
        answers=[answers],
        failures=failures,
        certainty=certainty,
    )
    return drop_nulls(row)


def drop_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def test_a_tile_that_was_not_asked_on_has_nothing_counted_and_says_why() -> None:
    spared = [(prompt, NOT_ASKED.text, 0.0) for prompt in (DESCRIBE, COUNT, LOCATE, ASK)]

    assert judge(spared[0], (CLASSIFY, "No", 0.9799), *spared[1:]) == {
        "status": "analysed",
        "reason": "not asked on: unchanged, 0.97",
        "is_changed": False,
        "change_confidence": pytest.approx(0.9799),
        "building_count": 0,
        "road_count": 0,
        "building_cells": "",
        "road_cells": "",
    }


def test_all_answers_of_a_tile_become_one_finding() -> None:
    expected = {
        "status": "analysed",
        "is_changed": True,
        "change_confidence": pytest.approx(0.9),
        "description": "a house and a road have been built",
        "building_count": 3,
        "road_count": 1,
        "building_cells": "top-left;center-center",
        "road_cells": "",
        "trees": "Yes, two.",
    }

    found = judge(
        (DESCRIBE, "a house and a road have been built", 0.5),
        (CLASSIFY, "Yes", 0.9),
        (COUNT, "1 road has changed, and 3 buildings has changed.", 0.6),
        (LOCATE, "roads: []. buildings: ['center-center', 'top-left'].", 0.7),
        (ASK, "Yes, two.", 0.4),
    )

    assert found == expected


@pytest.mark.parametrize(
    "status", [status for status in TileStatus if status not in {TileStatus.ANALYSED, TileStatus.UNREADABLE}]
)
def test_what_was_not_asked_is_never_called_unchanged(status: TileStatus) -> None:
    (found,) = judge_all([make_tile(status, "why")], prompts=[CLASSIFY], answers=[{}], failures={})

    verdict = {"is_changed": False} if status is TileStatus.IDENTICAL else {}
    assert drop_nulls(found) == {"status": status.value, "reason": "why", **verdict}


def test_a_failed_tile_has_its_reason_and_no_verdict() -> None:
    found = judge((CLASSIFY, "No", 0.9), failure="RuntimeError: out of memory")

    assert found == {"status": "failed", "reason": "RuntimeError: out of memory"}


def test_a_missing_answer_fails_the_tile() -> None:
    (found,) = judge_all([make_tile()], prompts=[CLASSIFY, COUNT], answers=[{"changed": ("No", 0.9)}], failures={})

    assert drop_nulls(found) == {"status": "failed", "reason": "no answer to count; run again"}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            [(CLASSIFY, "perhaps", 0.9), (COUNT, "2 buildings", 0.8)],
            {"status": "unreadable", "reason": "changed: perhaps", "building_count": 2},
        ),
        (
            [(CLASSIFY, "Yes", 0.9), (COUNT, "<b>lots</b>", 0.8), (LOCATE, "everywhere", 0.7)],
            {
                "status": "unreadable",
                "reason": "count: <b>lots</b>; location: everywhere",
                "is_changed": True,
                "change_confidence": pytest.approx(0.9),
            },
        ),
        ([(DESCRIBE, " ", 0.9)], {"status": "unreadable", "reason": "description: (no words)"}),
    ],
)
def test_an_unreadable_answer_keeps_its_text_and_the_others_their_meaning(
    answers: list[tuple[Prompt, str, float]], expected: dict[str, Any]
) -> None:
    assert judge(*answers) == expected


@pytest.mark.parametrize(
    ("answers", "is_changed", "confidence"),
    [
        ([(CLASSIFY, "No", 0.9), (COUNT, "2 buildings", 0.8)], False, 0.9),
        ([(COUNT, "2 buildings", 0.8)], True, 0.8),
        ([(COUNT, NOTHING_COUNTED, 0.8)], False, 0.8),
        ([(COUNT, NOTHING_COUNTED, 0.8), (LOCATE, "roads: ['top-left']. buildings: [].", 0.6)], True, 0.6),
        ([(COUNT, NOTHING_COUNTED, 0.8), (LOCATE, NOTHING_PLACED, 0.6)], False, 0.8),
        ([(COUNT, "0 roads", 0.8)], None, None),
        ([(LOCATE, "buildings: []", 0.6)], None, None),
        ([(DESCRIBE, "nothing", 0.6)], None, None),
    ],
)
def test_who_decides_whether_a_tile_changed(
    answers: list[tuple[Prompt, str, float]], is_changed: bool | None, confidence: float | None
) -> None:
    found = judge(*answers)

    assert found.get("is_changed") is is_changed
    assert found.get("change_confidence") == (confidence and pytest.approx(confidence))


def test_answers_that_disagree_are_noted() -> None:
    found = judge((CLASSIFY, "No", 0.9), (LOCATE, "roads: []. buildings: ['top-left'].", 0.8))

    assert found["status"] == "analysed"
    assert found["reason"] == "answers disagree: not changed, but cells given"


def judge_slowly(tile: Tile, *, prompts: Sequence[Prompt], answers: Given, failure: str | None) -> dict[str, Any]:
    """Judge one tile in plain steps."""
    if tile.status is not None:
        verdict = {"is_changed": False} if tile.status is TileStatus.IDENTICAL else {}
        return {"status": tile.status.value, "reason": tile.reason, **verdict}
    missing = [prompt.name for prompt in prompts if prompt.name not in answers]
    if failure or missing:
        return {"status": "failed", "reason": failure or f"no answer to {', '.join(missing)}; run again"}
    row: dict[str, Any] = {"status": "analysed"}
    doubts, witnesses = [], {}
    for prompt in prompts:
        text, confidence = answers[prompt.name]
        told = parse_answer(prompt.kind, text)
        if told is None:
            doubts.append(f"{prompt.name}: {text}")
        elif isinstance(told, ParsedClassify):
            witnesses = {"classify": ((told.is_changed,), confidence)}
        elif isinstance(told, ParsedCount):
            row |= {"building_count": told.building_count, "road_count": told.road_count}
            witnesses["count"] = (told.building_count, told.road_count), confidence
        elif isinstance(told, ParsedLocate):
            cells = {"building_cells": told.building_cells, "road_cells": told.road_cells}
            row |= {name: None if value is None else ";".join(value) for name, value in cells.items()}
            witnesses["locate"] = tuple(cells.values()), confidence
        else:
            row["description" if prompt is DESCRIBE else prompt.name] = told.text
    if CLASSIFY in prompts:
        witnesses = {name: witness for name, witness in witnesses.items() if name == "classify"}
    for amounts, confidence in witnesses.values():
        if any(amounts) and "is_changed" not in row:
            row |= {"is_changed": True, "change_confidence": confidence}
    for amounts, confidence in witnesses.values():
        if not any(amounts) and None not in amounts and "is_changed" not in row:
            row |= {"is_changed": False, "change_confidence": confidence}
    claims = {"counts": ("building_count", "road_count"), "cells": ("building_cells", "road_cells")}
    told_names = [name for name, fields in claims.items() if any(row.get(field) for field in fields)]
    if doubts:
        row |= {"status": "unreadable", "reason": "; ".join(doubts)}
    elif row.get("is_changed") is False and told_names:
        row["reason"] = f"answers disagree: not changed, but {' and '.join(told_names)} given"
    return drop_nulls(row)


TEXTS = {
    DESCRIBE: ["a house", " two houses ", " ", ""],
    CLASSIFY: ["Yes", "No", "perhaps", NOTHING_COUNTED],
    COUNT: ["2 buildings", "0 roads", NOTHING_COUNTED, "quite a lot", "no roads or buildings", "1 road, 0 buildings"],
    LOCATE: [NOTHING_PLACED, "roads: ['top-left']. buildings: [].", "buildings: []", "everywhere"],
    ASK: ["Yes.", "No.", ""],
}


@st.composite
def draw_case(draw: st.DrawFn) -> tuple[list[Prompt], list[Tile], list[Given], dict[str, str]]:
    prompts = draw(st.lists(st.sampled_from(list(TEXTS)), unique=True))
    n_tiles = draw(st.integers(0, 12))
    unasked = [TileStatus.NO_DATA, TileStatus.IDENTICAL, TileStatus.OUTSIDE, TileStatus.FAILED]
    statuses = draw(st.lists(st.sampled_from([None, None, None, *unasked]), min_size=n_tiles, max_size=n_tiles))
    tiles = [make_tile(status, "why" if status else "", col=col) for col, status in enumerate(statuses)]
    # Quarters are exact in 32 bits.
    part = st.sampled_from([0.25, 0.5, 0.75, 1.0])
    said = [st.one_of(st.none(), *[st.tuples(st.sampled_from(TEXTS[prompt]), part)] * 7) for prompt in prompts]
    answers = [
        {p.name: answer for p, answer in zip(prompts, draw(st.tuples(*said)), strict=True) if answer} for _ in tiles
    ]
    failed = draw(st.sets(st.integers(0, 14), max_size=2))
    return prompts, tiles, answers, {f"r0001_c{col:04d}": "worker lost" for col in sorted(failed)}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(draw_case())
def test_many_tiles_are_judged_as_each_alone(
    case: tuple[list[Prompt], list[Tile], list[Given], dict[str, str]],
) -> None:
    prompts, tiles, answers, failures = case
    expected = [
        judge_slowly(tile, prompts=prompts, answers=given, failure=failures.get(tile.tile_id))
        for tile, given in zip(tiles, answers, strict=True)
    ]

    found = judge_all(tiles, prompts=prompts, answers=answers, failures=failures)

    assert [drop_nulls(row) for row in found] == expected


DENIAL: Given = {
    "description": ("The scene is the same as before.", 0.5),
    "changed": ("No", 0.98),
    "count": (NOTHING_COUNTED, 0.5),
    "location": ("roads: []. buildings: [top-left].", 0.5),
    "trees": ("No.", 0.5),
}
CLAIM: Given = DENIAL | {
    "changed": ("Yes", 0.75),
    "count": ("2 buildings have changed and 0 roads have changed.", 0.5),
}


def judge_coarse(tiles: Sequence[Tile], answers: Sequence[Given]) -> list[dict[str, Any]]:
    prompts = [DESCRIBE, CLASSIFY, COUNT, LOCATE, ASK]
    rows = judge_all(tiles, prompts=prompts, answers=answers, failures={}, fit=ModelFit.COARSE)
    return [drop_nulls(row) for row in rows]


def test_of_a_coarse_tile_no_lack_of_change_is_told() -> None:
    tiles = [make_tile(), make_tile(TileStatus.IDENTICAL, "same pixels", col=3), make_tile(col=4)]
    denied, identical, unreadable = judge_coarse(tiles, [DENIAL, {}, DENIAL | {"changed": ("Perhaps", 0.5)}])

    assert denied == {"status": "analysed", "model_fit": "coarse", "reason": WITHHELD}
    assert identical == {"status": "identical", "model_fit": "coarse", "reason": "same pixels"}
    assert unreadable == {"status": "unreadable", "model_fit": "coarse", "reason": "changed: Perhaps"}


def test_of_a_coarse_tile_a_change_is_told_and_nothing_that_would_deny_others() -> None:
    (claimed,) = judge_coarse([make_tile()], [CLAIM])

    assert claimed["is_changed"] is True
    assert (claimed["change_confidence"], claimed["building_count"], claimed["building_cells"]) == (0.75, 2, "top-left")
    assert {"road_count", "road_cells"}.isdisjoint(claimed)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (None, [None, None, None]),
        (ModelFit.INSIDE, ["inside", "unlike", "inside"]),
        (ModelFit.FINE, ["fine", "fine", "fine"]),
        (ModelFit.COARSE, ["coarse", "coarse", "coarse"]),
    ],
)
def test_every_row_tells_how_its_tile_fits_the_model(fit: ModelFit | None, expected: list[str | None]) -> None:
    tiles = [make_tile(col=0), make_tile(col=1), make_tile(TileStatus.NO_DATA, "blank", col=2)]
    answers = [{"changed": ("Yes", 0.5)}, {"changed": ("Yes", 0.5)}, {}]
    rows = judge_all(
        tiles, prompts=[CLASSIFY], answers=answers, failures={}, fit=fit, familiarities=[0.05, 0.0499, np.nan]
    )

    assert [row["model_fit"] for row in rows] == expected
    assert [row["familiarity"] for row in rows] == [pytest.approx(0.05), pytest.approx(0.0499), None]


MEASURED = Certainty(
    counts=(
        CountFit(
            kind="building",
            steps=(
                CountStep(up_to=2, below=1, above=0.5, n_tiles=30),
                CountStep(up_to=None, below=0.25, above=0.5, n_tiles=30),
            ),
        ),
    ),
    bare_yes=BareYes(probability=0.625, n_tiles=30),
)


@pytest.mark.parametrize(
    ("said", "bounds"),
    [("2 buildings have changed.", (0, 3)), ("8 buildings and 1 road have changed.", (6, 12))],
)
def test_counts_of_changed_tiles_have_intervals_where_they_were_measured(said: str, bounds: tuple[int, int]) -> None:
    row = judge((CLASSIFY, "Yes", 0.9), (COUNT, said, 1.0), certainty=MEASURED)

    assert (row["building_count_low"], row["building_count_high"]) == bounds
    assert "road_count_low" not in row
    assert not {"building_count_low", "building_count_high"} & judge((CLASSIFY, "Yes", 0.9), (COUNT, said, 1.0)).keys()
    denied = judge((CLASSIFY, "No", 0.9), (COUNT, said, 1.0), certainty=MEASURED)
    assert "building_count_low" not in denied


@pytest.mark.parametrize(
    "beside", [[(COUNT, NOTHING_COUNTED, 1.0)], [(LOCATE, NOTHING_PLACED, 1.0)], [(COUNT, "0 buildings.", 1.0)]]
)
def test_a_yes_alone_stays_and_is_as_sure_as_such_ones_were_right(beside: list[tuple[Prompt, str, float]]) -> None:
    row = judge((CLASSIFY, "Yes", 0.9), *beside, certainty=MEASURED)

    assert (row["is_changed"], row["change_confidence"], row["reason"]) == (True, 0.625, BARE_YES)
    assert judge((CLASSIFY, "Yes", 0.9), *beside)["change_confidence"] == pytest.approx(0.9)


@pytest.mark.parametrize("fit", [ModelFit.COARSE, ModelFit.FINE])
def test_how_sure_a_yes_alone_is_was_not_measured_elsewhere(fit: ModelFit) -> None:
    said = {CLASSIFY.name: ("Yes", 0.9), COUNT.name: (NOTHING_COUNTED, 1.0)}

    (row,) = judge_all(
        [make_tile()], prompts=[CLASSIFY, COUNT], answers=[said], failures={}, fit=fit, certainty=MEASURED
    )

    assert (row["is_changed"], row["change_confidence"], row["reason"]) == (True, None, BARE_YES)


@pytest.mark.parametrize(
    "beside",
    [[], [(COUNT, "1 road has changed.", 1.0)], [(COUNT, NOTHING_COUNTED, 1.0), (LOCATE, "roads: ['top-left'].", 1.0)]],
)
def test_a_yes_beside_which_something_is_told_or_nothing_was_asked_is_none_of_these(
    beside: list[tuple[Prompt, str, float]],
) -> None:
    row = judge((CLASSIFY, "Yes", 0.9), *beside, certainty=MEASURED)

    assert row["change_confidence"] == pytest.approx(0.9)
    assert "reason" not in row


@pytest.mark.parametrize("kind", [kind for kind in PromptKind if kind is not PromptKind.DIALOGUE])
@pytest.mark.parametrize("text", ["", " ", ".", "\n"])
def test_an_answer_without_a_word_cannot_be_read_whatever_was_asked(kind: PromptKind, text: str) -> None:
    row = judge((Prompt(name="asked", kind=kind, text="?"), text, 1.0), certainty=MEASURED)

    assert row["status"] == "unreadable"
    assert "is_changed" not in row

"""Replies in JSON mean what the sentences of ChangeChat mean; whatever else comes stays as it is."""

from __future__ import annotations

import json

import pytest

from model.interface import PromptKind
from model.parsing import ParsedCount, ParsedLocate, parse_answer
from model.remote.forms import make_response_format, to_sentence


@pytest.mark.parametrize(("roads", "buildings"), [(0, 0), (2, 5), (1, 0)])
def test_counts_are_read_from_the_sentence(roads: int, buildings: int) -> None:
    sentence = to_sentence(PromptKind.COUNT, json.dumps({"roads": roads, "buildings": buildings}))

    assert parse_answer(PromptKind.COUNT, sentence) == ParsedCount(road_count=roads, building_count=buildings)


def test_cells_are_read_from_the_sentence_in_their_order_and_once() -> None:
    reply = {"buildings": ["bottom-right", "top-left", "top-left"], "roads": []}
    sentence = to_sentence(PromptKind.LOCATE, f"```json\n{json.dumps(reply)}\n```")

    expected = ParsedLocate(road_cells=(), building_cells=("top-left", "bottom-right"))
    assert parse_answer(PromptKind.LOCATE, sentence) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2 roads have changed, and 5 buildings have changed.",
        '{"roads": 2}',
        '{"roads": 2, "buildings": "many"}',
        '{"roads": 2, "buildings": true}',
        '{"roads": -1, "buildings": 0}',
        '{"roads": 2, "buildings": 3, "cars": 1}',
        '{"roads": 1e3, "buildings": 3}',
        '{"roads": 2, "roads": 0, "buildings": 3}',
        '[{"roads": 2, "buildings": 3}]',
        "[" * 100_000,
        '{"roads": 2, "buildings": 3',
        "",
    ],
)
def test_what_is_of_another_form_stays_as_it_is(text: str) -> None:
    assert to_sentence(PromptKind.COUNT, text) == text


@pytest.mark.parametrize("cells", ['["middle"]', "[1]", '"top-left"', "null"])
def test_cells_that_are_none_stay_as_they_are(cells: str) -> None:
    text = f'{{"roads": [], "buildings": {cells}}}'

    assert to_sentence(PromptKind.LOCATE, text) == text


def test_only_counts_and_cells_have_a_schema() -> None:
    assert {kind for kind in PromptKind if make_response_format(kind)} == {PromptKind.COUNT, PromptKind.LOCATE}

"""What takes no part in a pass, in few words whatever the number of blocks, and as a table."""

from __future__ import annotations

import io

import pandas as pd

from pipeline.regions.left_out import MAX_EXAMPLES, MAX_REASONS, OTHER_REASONS, LeftOutSummary, encode_left_out
from pipeline.scenes.days import LeftOut

MANY = [LeftOut(name=f"s{n}", reason=f"{n % 70} % of the area, less than 80 %", block_id=f"b{n}") for n in range(1000)]
CLOUDY = LeftOut(name="cloudy", reason="more than 50 % clouds")


def test_reasons_are_counted_whatever_their_figures() -> None:
    told = LeftOutSummary.of([*MANY, CLOUDY])

    assert told.reasons == {"… % of the area, less than 80 %": 1000, "more than 50 % clouds": 1}
    assert (told.count, len(told.examples)) == (1001, MAX_EXAMPLES)
    # Of each reason one comes first.
    assert told.examples[:2] == (
        {"name": "b0: s0", "reason": "0 % of the area, less than 80 %"},
        {"name": "cloudy", "reason": "more than 50 % clouds"},
    )


def test_reasons_without_end_are_few_lines() -> None:
    words = [LeftOut(name="s", reason="why " + "x" * n) for n in range(500)]

    told = LeftOutSummary.of(words)

    assert len(told.reasons) == MAX_REASONS + 1
    assert told.reasons[OTHER_REASONS] == 500 - MAX_REASONS


def test_all_of_it_is_in_the_table() -> None:
    odd = LeftOut(name="half \ud800", reason="its name is not in UTF-8")

    table = pd.read_parquet(io.BytesIO(encode_left_out([*MANY, odd])))

    assert table["block_id"].tolist()[:-1] == [f"b{n}" for n in range(1000)]
    assert pd.isna(table["block_id"].iloc[-1])
    assert table["name"].iloc[-1] == "half \\ud800"
    assert len(pd.read_parquet(io.BytesIO(encode_left_out([])))) == 0

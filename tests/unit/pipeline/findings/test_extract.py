from __future__ import annotations

import datetime as dt
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from model.errors import InputError
from model.interface import ModelIdentity, Prompt, PromptKind
from pipeline.answers.parts import ANSWERS_SCHEMA
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.extract import extract_findings
from pipeline.grid.grid import Grid
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import FINDINGS_SCHEMA, TileStatus
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile

COLUMNS = re.findall(
    r"\w+",
    "tile_id, row, col, before_datetime, after_datetime, status, reason, valid_fraction, cloud_fraction, "
    "model_fit, familiarity, is_changed, change_confidence, description, building_count, building_count_low, "
    "building_count_high, road_count, road_count_low, road_count_high, building_cells, road_cells, "
    "model_id, run_id, geometry",
)
"""As the design names them."""

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.5,
    origin_y=3_300_000.0,
    tile_size_px=32,
    n_rows=2,
    n_cols=2,
    width_px=60,
    height_px=64,
)
CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Yes or no?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
ASK = Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?")
IDENTITY = ModelIdentity(model_id="stand-in@0123", weight_hash="0" * 64, path="")


def extract(
    answers: list[tuple[str, Prompt, str]], *, tiles: list[Tile], prompts: list[Prompt], failures: Any = None
) -> Any:
    rows = [(tile_id, p.name, p.kind.value, text, 0.75, 0.5) for tile_id, p, text in answers]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(ANSWERS_SCHEMA.names)}
    table = pa.table(columns, schema=ANSWERS_SCHEMA)
    return extract_findings(
        SimpleNamespace(read_batches=lambda: iter([table]), failures=failures or {}),  # type: ignore[arg-type]
        tiles=tiles,
        store=TileStore(folder=RunFolder("unused"), grid=GRID, content_key="key", shard_size_tiles=2),
        prompts=prompts,
        identity=IDENTITY,
        run_id="run",
        before_datetime="2020-05-01T10:00:00",
        after_datetime=None,
    )


def make_tile(row: int, col: int, status: TileStatus | None = None) -> Tile:
    reason = "" if status is None else f"is {status}"
    return Tile(row=row, col=col, tile_id=GRID.tile_id(row, col), valid_fraction=0.5, status=status, reason=reason)


def test_every_tile_of_the_grid_is_a_row_and_the_summary_adds_up() -> None:
    tiles = [make_tile(0, 0), make_tile(0, 1), make_tile(1, 0, TileStatus.NO_DATA), make_tile(1, 1)]
    answers = [
        ("r0000_c0000", CLASSIFY, "Yes"),
        ("r0000_c0000", COUNT, "1 road has changed, and 3 buildings has changed."),
        ("r0000_c0001", CLASSIFY, "No"),
        ("r0000_c0001", COUNT, "quite a lot"),
    ]

    findings, summary = extract(
        answers, tiles=tiles, prompts=[CLASSIFY, COUNT], failures={"r0001_c0001": "worker lost"}
    )

    assert list(findings.columns) == COLUMNS
    assert list(findings["tile_id"]) == ["r0000_c0000", "r0000_c0001", "r0001_c0000", "r0001_c0001"]
    assert list(findings["status"]) == ["analysed", "unreadable", "no_data", "failed"]
    assert list(findings["is_changed"]) == [True, False, pd.NA, pd.NA]
    assert list(findings["building_count"]) == [3, pd.NA, pd.NA, pd.NA]
    assert findings["reason"].isna().to_list() == [True, False, False, False]
    assert list(findings["reason"][1:]) == ["count: quite a lot", "is no_data", "worker lost"]
    assert (summary.done, summary.skipped, summary.failed, summary.total) == (1, 1, 2, 4)
    assert summary.reasons == {"failed": 1, "no_data": 1, "unreadable": 1}


def test_types_are_nullable_where_a_value_may_be_missing() -> None:
    findings, _ = extract([], tiles=[make_tile(0, 0, TileStatus.OUTSIDE)], prompts=[CLASSIFY])

    types = findings.dtypes.astype(str)
    assert types["is_changed"] == "boolean"
    assert {types[name] for name in ("row", "col", "building_count", "road_count")} == {"Int32"}
    assert types["before_datetime"] == "datetime64[us, UTC]"
    assert findings["before_datetime"].iloc[0] == dt.datetime(2020, 5, 1, 10, tzinfo=dt.UTC)
    assert findings["after_datetime"].isna().all()


def test_geometry_is_the_footprint_of_the_tile_in_the_crs_of_the_grid() -> None:
    findings, _ = extract([], tiles=[make_tile(1, 1, TileStatus.OUTSIDE)], prompts=[])

    expected = shapely.box(600_016.5, 3_299_968.0, 600_032.5, 3_299_984.0)
    assert findings.crs == "EPSG:32614"
    assert findings.geometry.iloc[0].normalize() == expected.normalize()


def test_ask_prompts_have_columns_of_their_own_before_the_provenance() -> None:
    other = Prompt(name="water", kind=PromptKind.ASK, text="Is there water?")
    findings, _ = extract(
        [("r0000_c0000", ASK, "Yes."), ("r0000_c0000", other, "A pond.")],
        tiles=[make_tile(0, 0)],
        prompts=[ASK, other],
    )

    assert list(findings.columns) == [*COLUMNS[:22], "trees", "water", *COLUMNS[22:]]
    assert findings.loc[0, ["trees", "water"]].to_list() == ["Yes.", "A pond."]


@pytest.mark.parametrize("name", ["status", "geometry", "bbox"])
def test_an_ask_prompt_may_not_take_the_name_of_another_column(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' of kind ask"):
        make_findings_schema([Prompt(name=name, kind=PromptKind.ASK, text="?")])


def test_every_column_is_described() -> None:
    assert FINDINGS_SCHEMA.names == COLUMNS
    schema = make_findings_schema([ASK])
    assert schema.field("trees").metadata == {b"description": b"Answer to: Were trees felled?"}
    assert all(field.metadata[b"description"] for field in schema)


def test_counts_beyond_any_integer_do_not_end_the_run() -> None:
    answers = [("r0000_c0000", COUNT, f"{np.iinfo(np.int64).max}0 buildings")]

    findings, _ = extract(answers, tiles=[make_tile(0, 0)], prompts=[COUNT])

    assert findings["status"].iloc[0] == "unreadable"

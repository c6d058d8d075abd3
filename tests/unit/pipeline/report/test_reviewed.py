"""Reviews stand beside what the model told, in columns of their own, and only where there are any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from made_pages import GRID, PlainStore, make_findings

from model.errors import InputError
from model.interface import Prompt, PromptKind
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.totals import sum_up
from pipeline.report.reviewed import ReviewMarks, ReviewSummary, describe_reviews, mark_zones, summarise_reviews
from pipeline.report.write import Report, write_report
from pipeline.reviews.review import Verdict
from pipeline.reviews.settle import Settled
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import CHANGE_REVIEW_FIELDS, CHANGES_SCHEMA

PROMPTS = [Prompt(name="count", kind=PromptKind.COUNT, text="How many?")]
FIRST, SECOND = "building_r0001_c0001_top-left", "road_r0003_c0002_center-center"
MARKS = ReviewMarks(
    tiles={"r0001_c0001": Settled(verdict=Verdict.RIGHT)},
    changes={
        FIRST: Settled(verdict=Verdict.WRONG, kind="road", n_people=2),
        SECOND: Settled(verdict=Verdict.RIGHT, direction="built", count=2.0),
    },
    n_missed=1,
    notes=("reviews of what the report does not tell of: 1; they are kept, and not counted",),
)


def write(folder: Path, *, marks: ReviewMarks | None) -> Report:
    tiles = {
        (1, 1): {"is_changed": True, "building_cells": "top-left;top-center", "building_count": 2},
        (3, 2): {"is_changed": True, "road_cells": "center-center", "road_count": 1},
        (4, 6): {"is_changed": True, "building_cells": "bottom-right", "building_count": 1},
    }
    plain = {"before_datetime": "2020-06-01", "after_datetime": "2024-06-01", "change_confidence": 0.97}
    findings = make_findings(GRID, tiles, prompts=PROMPTS, plain=plain | {"model_id": "made@0", "run_id": "made"})
    store = PlainStore(folder=RunFolder(str(folder)), grid=GRID, content_key="key", shard_size_tiles=2)
    totals = sum_up(findings, store=store)
    report, _ = write_report(
        findings, totals=totals, store=store, folder=store.folder, prompts=PROMPTS, review=lambda _: marks
    )
    return report


def test_a_report_without_reviews_has_none_of_their_columns(tmp_path: Path) -> None:
    report = write(tmp_path, marks=None)

    assert report.reviews is None
    assert list(gpd.read_parquet(tmp_path / "report/changes.parquet").columns) == CHANGES_SCHEMA.names
    assert "review" not in pq.read_schema(tmp_path / "report/tiles.parquet").names
    assert 'id="reviewed"' not in (tmp_path / "report/index.html").read_text()


def test_what_was_said_stands_beside_each_change_and_nothing_else_differs(tmp_path: Path) -> None:
    write(tmp_path / "plain", marks=None)
    report = write(tmp_path / "reviewed", marks=MARKS)

    plain, marked = (gpd.read_parquet(tmp_path / each / "report/changes.parquet") for each in ("plain", "reviewed"))
    names = [field.name for field in CHANGE_REVIEW_FIELDS]
    rows = marked.set_index("change_id")[names].astype(object)
    rows = rows.where(rows.notna(), None)
    assert rows.loc[FIRST].tolist() == ["wrong", "road", None, None]
    assert rows.loc[SECOND].tolist() == ["right", None, "built", 2.0]
    assert rows["review"].isna().sum() == 1
    pd.testing.assert_frame_equal(pd.DataFrame(marked.drop(columns=names)), pd.DataFrame(plain))
    tiles = gpd.read_parquet(tmp_path / "reviewed/report/tiles.parquet").set_index("tile_id")["review"]
    assert tiles.dropna().to_dict() == {"r0001_c0001": "right"}
    assert report.reviews is not None
    sentence = "2 of 3 changes reviewed, 1 rejected, 1 tile reviewed as a whole, 1 missed place drawn"
    assert describe_reviews(report.reviews) == sentence
    page = (tmp_path / "reviewed/report/index.html").read_text()
    assert sentence in page
    assert "Reviewed: wrong, it is a road" in page
    assert MARKS.notes[0] in page


def test_zones_tell_how_many_of_their_changes_were_reviewed() -> None:
    boxes = np.array([shapely.box(x, 0, x + 1, 1) for x in (0.5, 5, 9)], dtype=object)
    changes = gpd.GeoDataFrame({"review": ["wrong", "right", None]}, geometry=boxes, crs=GRID.crs)
    zones = gpd.GeoDataFrame(
        {"zone_id": ["all", "west", "far"]},
        geometry=[shapely.box(0, 0, 20, 1), shapely.box(0, 0, 1, 1), shapely.box(50, 0, 60, 1)],
        crs=GRID.crs,
    )

    marked = mark_zones(zones, changes=changes)

    assert marked["reviewed_change_count"].tolist() == [2, 1, 0]
    assert marked["rejected_change_count"].tolist() == [1, 1, 0]


def test_a_summary_comes_back_from_the_record() -> None:
    summary = summarise_reviews(MARKS, n_changes=1)

    assert ReviewSummary.from_dict(summary.to_dict()) == summary
    assert describe_reviews(replace(summary, n_unsure=3, n_missed=0, n_tiles=0)).startswith("5 of 1 change reviewed")


def test_no_prompt_takes_the_name_of_a_column_of_reviews() -> None:
    with pytest.raises(InputError, match="name of another column"):
        make_findings_schema([Prompt(name="review", kind=PromptKind.ASK, text="Good?")])

"""Events beside the truth, counted by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from pipeline.training_data.truth_events import compare_with_truth

CRS = "EPSG:32614"


def make_frame(shapes: list[Any], **columns: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=np.array(shapes, dtype=object), crs=CRS, index=range(len(shapes)))


def make_truth() -> gpd.GeoDataFrame:
    """Give five that came, a road, one that stayed, and one beyond the area."""
    lefts = [0, 100, 200, 300, 400, 500, 600, 2000]
    truth = make_frame([box(x, 0, x + 10, 10) for x in lefts], kind="building", is_in_before=False, is_in_after=True)
    truth.loc[5, "kind"] = "road"
    truth.loc[6, "is_in_before"] = True
    return truth


def test_found_missed_unseen_made_up_and_twice() -> None:
    # Found, found in two pieces that overlap, a corner found, and where nothing is.
    shapes = [box(0, 0, 10, 12), box(100, 0, 108, 10), box(106, 0, 112, 10), box(209, 0, 215, 10), box(700, 0, 710, 10)]
    events = make_frame(shapes, kind="building", area_m2=[shape.area for shape in shapes])
    seen = make_frame([box(-50, -50, 390, 50)])

    told = compare_with_truth(
        events, truth=make_truth(), seen=seen, area=gpd.GeoSeries([box(-50, -50, 1000, 50)], crs=CRS), kind="building"
    )

    assert asdict(told) == {
        "n_changed": 5, "n_found": 2, "n_touched": 1, "n_missed": 1, "n_unseen": 1,
        "n_events": 5, "n_made_up": 1, "n_twice": 1,
        "changed_m2": pytest.approx(500), "told_m2": pytest.approx(120 + 80 + 60 + 60 + 100),
        "common_m2": pytest.approx(210),
    }  # fmt: skip


def test_kind_of_which_nothing_is_told() -> None:
    events = make_frame([], kind=[], area_m2=[])
    area = gpd.GeoSeries([box(-50, -50, 1000, 50)], crs=CRS)
    told = compare_with_truth(events, truth=make_truth(), seen=make_frame([box(0, 0, 900, 20)]), area=area, kind="road")
    assert (told.n_changed, told.n_missed, told.n_events, told.n_twice, told.common_m2) == (1, 1, 0, 0, 0)

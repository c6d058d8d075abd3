"""The time line of a region of several blocks as people look at it: one row per two days, of all blocks together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.regions.pair_records import PairStatus
from pipeline.regions.schemas import BLOCK_TIMELINE_SCHEMA

_SUMMED = tuple(
    name
    for name in BLOCK_TIMELINE_SCHEMA.names
    if name.endswith(("_count", "_area_m2")) or name in {"n_changes", "n_new_changes"}
)


def sum_over_blocks(time_line: pd.DataFrame, *, ground_m2: Mapping[str, float]) -> pd.DataFrame:
    """Sum up the pairs of the same days; a time line without blocks stays as it is.

    Args:
        time_line: One row per pair.
        ground_m2: Ground of each pair in square metres, by which its part counts that is analysed.
    """
    if "block_id" not in time_line or time_line.empty:
        return time_line
    days = [time_line[name].dt.strftime("%Y%m%d") for name in ("before_datetime", "after_datetime")]
    # A block that compared the same days twice, with other scenes, is not two blocks.
    number = time_line.groupby([*days, time_line["block_id"]]).cumcount().add(1).astype(str)
    rows = [
        _sum_up(own, name="_".join(map(str, key[:2])) + ("" if key[2] == "1" else f"-{key[2]}"), ground_m2=ground_m2)
        for key, own in time_line.groupby([*days, number], sort=True)
    ]
    joined = pd.DataFrame(rows, columns=[name for name in time_line.columns if name != "block_id"])
    return joined.sort_values(["after_datetime", "pair_id"], ignore_index=True)


def _sum_up(own: pd.DataFrame, *, name: str, ground_m2: Mapping[str, float]) -> dict[str, Any]:
    n_failed = int(own["status"].ne(PairStatus.DONE.value).sum())
    if own["status"].eq(PairStatus.FAILED.value).all():
        status = PairStatus.FAILED
    else:
        status = PairStatus.PARTLY_FAILED if n_failed else PairStatus.DONE
    reason = f"{n_failed} of {len(own)} pairs of blocks failed, all or in part" if n_failed else None
    row: dict[str, Any] = {str(column): value for column, value in own.iloc[0].items()}
    row |= {"pair_id": name, "status": status.value, "reason": reason, "run": None}
    row |= {"before_datetime": own["before_datetime"].min(), "after_datetime": own["after_datetime"].max()}
    row |= {column: own[column].sum(min_count=1) for column in _SUMMED}
    seen = own[own["analysed_fraction"].notna()]
    weights = np.array([ground_m2.get(pair_id, 0.0) for pair_id in seen["pair_id"]])
    row["analysed_fraction"] = np.average(seen["analysed_fraction"], weights=weights) if weights.sum() else None
    return row

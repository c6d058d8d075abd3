"""What each change has of its tiles' answers: counts shared out by area, confidences averaged, words chosen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline.grid.cells import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What tiles say about one kind of change, by the parts of their ground that they claim: cells or outlines."""

    tiles: pd.DataFrame
    """Columns tile_id, count, confidence and description of the tiles, row-major."""
    tile_of_part: IntArray
    """Position of each part's tile in `tiles`."""
    owned: IntArray
    """Area of each part that its tile owns, in whole numbers of one unit."""
    weights: IntArray
    """How much each part counts in the mean of what the tiles say."""
    seen_of_tile: IntArray
    """Area of all parts that a tile claims, what neighbours own of them included, in the same unit."""


def select_claims(findings: pd.DataFrame, *, kind: str) -> pd.DataFrame:
    """Give the columns that `Claims.tiles` has, and row, col and cells, of findings."""
    names = {f"{kind}_cells": "cells", f"{kind}_count": "count", "change_confidence": "confidence"}
    columns = ["tile_id", "row", "col", "description", *names]
    return pd.DataFrame(findings[columns]).rename(columns=names)


def to_floats(values: pd.Series[Any]) -> FloatArray:
    """Give numbers as float64, NaN where there is none."""
    return np.asarray(values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))


def sum_up_shares(claims: Claims, *, labels: IntArray) -> dict[str, list[Any]]:
    """Sum up the tiles of each change.

    Args:
        claims: The parts.
        labels: Change that each part belongs to, numbered from 0.

    Returns:
        Columns of `DISSOLVED_SCHEMA`, one value per change, and under yes the mean probability with which its tiles
        call their ground changed, NaN where none tells one.
    """
    n_changes, n_tiles = int(labels.max(initial=-1)) + 1, max(len(claims.tiles), 1)
    # A share is what one tile brings to one change; shares are sorted by change, then row-major by tile.
    places, share_of_part = np.unique(labels * n_tiles + claims.tile_of_part, return_inverse=True)
    changes, tiles = np.divmod(places, n_tiles)
    weights, areas = (
        np.bincount(share_of_part, weights=values, minlength=len(places)) for values in (claims.weights, claims.owned)
    )
    shares = claims.tiles.take(tiles)
    counts, confidences = to_floats(shares["count"]), to_floats(shares["confidence"])
    # The quotient first: it is 1 exactly where a change has all parts of a tile, and then whole counts stay whole.
    parts = counts * (areas / claims.seen_of_tile[tiles])
    return {
        "tile_count": np.bincount(changes, minlength=n_changes).tolist(),
        "count": _add_told(parts, changes=changes, n_changes=n_changes, is_told=~np.isnan(parts)).tolist(),
        "yes": (
            _add_told(confidences * weights, changes=changes, n_changes=n_changes, is_told=~np.isnan(confidences))
            / np.maximum(np.bincount(changes, weights=weights * ~np.isnan(confidences), minlength=n_changes), 1)
        ).tolist(),
        "description": _choose_descriptions(shares, changes=changes, confidences=confidences, n_changes=n_changes),
        "tile_ids": _join_tiles(shares, changes=changes, n_changes=n_changes),
    }


def _add_told(values: FloatArray, *, changes: IntArray, n_changes: int, is_told: BoolArray) -> FloatArray:
    """Add values up per change; NaN where none was told."""
    sums = np.bincount(changes[is_told], weights=values[is_told], minlength=n_changes)
    n_told = np.bincount(changes[is_told], minlength=n_changes)
    return np.where(n_told > 0, sums, np.nan)


def _choose_descriptions(
    shares: pd.DataFrame, *, changes: IntArray, confidences: FloatArray, n_changes: int
) -> list[str | None]:
    """Give per change the description of its most confident tile that has one; of equals the first."""
    texts = shares["description"]
    told = np.flatnonzero(texts.notna())
    ranked = told[np.lexsort((told, -np.nan_to_num(confidences[told]), changes[told]))]
    described, firsts = np.unique(changes[ranked], return_index=True)
    chosen: list[str | None] = [None] * n_changes
    for change, text in zip(described, texts.iloc[ranked[firsts]], strict=True):
        chosen[change] = text
    return chosen


def _join_tiles(shares: pd.DataFrame, *, changes: IntArray, n_changes: int) -> list[str]:
    names = shares["tile_id"].tolist()
    ends = np.searchsorted(changes, np.arange(n_changes + 1))
    return [";".join(names[first:last]) for first, last in pairwise(ends)]

"""What the report's plots show, as plain values, and the same in words for those who cannot see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.findings.seen_ground import find_withheld
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus

FloatArray = npt.NDArray[np.float64]

MAX_MAP_SIDE = 400
"""Most squares in a row or column of the coverage map; of more tiles, each square stands for several."""

COVERAGE_CLASSES = ("changed", "answer missing", "too coarse", "cloudy", "no data", "outside", "not changed")
"""What the coverage map tells apart. A square of several tiles shows the first that any of its tiles is, so that
neither a change nor a gap is lost among its neighbours."""

_CLASS_OF_STATUS = {
    TileStatus.FAILED.value: "answer missing",
    TileStatus.UNREADABLE.value: "answer missing",
    TileStatus.CLOUDY.value: "cloudy",
    TileStatus.NO_DATA.value: "no data",
    TileStatus.OUTSIDE.value: "outside",
}

AREA_STEPS_HA = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Borders of the classes that changes are sorted into by their area, in hectares."""


@dataclass(frozen=True, kw_only=True)
class PlotText:
    """What stands beside a plot."""

    title: str
    """Heading, a few words."""
    alt: str
    """The figures that the plot shows, in sentences."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CoverageMap:
    """What became of every tile, and where."""

    squares: npt.NDArray[np.uint8]
    """Index into `COVERAGE_CLASSES`, uint8 (row, col), north at the top."""
    tiles_per_square: int
    """Tiles along the side of a square."""
    n_rows: int
    """Rows of tiles."""
    n_cols: int
    """Columns of tiles."""
    tile_km: float
    """Side of a tile in kilometres."""
    counts: Mapping[str, int]
    """Tiles by class, all classes named."""

    @property
    def text(self) -> PlotText:
        """Heading and words."""
        told = [f"{name} {count:,}" for name, count in self.counts.items() if count]
        n_tiles = self.n_rows * self.n_cols
        tiles = "1 tile" if n_tiles == 1 else f"{n_tiles:,} tiles"
        return PlotText(title="Coverage", alt=f"Map of {tiles} by what became of them: {', '.join(told)}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Confidences:
    """How sure the model was of its yes and no, tile by tile."""

    changed: FloatArray
    """Confidences of tiles called changed, 0 to 1."""
    unchanged: FloatArray
    """Likewise of tiles called unchanged."""
    n_untold: int
    """Tiles with a verdict and no confidence."""

    @property
    def text(self) -> PlotText:
        """Heading and words."""
        title = "Confidence"
        parts = [
            f"{len(values):,} {'tile' if len(values) == 1 else 'tiles'} {name}, median {np.median(values):.2f}"
            for name, values in (("called changed", self.changed), ("called unchanged", self.unchanged))
            if len(values)
        ]
        if not parts:
            return PlotText(title=title, alt="Histogram of confidence: no tile has a confidence.")
        untold = f" {self.n_untold:,} have none." if self.n_untold else ""
        return PlotText(title=title, alt=f"Histogram of the model's confidence: {'; '.join(parts)}.{untold}")


@dataclass(frozen=True, kw_only=True)
class ChangeSizes:
    """How large the changes are."""

    counts: Mapping[str, Sequence[int]]
    """Changes per class of area, by kind; the classes lie between `AREA_STEPS_HA`, one below and one above."""
    areas_ha: Mapping[str, float]
    """Area of all changes in hectares, by kind."""

    @property
    def text(self) -> PlotText:
        """Heading and words."""
        title = "Sizes of changes"
        told = [
            f"{sum(counts):,} of kind {kind} with {self.areas_ha[kind]:,.1f} ha" for kind, counts in self.counts.items()
        ]
        if not any(sum(counts) for counts in self.counts.values()):
            return PlotText(title=title, alt="Changes by area: there are none.")
        return PlotText(title=title, alt=f"Changes by area: {'; '.join(told)}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One figure of a region over its pairs, a line per kind."""

    title: str
    """Heading of the plot."""
    axis: str
    """What the values are, for the axis."""
    unit: str
    """The same for the words."""
    moments: npt.NDArray[np.datetime64]
    """Later date of each pair in UTC, ascending; NaT where scenes have none: then the order of the pairs stands in."""
    values: Mapping[str, FloatArray]
    """Values by the name of the line, one per pair; NaN where the pair told none."""
    is_failed: npt.NDArray[np.bool_]
    """Pairs without any result."""

    @property
    def is_dated(self) -> bool:
        """Whether every pair has a date."""
        return not np.isnat(self.moments).any()

    @property
    def text(self) -> PlotText:
        """Heading and words."""
        if not len(self.moments):
            return PlotText(title=self.title, alt=f"{self.title}: no pair was analysed yet.")
        days = [str(moment.astype("datetime64[D]")) for moment in self.moments] if self.is_dated else []
        span = f" between {days[0]} and {days[-1]}" if len(days) > 1 and days[0] != days[-1] else ""
        told = [_describe_line(name, values, unit=self.unit) for name, values in self.values.items()]
        n_pairs, n_failed = len(self.moments), int(self.is_failed.sum())
        failed = f" {n_failed} failed." if n_failed else ""
        pairs = "1 pair" if n_pairs == 1 else f"{n_pairs:,} pairs"
        return PlotText(title=self.title, alt=f"{self.title}, {pairs}{span}: {'; '.join(told)}.{failed}")


Shown = CoverageMap | Confidences | ChangeSizes | Series
"""What one plot shows."""


def _describe_line(name: str, values: FloatArray, *, unit: str) -> str:
    told = values[~np.isnan(values)]
    if not len(told):
        return f"{name} not told"
    last = f", lately {told[-1]:,.4g}" if len(told) > 1 else ""
    spread = f"{told[0]:,.4g}" if len(told) == 1 else f"{told.min():,.4g} to {told.max():,.4g}"
    return f"{name} {spread} {unit}{last}"


def summarise_run(findings: gpd.GeoDataFrame, changes: pd.DataFrame, *, grid: Grid) -> dict[str, Shown]:
    """Take from a run what its plots show.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        changes: What `dissolve_changes` made of them.
        grid: The grid.

    Returns:
        By the name of the plot's file, always the same names.
    """
    return {
        "coverage.png": summarise_coverage_map(findings, grid=grid),
        "confidence.png": summarise_confidences(findings),
        "sizes.png": summarise_sizes(changes),
    }


def summarise_coverage_map(findings: gpd.GeoDataFrame, *, grid: Grid) -> CoverageMap:
    """Sort every tile of the grid into a class and lay the classes out as a picture, however many tiles there are.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, one per tile of the grid.
        grid: The grid.
    """
    is_changed = findings["is_changed"].fillna(value=False).to_numpy(dtype=np.bool_)
    codes = np.full(len(findings), COVERAGE_CLASSES.index("not changed"), dtype=np.uint8)
    codes[findings["is_changed"].isna().to_numpy()] = COVERAGE_CLASSES.index("answer missing")
    # ^ Also an analysed tile that nobody asked for a yes or no.
    for status, name in _CLASS_OF_STATUS.items():
        codes[findings["status"].eq(status).to_numpy()] = COVERAGE_CLASSES.index(name)
    codes[find_withheld(findings)] = COVERAGE_CLASSES.index("too coarse")
    codes[is_changed] = COVERAGE_CLASSES.index("changed")
    step = -(-max(grid.n_rows, grid.n_cols) // MAX_MAP_SIDE)
    squares = np.full((-(-grid.n_rows // step), -(-grid.n_cols // step)), len(COVERAGE_CLASSES) - 1, dtype=np.uint8)
    rows, cols = (findings[name].to_numpy(dtype=np.int64) // step for name in ("row", "col"))
    np.minimum.at(squares, (rows, cols), codes)
    counts = np.bincount(codes, minlength=len(COVERAGE_CLASSES))
    return CoverageMap(
        squares=squares,
        tiles_per_square=step,
        n_rows=grid.n_rows,
        n_cols=grid.n_cols,
        tile_km=grid.stride_px * grid.resolution_m / 1000,
        counts={name: int(count) for name, count in zip(COVERAGE_CLASSES, counts, strict=True)},
    )


def summarise_confidences(findings: pd.DataFrame) -> Confidences:
    """Take the confidences of tiles with a verdict.

    Args:
        findings: Rows with ``is_changed`` and ``change_confidence``.
    """
    values = findings["change_confidence"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    has_verdict = findings["is_changed"].notna().to_numpy()
    is_changed = findings["is_changed"].fillna(value=False).to_numpy(dtype=np.bool_)
    is_told = has_verdict & ~np.isnan(values)
    return Confidences(
        changed=values[is_told & is_changed],
        unchanged=values[is_told & ~is_changed],
        n_untold=int((has_verdict & ~is_told).sum()),
    )


def summarise_sizes(changes: pd.DataFrame) -> ChangeSizes:
    """Sort changes by kind and area.

    Args:
        changes: Rows with ``kind`` and ``area_m2``.
    """
    areas_ha = {
        kind: changes["area_m2"][changes["kind"].eq(kind)].to_numpy(dtype=np.float64) / 1e4 for kind in CHANGE_KINDS
    }
    return ChangeSizes(
        counts={
            kind: tuple(np.bincount(np.digitize(areas, AREA_STEPS_HA), minlength=len(AREA_STEPS_HA) + 1).tolist())
            for kind, areas in areas_ha.items()
        },
        areas_ha={kind: float(areas.sum()) for kind, areas in areas_ha.items()},
    )


def summarise_timeline(timeline: pd.DataFrame) -> dict[str, Series]:
    """Take from a region's time line what its plots show.

    Args:
        timeline: Rows of ``timeline.parquet``, one per pair; there may be none yet. Those without a later date come
            last.

    Returns:
        By the name of the plot's file, always the same names.
    """
    ordered = timeline.assign(after=pd.to_datetime(timeline["after_datetime"], utc=True)).sort_values(
        ["after", "pair_id"], kind="stable", na_position="last", ignore_index=True
    )
    moments = ordered["after"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    columns = {
        "counts.png": {f"{kind}s": _read_column(ordered, f"{kind}_count") for kind in CHANGE_KINDS},
        "area.png": {f"{kind}s": _read_column(ordered, f"{kind}_area_m2") / 1e4 for kind in CHANGE_KINDS},
        "seen.png": {"analysed": _read_column(ordered, "analysed_fraction") * 100},
    }
    titles = {
        "counts.png": ("Changed objects over time", "changed objects counted", "counted"),
        "area.png": ("Changed area over time", "changed area in hectares", "ha"),
        "seen.png": ("Ground seen over time", "% of the ground", "% of the ground"),
    }
    is_failed = ordered["status"].eq("failed").to_numpy(dtype=np.bool_)
    return {
        name: Series(title=title, axis=axis, unit=unit, moments=moments, values=columns[name], is_failed=is_failed)
        for name, (title, axis, unit) in titles.items()
    }


def _read_column(timeline: pd.DataFrame, name: str) -> FloatArray:
    return np.asarray(timeline[name].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))

"""The tiles of a sample of which is known what they are, and the figures that they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.accuracy.agreement import Truth
from pipeline.accuracy.domains import assess_zones
from pipeline.accuracy.estimators import Design, Estimate, FloatArray, assess_classes
from pipeline.accuracy.population import Population, measure_told_areas
from pipeline.accuracy.sample import FEWEST_PER_STRATUM, Sample, label_strata
from pipeline.grid.cells import BoolArray
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import CHANGE_KINDS

_FEWEST_IN_CLASS = 10
# ^ Below so many tiles the interval of a normal distribution is too narrow to be believed.


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportFacts:
    """What the report tells that is assessed."""

    run_id: str
    model_id: str
    population: Population
    changes: gpd.GeoDataFrame
    """With the columns of `CHANGES_SCHEMA`."""
    zones: gpd.GeoDataFrame | None
    """With those of `ZONES_SCHEMA`; None without."""
    grid: Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewedTiles:
    """The tiles of a sample of which is known what they are."""

    sample: Sample
    facts: ReportFacts
    truths: Mapping[str, Truth]
    """By tile_id, each with a verdict."""

    @property
    def _tiles(self) -> pd.DataFrame:
        return self.facts.population.tiles.loc[list(self.truths)]

    @property
    def _names(self) -> list[str]:
        return [stratum.name for stratum in self.sample.strata]

    def describe_strata(self) -> list[dict[str, Any]]:
        """Tell how the tiles were drawn, and how many of each stratum can be used."""
        counts = Counter(self.sample.tiles[tile] for tile in self.truths)
        return [
            {
                **asdict(stratum),
                "inclusion_probability": stratum.inclusion_probability,
                "n_used": counts[stratum.name],
            }
            for stratum in self.sample.strata
        ]

    def list_gaps(self) -> list[str]:
        """Tell of the strata of which too little was looked at."""
        return [
            f"the sample is too small: {row['n_used']} of the {row['n_sampled']:,} tiles drawn of stratum "
            f"{row['name']} can be used, and {min(FEWEST_PER_STRATUM, row['n_tiles'])} are needed at least"
            for row in self.describe_strata()
            if row["n_used"] < min(FEWEST_PER_STRATUM, row["n_tiles"])
        ]

    def list_warnings(self) -> list[str]:
        """Tell of what makes the intervals narrower than they should be."""
        tiles = self._tiles
        is_right = np.array([truth.is_changed for truth in self.truths.values()]) == tiles["is_changed"].to_numpy()
        names = np.array([self.sample.tiles[tile] for tile in self.truths])
        warnings = []
        for row in self.describe_strata():
            n, is_all = row["n_used"], row["n_used"] == row["n_tiles"]
            n_wrong = int((~is_right[names == row["name"]]).sum())
            if not is_all and n_wrong in (0, n):
                warnings.append(
                    f"of stratum {row['name']} all {n} tiles were {'wrong' if n_wrong else 'right'}, so its intervals "
                    f"hold no error; up to about {min(3 / n, 1):.1%} of its tiles may be otherwise"
                )
            elif not is_all and n < _FEWEST_IN_CLASS:
                warnings.append(f"of stratum {row['name']} only {n} tiles were used: its intervals are rough")
        unused = len(self.sample.tiles) - len(self.truths)
        if unused:
            warnings.append(
                f"tiles of the sample that nobody has looked at or was sure of: {unused:,}; the figures take them for "
                "tiles like the others of their strata"
            )
        return warnings

    def _lay_out(self, is_used: BoolArray | None = None, *, by_ground: bool) -> Design:
        """Give the design of the tiles that tell something."""
        strata = np.array([self._names.index(self.sample.tiles[tile]) for tile in self.truths], dtype=np.int64)
        sizes = self._tiles["ground_m2"].to_numpy(dtype=np.float64) if by_ground else np.ones(len(strata))
        if is_used is not None:
            strata, sizes = strata[is_used], sizes[is_used]
        counted = [stratum.ground_m2 if by_ground else stratum.n_tiles for stratum in self.sample.strata]
        wholes = np.array(counted, dtype=np.float64)
        return Design(
            strata=strata,
            sizes=sizes,
            weights=wholes / wholes.sum(),
            n_tiles=np.array([stratum.n_tiles for stratum in self.sample.strata], dtype=np.float64),
        )

    def assess_tiles(self) -> dict[str, Any]:
        """Assess whether tiles changed."""
        true = np.array([truth.is_changed for truth in self.truths.values()], dtype=np.bool_)
        told = self._tiles["is_changed"].to_numpy(dtype=np.bool_)
        everywhere = self.facts.population.tiles["is_changed"].to_numpy(dtype=np.bool_)
        return self._assess(("changed", "unchanged"), told=told, true=true, everywhere=everywhere)

    def _assess(
        self,
        names: tuple[str, str],
        *,
        told: BoolArray,
        true: BoolArray,
        everywhere: BoolArray,
        is_used: BoolArray | None = None,
    ) -> dict[str, Any]:
        """Assess two classes of tiles.

        Args:
            names: What the first and the second are called.
            told: Whether each reviewed tile is of the first by the report.
            true: Whether it is by what people saw.
            everywhere: Whether each tile of all is by the report.
            is_used: Which of the reviewed tiles these are; None: all.
        """
        design = self._lay_out(is_used, by_ground=True)
        positions = {"told": (~told).astype(np.int64), "true": (~true).astype(np.int64)}
        found = assess_classes(design, **positions, n_classes=2)
        grounds = self.facts.population.tiles["ground_m2"].to_numpy(dtype=np.float64)
        ground_m2 = float(grounds.sum())
        told_m2 = {names[0]: float(grounds[everywhere].sum()), names[1]: float(grounds[~everywhere].sum())}
        return {
            "classes": list(names),
            "n_used": len(design.strata),
            "counts": found.counts.tolist(),
            "fractions": found.cells.tolist(),
            "overall_accuracy": found.overall.to_dict(highest=1.0),
            "users_accuracy": dict(zip(names, map(_write_part, found.users), strict=True)),
            "producers_accuracy": dict(zip(names, map(_write_part, found.producers), strict=True)),
            "told_ground_m2": told_m2,
            "ground_m2": {
                name: part.scale(ground_m2).to_dict(highest=ground_m2)
                for name, part in zip(names, found.fractions, strict=True)
            },
        }

    def assess_kinds(self) -> dict[str, Any]:
        """Assess for each kind in which tiles, how many and how much ground changed."""
        everywhere = self.facts.population.tiles
        areas = measure_told_areas(self._tiles, changes=self.facts.changes, grid=self.facts.grid)
        kinds = {}
        for kind in CHANGE_KINDS:
            of_kind = self.facts.changes[self.facts.changes["kind"].eq(kind)]
            kinds[kind] = {
                "tiles": self._assess_kind(kind, changes=of_kind),
                "count": self._assess_amount(
                    [truth.counts[kind] for truth in self.truths.values()],
                    told=self._tiles[f"{kind}_count"].to_numpy(dtype=np.float64),
                    told_in_all=float(everywhere[f"{kind}_count"].sum()),
                ),
                "area_m2": self._assess_amount(
                    [truth.areas_m2[kind] for truth in self.truths.values()],
                    told=areas[kind].to_numpy(dtype=np.float64),
                    told_in_all=float(of_kind["area_m2"].sum()),
                ),
            }
        return kinds

    def _assess_kind(self, kind: str, *, changes: gpd.GeoDataFrame) -> dict[str, Any] | None:
        """Assess in which tiles something of a kind changed; None where too few people told of kinds."""
        has = [truth.has(kind) for truth in self.truths.values()]
        is_used = np.array([each is not None for each in has], dtype=np.bool_)
        if not self._lay_out(is_used, by_ground=True).is_sufficient:
            return None
        everywhere = self.facts.population.tiles
        placed = {tile for tiles in changes["tile_ids"] for tile in str(tiles).split(";")}
        is_told = everywhere[f"{kind}_count"].gt(0) | everywhere.index.isin(placed)
        return self._assess(
            (kind, f"no_{kind}"),
            told=is_told[list(self.truths)].to_numpy(dtype=np.bool_)[is_used],
            true=np.array([bool(each) for each in has], dtype=np.bool_)[is_used],
            everywhere=is_told.to_numpy(dtype=np.bool_),
            is_used=is_used,
        )

    def _assess_amount(self, true: Sequence[float | None], *, told: FloatArray, told_in_all: float) -> dict[str, Any]:
        """Estimate a total, and by how much it is more than what the model tells."""
        is_used = np.array([value is not None for value in true], dtype=np.bool_)
        design = self._lay_out(is_used, by_ground=False)
        result: dict[str, Any] = {"n_used": int(is_used.sum()), "told": told_in_all, "estimated": None, "ratio": None}
        if not design.is_sufficient:
            return result
        values = np.array([value for value in true if value is not None], dtype=np.float64)
        n_tiles = len(self.facts.population.tiles)
        ratio = design.estimate_ratio(values, told[is_used])
        return result | {
            "estimated": design.estimate_mean(values).scale(n_tiles).to_dict(),
            "ratio": None if ratio is None else ratio.to_dict(),
        }

    def assess_zones(self) -> list[dict[str, Any]]:
        """Assess zone by zone how much ground changed."""
        if self.facts.zones is None:
            return []
        return assess_zones(
            self.facts.zones,
            design=self._lay_out(by_ground=True),
            tiles=self._tiles,
            is_changed=np.array([truth.is_changed for truth in self.truths.values()], dtype=np.float64),
            population=self.facts.population,
            strata=np.array([self._names.index(name) for name in label_strata(self.facts.population)], dtype=np.int64),
            grid=self.facts.grid,
        )


def _write_part(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.to_dict(highest=1.0)

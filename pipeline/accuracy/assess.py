"""From a sample and what people said of its tiles to the figures of ``accuracy.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.accuracy.agreement import Settlement, Truth, compare_people, settle_tile
from pipeline.accuracy.domains import assess_zones
from pipeline.accuracy.estimators import Design, Estimate, FloatArray, assess_classes
from pipeline.accuracy.population import Population, measure_told_areas
from pipeline.accuracy.sample import FEWEST_PER_STRATUM, Sample, label_strata
from pipeline.grid.cells import BoolArray
from pipeline.grid.grid import Grid
from pipeline.reviews.review import Review, Subject
from pipeline.reviews.store import ReviewLog
from pipeline.tables.schemas import CHANGE_KINDS

FORMAT_VERSION = 1
"""Raised when a field of ``accuracy.json`` changes its meaning or goes away."""
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


def sort_reviews(log: ReviewLog, *, run_id: str, known: Mapping[Subject, Set[str]]) -> tuple[list[Review], list[str]]:
    """Give the reviews that hold for a run, and tell of the others, which are kept.

    Args:
        log: All that its folder holds.
        run_id: The run.
        known: Ids of what its report tells of.
    """
    latest = log.list_latest()
    own = [review for review in latest if review.run_id == run_id]
    found = [review for review in own if review.subject_id in known.get(review.subject, ())]
    notes = [f"{fault}; it is left where it is, and not counted" for fault in log.faults]
    if n_others := len(latest) - len(own):
        notes.append(f"reviews of other runs that were here: {n_others:,}; they are kept, and not counted")
    if n_gone := len(own) - len(found):
        notes.append(f"reviews of what the report does not tell of: {n_gone:,}; they are kept, and not counted")
    return found, notes


def assess_report(sample: Sample, *, facts: ReportFacts, log: ReviewLog) -> dict[str, Any]:
    """Give the content of ``accuracy.json``.

    Args:
        sample: The tiles that were to be looked at, of the run.
        facts: What its report tells.
        log: What people have said.
    """
    tiles = facts.population.tiles
    known = {Subject.TILE: set(tiles.index), Subject.CHANGE: set(facts.changes["change_id"])}
    reviews, notes = sort_reviews(log, run_id=facts.run_id, known=known)
    by_tile: dict[str, list[Review]] = {}
    for review in reviews:
        if review.is_blind and review.subject_id in sample.tiles:
            by_tile.setdefault(review.subject_id, []).append(review)
    truths = {tile: settle_tile(said) for tile, said in by_tile.items()}
    problems = _check_sample(sample, facts=facts) or _check_disputes(truths)
    settled = {tile: truth for tile, truth in truths.items() if truth.is_changed is not None}
    reviewed = _Reviewed(sample=sample, facts=facts, truths={tile: settled[tile] for tile in sorted(settled)})
    problems += [] if problems else reviewed.list_gaps()
    result: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run_id": facts.run_id,
        "model_id": facts.model_id,
        "sample": {
            "sample_id": sample.sample_id,
            "seed": sample.seed,
            "n_tiles": len(sample.tiles),
            "n_reviewed": len(truths),
            "n_used": len(settled),
        },
        "population": {"n_tiles": len(tiles), "ground_m2": facts.population.ground_m2},
        "strata": reviewed.describe_strata(),
        "people": _describe_people(list(by_tile.values()), truths=truths),
        "reviews_of_changes": count_verdicts(reviews, subject=Subject.CHANGE),
        "problems": problems,
        "notes": notes,
        "tiles": None,
        "kinds": {},
        "zones": [],
    }
    if not problems:
        result |= {"tiles": reviewed.assess_tiles(), "kinds": reviewed.assess_kinds(), "zones": reviewed.assess_zones()}
        result["notes"] = [*notes, *reviewed.list_warnings()]
    return result


def _check_sample(sample: Sample, *, facts: ReportFacts) -> list[str]:
    if sample.run_id != facts.run_id:
        return [f"the sample was drawn from run {sample.run_id}, and this is {facts.run_id}: draw one of this run"]
    if missing := sample.tiles.keys() - set(facts.population.tiles.index):
        return [f"{len(missing):,} tiles of the sample have no answer in the report, such as {min(missing)}"]
    return []


def _check_disputes(truths: Mapping[str, Truth]) -> list[str]:
    """Tell of tiles that people disagree about: without them, which are the hard ones, figures would be too good."""
    disputed = sorted(tile for tile, truth in truths.items() if truth.settlement is Settlement.OPEN)
    if not disputed:
        return []
    return [
        f"people disagree about {len(disputed):,} tiles, such as {', '.join(disputed[:5])}: have somebody settle them "
        "(--settles), or one more person look at them"
    ]


def _describe_people(by_tile: Sequence[Sequence[Review]], *, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Tell how many people have looked and how far they agree; who they are stays in the reviews."""
    settled = Counter(truth.settlement for truth in truths.values())
    return {
        "n_people": len({review.person for reviews in by_tile for review in reviews}),
        "n_seen_by_several": sum(len(reviews) > 1 for reviews in by_tile),
        "agreement": [asdict(each) for each in compare_people(by_tile)],
        "settled": {how.value: settled[how] for how in Settlement},
    }


def count_verdicts(reviews: Sequence[Review], *, subject: Subject) -> dict[str, int]:
    """Count changes or events by what was said of them; about one of them two people may disagree.

    Args:
        reviews: The latest of each person.
        subject: What is counted.
    """
    verdicts: dict[str, set[str]] = {}
    for review in reviews:
        if review.subject is subject:
            verdicts.setdefault(review.subject_id, set()).add(review.verdict.value)
    alike = Counter(next(iter(said)) for said in verdicts.values() if len(said) == 1)
    return {
        **{verdict: alike[verdict] for verdict in ("right", "wrong", "unsure")},
        "disputed": sum(len(said) > 1 for said in verdicts.values()),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reviewed:
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

"""The estimators against the worked example of the paper that they follow, and against made regions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.accuracy.estimators import ClassAccuracy, Design, assess_classes
from pipeline.accuracy.population import Population
from pipeline.accuracy.sample import draw_sample, label_strata

# Olofsson et al. 2014, table 8: tiles by map class (rows) and reference class (columns), and pixels per map class.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000.0, 150_000.0, 3_200_000.0, 6_450_000.0])
HECTARES = 900_000
# ^ All pixels, of 30 m.


@pytest.fixture(scope="module")
def example() -> ClassAccuracy:
    told = np.repeat(np.repeat(np.arange(4), 4), COUNTS.ravel())
    true = np.repeat(np.tile(np.arange(4), 4), COUNTS.ravel())
    design = Design(strata=told, sizes=np.ones(len(told)), weights=PIXELS / PIXELS.sum(), n_tiles=np.full(4, np.inf))
    return assess_classes(design, told=told, true=true, n_classes=4)


def test_error_matrix_of_the_paper(example: ClassAccuracy) -> None:
    assert example.counts.tolist() == COUNTS.tolist()
    # Table 9.
    assert np.array_equal(
        example.cells.round(4),
        [
            [0.0176, 0, 0.0013, 0.0011],
            [0, 0.0110, 0.0016, 0.0024],
            [0.0019, 0, 0.2967, 0.0213],
            [0.0040, 0.0020, 0.0179, 0.6212],
        ],
    )


def test_accuracies_of_the_paper(example: ClassAccuracy) -> None:
    def write(*estimates: object) -> list[tuple[float, float]]:
        return [(round(each.value, 2), round(each.half_width, 2)) for each in estimates if each]  # type: ignore[attr-defined]

    # Section 5.2, page 54.
    assert write(example.overall) == [(0.95, 0.02)]
    assert write(*example.users) == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    # There the second and the last interval are printed as 0.23 and 0.01, which its own equation 7 does not give.
    assert write(*example.producers) == [(0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02)]


def test_areas_of_the_paper_to_the_printed_digit(example: ClassAccuracy) -> None:
    areas = [(round(each.value), round(each.half_width)) for each in (e.scale(HECTARES) for e in example.fractions)]
    deforested = example.fractions[0].scale(PIXELS.sum())

    assert areas == [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    assert (round(deforested.value), round(deforested.half_width)) == (235_086, 68_418)


def test_a_stratum_that_was_looked_at_altogether_has_no_error() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    design = Design(strata=np.zeros(4, dtype=np.int64), sizes=np.ones(4), weights=np.ones(1), n_tiles=np.array([4.0]))

    found = design.estimate_mean(values)

    assert (found.value, found.standard_error) == (0.5, 0.0)


def test_nothing_to_divide_by_gives_no_ratio() -> None:
    design = Design(strata=np.zeros(3, dtype=np.int64), sizes=np.ones(3), weights=np.ones(1), n_tiles=np.array([9.0]))

    assert design.estimate_ratio(np.ones(3), np.zeros(3)) is None


def test_a_tile_counts_by_its_ground() -> None:
    design = Design(
        strata=np.zeros(2, dtype=np.int64), sizes=np.array([3.0, 1.0]), weights=np.ones(1), n_tiles=np.array([9.0])
    )

    assert design.estimate_mean(np.array([1.0, 0.0])).value == pytest.approx(0.75)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_intervals_need_two_tiles_of_each_stratum(n: int) -> None:
    strata = np.array([0] * n + [1, 1])
    design = Design(strata=strata, sizes=np.ones(n + 2), weights=np.full(2, 0.5), n_tiles=np.array([50.0, 2.0]))

    assert design.is_sufficient == (n > 1)


N_TILES = 1000
TILE_IDS = pd.Index([f"r{number:04d}_c0000" for number in range(N_TILES)], dtype=object)


def make_region(rng: np.random.Generator) -> tuple[Population, np.ndarray, np.ndarray]:
    """Make a region: tiles, whether each has changed in truth, and how many things there have."""
    is_told = rng.random(N_TILES) < 0.3
    confidence = rng.uniform(0.6, 1.0, N_TILES)
    # Wrong now and then, more so where the model is not sure, and more often when it says that something changed.
    is_wrong = rng.random(N_TILES) < np.where(confidence >= 0.9, 0.08, 0.2) * np.where(is_told, 1.5, 1.0)
    is_changed = is_told ^ is_wrong
    counts = np.where(is_changed, rng.integers(1, 6, N_TILES), 0)
    tiles = pd.DataFrame(
        {
            "is_changed": is_told,
            "confidence": confidence,
            "ground_m2": rng.choice([1.0, 1.0, 1.0, 0.3], N_TILES),
            "told": np.where(is_told, np.maximum(counts + rng.integers(-1, 2, N_TILES), 1), 0),
        },
        index=TILE_IDS,
    )
    return Population(tiles=tiles), is_changed, counts


def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent_of_1000_made_regions() -> None:
    rng = np.random.default_rng(20_140_225)
    holds: dict[str, list[bool]] = {name: [] for name in ("overall", "users", "producers", "area", "count", "ratio")}
    for seed in range(1000):
        population, is_changed, counts = make_region(rng)
        tiles = population.tiles
        sample = draw_sample(population, n=300, seed=seed, run_id="run", model_id="model")
        chosen = tiles.index.get_indexer(list(sample.tiles))
        names = [stratum.name for stratum in sample.strata]
        strata = np.array([names.index(name) for name in sample.tiles.values()])
        assert np.array_equal(label_strata(population)[chosen], list(sample.tiles.values()))
        ground = tiles["ground_m2"].to_numpy()
        n_tiles = np.array([stratum.n_tiles for stratum in sample.strata], dtype=float)
        grounds = np.array([stratum.ground_m2 for stratum in sample.strata])
        by_ground = Design(strata=strata, sizes=ground[chosen], weights=grounds / grounds.sum(), n_tiles=n_tiles)
        by_tile = Design(strata=strata, sizes=np.ones(len(strata)), weights=n_tiles / n_tiles.sum(), n_tiles=n_tiles)
        told, true = 1 - tiles["is_changed"].to_numpy(dtype=np.int64), 1 - is_changed.astype(np.int64)
        found = assess_classes(by_ground, told=told[chosen], true=true[chosen], n_classes=2)
        seen = counts[chosen].astype(float)
        n_told = tiles["told"].to_numpy(dtype=float)
        both = (told == 0) & (true == 0)
        truths = {
            "overall": (found.overall, ground[told == true].sum() / ground.sum()),
            "users": (found.users[0], ground[both].sum() / ground[told == 0].sum()),
            "producers": (found.producers[0], ground[both].sum() / ground[true == 0].sum()),
            "area": (found.fractions[0], ground[true == 0].sum() / ground.sum()),
            "count": (by_tile.estimate_mean(seen), counts.mean()),
            "ratio": (
                by_tile.estimate_ratio(seen, n_told[chosen]),
                counts.sum() / n_told.sum(),
            ),
        }
        for name, (estimate, truth) in truths.items():
            assert estimate is not None
            holds[name].append(abs(estimate.value - truth) <= estimate.half_width)
    shares = {name: np.mean(each) for name, each in holds.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares

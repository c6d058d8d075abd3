from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InputError
from pipeline.accuracy.population import Population
from pipeline.accuracy.sample import FEWEST_PER_STRATUM, Sample, allocate, draw_sample, label_strata


def make_population(n_changed: int, n_unchanged: int) -> Population:
    n = n_changed + n_unchanged
    tiles = pd.DataFrame(
        {
            "is_changed": np.arange(n) < n_changed,
            "confidence": np.where(np.arange(n) % 4 == 0, 0.7, 0.95),
            "ground_m2": np.full(n, 100.0),
        },
        index=[f"r{number:04d}_c0000" for number in range(n)],
    )
    return Population(tiles=tiles)


def draw(population: Population, n: int, seed: int = 0) -> Sample:
    return draw_sample(population, n=n, seed=seed, run_id="run", model_id="model")


def test_the_sample_tells_how_it_was_drawn() -> None:
    population = make_population(40, 360)

    sample = draw(population, 80, seed=7)

    assert len(sample.tiles) == 80
    assert [stratum.name for stratum in sample.strata] == [
        "changed_sure",
        "changed_unsure",
        "unchanged_sure",
        "unchanged_unsure",
    ]
    labels = dict(zip(population.tiles.index, label_strata(population), strict=True))
    assert dict(sample.tiles) == {tile: labels[tile] for tile in sample.tiles}
    assert sum(stratum.n_tiles for stratum in sample.strata) == 400
    assert sum(stratum.ground_m2 for stratum in sample.strata) == pytest.approx(40_000)
    told = json.loads(sample.to_json())
    assert told["seed"] == 7
    first = sample.strata[0]
    assert told["inclusion_probabilities"]["changed_sure"] == pytest.approx(first.n_sampled / first.n_tiles)
    # Rare tiles are drawn more often than by chance, and the order tells nothing of them.
    assert first.inclusion_probability > 80 / 400
    assert list(sample.tiles) != sorted(sample.tiles, key=lambda tile: (sample.tiles[tile], tile))


def test_the_same_seed_draws_the_same_tiles_and_another_draws_others() -> None:
    population = make_population(40, 360)

    assert draw(population, 80, seed=1) == draw(population, 80, seed=1)
    assert draw(population, 80, seed=1).tiles.keys() != draw(population, 80, seed=2).tiles.keys()


@pytest.mark.parametrize("seed", range(5))
def test_a_larger_sample_holds_the_smaller_one(seed: int) -> None:
    population = make_population(15, 385)
    sizes = [8, 9, 20, 77, 200, 399, 400]

    samples = [set(draw(population, n, seed=seed).tiles) for n in sizes]

    assert [len(sample) for sample in samples] == sizes
    assert all(small < large for small, large in pairwise(samples))


@given(st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(any), st.data())
def test_every_stratum_has_its_share(sizes: list[int], data: st.DataObject) -> None:
    fewest = [min(size, FEWEST_PER_STRATUM) for size in sizes]
    n = data.draw(st.integers(sum(fewest), sum(sizes)))

    given_out = allocate(sizes, n=n)

    assert sum(given_out) == n
    assert all(low <= count <= size for low, count, size in zip(fewest, given_out, sizes, strict=True))


@pytest.mark.parametrize("n", [-1, 0, 7, 401])
def test_none_too_few_and_more_than_there_are_are_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"a sample of {n:,} tiles of 400; expected 8 to 400"):
        draw(make_population(40, 360), n)


def test_a_region_without_changes_has_a_sample_of_what_did_not_change() -> None:
    sample = draw(make_population(0, 100), 20)

    assert [stratum.name for stratum in sample.strata] == ["unchanged_sure", "unchanged_unsure"]


def test_a_run_that_saw_nothing_has_none() -> None:
    with pytest.raises(InputError, match="no tile that was called changed or unchanged"):
        draw(make_population(0, 0), 10)


def test_a_sample_is_read_back_and_a_damaged_one_is_told() -> None:
    sample = draw(make_population(40, 360), 50)
    data = sample.to_json()

    assert Sample.from_json(data, source="sample.json") == sample
    for damaged in (data[:-40], data.replace(b"changed_sure", b"changed_SURE", 1), b"[]", b'{"format_version": 9}'):
        with pytest.raises(InputError, match=r"sample\.json cannot be read"):
            Sample.from_json(damaged, source="sample.json")

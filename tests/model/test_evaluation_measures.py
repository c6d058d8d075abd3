"""Intervals: those of theory where theory has some, wider where scenes have many tiles, the same for the same seed."""

import numpy as np
import pytest

from model.evaluation.measures import BootstrapSettings, Measure, estimate_figures, f1, mean, root_mean, share


def make_mean(values, *, scenes=None, name: str = "mean") -> Measure:
    parts = np.stack([values, np.ones(len(values))], axis=1)
    names = tuple(scenes if scenes is not None else (str(index) for index in range(len(values))))
    return Measure(name=name, parts=parts, scenes=names, combine=mean(0, 1))


def estimate(*measures: Measure, **settings):
    return estimate_figures(measures, settings=BootstrapSettings(**settings))


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(0).normal(5, 2, 400)
    (figure,) = estimate(make_mean(values), n_draws=4000)
    half = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert figure.low == pytest.approx(values.mean() - half, abs=0.02)
    assert figure.high == pytest.approx(values.mean() + half, abs=0.02)
    assert figure.n_rows == 400


def test_tiles_of_one_scene_count_as_one():
    of_scene = np.random.default_rng(1).normal(0, 1, 50)
    values = of_scene.repeat(16)
    scenes = [str(index) for index in range(50) for _ in range(16)]
    by_tile, by_scene, alone = (
        estimate(make_mean(values))[0],
        estimate(make_mean(values, scenes=scenes))[0],
        estimate(make_mean(of_scene))[0],
    )
    assert by_scene.value == pytest.approx(alone.value)
    assert by_scene.high - by_scene.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert by_scene.high - by_scene.low > 3.5 * (by_tile.high - by_tile.low)


def test_one_scene_gives_no_interval_and_nothing_gives_no_figure():
    (figure,) = estimate(make_mean([1.0, 2.0], scenes=["a", "a"]))
    assert (figure.value, figure.low, figure.high) == (1.5, None, None)
    (figure,) = estimate(make_mean(np.empty(0)))
    assert (figure.value, figure.low, figure.n_rows) == (None, None, 0)


def test_draws_depend_on_the_seed_alone_and_not_on_what_else_is_measured():
    one, other = make_mean(np.arange(30.0)), make_mean(np.arange(30.0) ** 2, name="other")
    alone, again, beside = estimate(one, seed=3)[0], estimate(one, seed=3)[0], estimate(other, one, seed=3)[1]
    assert alone == again == beside
    assert estimate(one, seed=4)[0].low != alone.low


def test_draws_without_a_row_of_the_figure_are_left_out():
    rare = make_mean([3.0, 4.0], scenes=["a", "b"])
    (figure, _) = estimate(rare, make_mean(np.zeros(200), name="rest"))
    assert figure.value == 3.5
    assert (figure.low, figure.high) == (3.0, 4.0)


def test_sums_are_combined_by_what_they_are():
    sums = np.array([[3.0, 4.0, 6.0], [0.0, 0.0, 0.0]])
    assert share(0, 1)(sums).tolist() == [0.75, 0.0]
    assert f1(0, 1, 2)(sums).tolist() == [0.6, 0.0]
    assert root_mean(1, 2)(np.array([0.0, 8.0, 2.0])) == 2.0
    assert np.isnan(mean(0, 1)(sums)[1])

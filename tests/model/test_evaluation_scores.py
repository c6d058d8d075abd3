"""Figures of yes and no, counts and cells, beside those that scikit-learn 1.9.1 gives for the same arrays."""

import numpy as np
import pytest

from model.evaluation.cases import AnsweredCase, Case
from model.evaluation.measures import BootstrapSettings, estimate_figures
from model.evaluation.scores import measure_cells, measure_classify, measure_counts, measure_parseable
from model.interface import CELL_NAMES, Answer, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate

ONCE = BootstrapSettings(n_draws=2)


def make_case(kind: PromptKind, *, truth, text: str, tile: str = "t") -> AnsweredCase:
    prompt = Prompt(name=kind.value, kind=kind, text="?")
    return AnsweredCase(
        tile=tile, scene=tile, case=Case(id=tile, prompt=prompt, truth=truth), answer=Answer(text=text, confidence=0.9)
    )


def estimate(measures) -> dict:
    return {figure.name: figure for figure in estimate_figures(measures, settings=ONCE)}


def write_cells(is_named) -> str:
    return f"roads: []. buildings: {[name for name, named in zip(CELL_NAMES, is_named, strict=True) if named]}."


def make_arrays():
    """The arrays that scikit-learn was given."""
    random = np.random.default_rng(7)
    truth = random.random((40, 9)) < 0.2
    said = np.where(random.random((40, 9)) < 0.8, truth, random.random((40, 9)) < 0.3)
    truth[:8] = said[:6] = False
    is_yes = random.random(50) < 0.4
    says_yes = np.where(random.random(50) < 0.8, is_yes, ~is_yes)
    return truth, said, is_yes, says_yes


def test_cells_are_scored_as_the_original_scores_them():
    truth, said, _, _ = make_arrays()
    cases = [
        make_case(
            PromptKind.LOCATE,
            truth=ParsedLocate(building_cells=tuple(np.array(CELL_NAMES)[row]), road_cells=None),
            text=write_cells(named),
        )
        for row, named in zip(truth, said, strict=True)
    ]
    figures = estimate(measure_cells(cases, prefix="locate"))
    expected = {
        "precision": 0.7837837837837838,
        "recall": 0.8656716417910447,
        "f1": 0.8226950354609929,
        # average="samples": nothing named where nothing is scores 0 for Jaccard ...
        "jaccard": 0.5770833333333333,
        # ... and 1 for subset accuracy.
        "subset_accuracy": 0.525,
        # 7 rows of 40 are such.
        "jaccard_nonempty": 0.5770833333333333 * 40 / 33,
        "subset_accuracy_nonempty": (0.525 * 40 - 7) / 33,
    }
    for name, value in expected.items():
        assert figures[f"locate.building.{name}"].value == pytest.approx(value, abs=1e-12), name
        assert figures[f"locate.road.{name}"].value is None
    # Always naming nothing is right where nothing is.
    assert figures["locate.building.f1"].baseline.value == 0
    assert figures["locate.building.subset_accuracy"].baseline.value == (~truth.any(axis=1)).mean()


def test_yes_and_no_are_scored_beside_the_more_frequent_of_the_two():
    _, _, is_yes, says_yes = make_arrays()
    cases = [
        make_case(PromptKind.CLASSIFY, truth=ParsedClassify(is_changed=bool(true)), text="Yes" if said else "No")
        for true, said in zip(is_yes, says_yes, strict=True)
    ]
    figures = estimate(measure_classify(cases, prefix="classify"))
    expected = {"accuracy": 0.76, "precision": 0.7222222222222222, "recall": 0.65, "f1": 0.6842105263157895}
    assert {name: figures[f"classify.{name}"].value for name in expected} == pytest.approx(expected, abs=1e-12)
    assert figures["classify.accuracy"].baseline.value == 0.6
    assert figures["classify.f1"].baseline.value == 0
    assert figures["classify.f1"].baseline.rule == "No, everywhere"


def test_counts_are_scored_over_all_tiles_and_over_those_that_hold_some():
    cases = [
        make_case(PromptKind.COUNT, truth=ParsedCount(building_count=true, road_count=None), text=text)
        for true, text in (
            (0, "There are no changes in roads or buildings between the two images."),
            (4, "0 roads has changed, and 1 building has changed."),
            (2, "0 roads has changed, and 6 buildings has changed."),
            (0, "2 buildings have changed"),
        )
    ]
    figures = estimate(measure_counts(cases, prefix="count"))
    assert figures["count.building.mae"].value == (0 + 3 + 4 + 2) / 4
    assert figures["count.building.rmse"].value == pytest.approx(((9 + 16 + 4) / 4) ** 0.5)
    assert figures["count.building.changed_only.mae"].value == (3 + 4) / 2
    assert figures["count.building.changed_only.mean_count"].value == 3
    assert figures["count.building.mae"].baseline.value == (4 + 2) / 4
    assert figures["count.road.mae"].value is None
    assert figures["count.road.mae"].baseline is None


def test_what_cannot_be_parsed_says_that_nothing_changed_and_is_counted():
    kinds = (PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE)
    truths = (
        ParsedClassify(is_changed=True),
        ParsedCount(building_count=3, road_count=1),
        ParsedLocate(building_cells=("top-left",), road_cells=()),
    )
    classify, count, locate = (
        [make_case(kind, truth=truth, text="colourless green ideas")] for kind, truth in zip(kinds, truths, strict=True)
    )
    assert estimate(measure_classify(classify, prefix="c"))["c.recall"].value == 0
    figures = estimate(measure_counts(count, prefix="c"))
    assert (figures["c.building.mae"].value, figures["c.road.mae"].value) == (3, 1)
    assert estimate(measure_cells(locate, prefix="c"))["c.building.f1"].value == 0
    right = make_case(PromptKind.CLASSIFY, truth=truths[0], text="yes")
    (parseable,) = measure_parseable([*classify, *count, *locate, right], prefix="answers")
    assert estimate([parseable])["answers.parseable_fraction"].value == 1 / 4


def test_without_any_truth_nothing_is_known():
    for measures in (measure_classify([], prefix="x"), measure_counts([], prefix="x"), measure_cells([], prefix="x")):
        assert all(figure.value is None and figure.baseline is None for figure in estimate(measures).values())

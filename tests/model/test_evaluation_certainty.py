"""What an evaluation makes of outlines, counts and bare yeses: found as a run finds them, fitted, and held to it."""

from __future__ import annotations

import numpy as np
import pytest

from model.certainty import COUNT_LEVEL, Certainty
from model.evaluation.cases import AnsweredCase, AnsweredTile, Case
from model.evaluation.certainty import fit_certainty, fit_counts, is_bare, measure_certainty
from model.evaluation.measures import BootstrapSettings, estimate_figures
from model.evaluation.outlines import FoundOutline, MaskedTile, OutlineGatherer, may_hold
from model.interface import Answer, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount
from pipeline.answers.meaning import find_claims

NOTHING_COUNTED = "There are no changes in roads or buildings between the two images."
PROMPTS = {kind: Prompt(name=kind.value, kind=kind, text="?") for kind in PromptKind}


def answer(scene="s", *, is_changed=True, true_count=0, **texts):
    """Give a tile's answers by kind of prompt, beside what is true."""
    truths = {
        PromptKind.CLASSIFY: ParsedClassify(is_changed=is_changed),
        PromptKind.COUNT: ParsedCount(building_count=true_count, road_count=None),
    }
    answered = tuple(
        AnsweredCase(
            tile="t",
            scene=scene,
            case=Case(id=kind, prompt=PROMPTS[PromptKind(kind)], truth=truths.get(PromptKind(kind))),
            answer=Answer(text=text, confidence=0.75),
        )
        for kind, text in texts.items()
    )
    return AnsweredTile(name="t", scene=scene, flag=None, facts=None, answered=answered)


def make_masked(pair, *, left, mask, truth, yes=0.5):
    return MaskedTile(
        pair=pair, top=0, left=left, scene=pair, yes=yes, masks={"building": mask}, truths={"building": truth}
    )


def test_outlines_join_over_the_tiles_of_a_pair_and_not_over_pairs():
    mask, truth = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    mask[1:3, 3], truth[0, 0] = 0.9, True
    other = np.zeros((4, 4), np.float32)
    other[1, 0], other[3, 3] = 0.6, 0.7
    gatherer = OutlineGatherer()
    for tile in (
        make_masked("a", left=0, mask=mask, truth=truth, yes=0.5),
        None,
        make_masked("a", left=4, mask=other, truth=truth & False, yes=0.8),
        make_masked("b", left=0, mask=other, truth=truth | True),
    ):
        gatherer.add(tile)

    shared, corner, *of_b = gatherer.finish()

    assert (shared.peak, shared.tile_share, shared.yes) == pytest.approx((0.9, 3 / 16, (0.5 * 2 + 0.8) / 3))
    assert (corner.peak, corner.tile_share, corner.yes) == pytest.approx((0.7, 1 / 16, 0.8))
    assert [shared.is_right, corner.is_right, *(one.is_right for one in of_b)] == [False, False, True, True]


@pytest.mark.parametrize("classify", ["Yes", "No", "maybe"])
@pytest.mark.parametrize("count", [None, NOTHING_COUNTED, "2 buildings.", "1 road."])
@pytest.mark.parametrize("locate", [None, "roads: []. buildings: ['top-left'].", "roads: ['top-left'].", "perhaps"])
def test_outlines_are_drawn_where_a_run_draws_them(classify, count, locate):
    texts = {"classify": classify, "count": count, "locate": locate}
    said = {kind: text for kind, text in texts.items() if text is not None}
    asked = [PROMPTS[PromptKind(kind)] for kind in said]
    kinds = ["building", "road"]

    claims = find_claims(asked, texts={kind: [text] for kind, text in said.items()}, kinds=kinds, n_tiles=1)

    assert [may_hold(kind, answer(**said).answered) for kind in kinds] == claims[0].tolist()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"classify": "Yes", "count": NOTHING_COUNTED}, True),
        ({"classify": "Yes", "locate": "roads: []. buildings: []."}, True),
        ({"classify": "Yes"}, False),
        ({"classify": "No", "count": NOTHING_COUNTED}, False),
        ({"classify": "Yes", "count": NOTHING_COUNTED, "locate": "roads: ['top-left']."}, False),
    ],
)
def test_a_yes_is_bare_beside_nothing(texts, expected):
    assert is_bare(answer(**texts).answered) == expected


def draw_outlines(n, *, seed):
    """Outlines that are right the more often, the higher their peak is and the larger they are."""
    random = np.random.default_rng(seed)
    peaks, shares = random.uniform(0.5, 1, n), np.exp(random.uniform(-8, -1, n))
    odds = 1.5 * np.log(peaks / (1 - peaks + 1e-3)) + 0.6 * np.log(shares) + 1
    is_right = random.random(n) < 1 / (1 + np.exp(-odds))
    return [
        FoundOutline(kind="building", scene=f"s{i % 40}", peak=peak, tile_share=share, yes=0.9, is_right=bool(right))
        for i, (peak, share, right) in enumerate(zip(peaks, shares, is_right, strict=True))
    ]


def test_the_fitted_probability_holds_for_outlines_that_it_was_not_fitted_to():
    certainty = fit_certainty([], outlines=draw_outlines(2000, seed=0))
    measures = measure_certainty([], outlines=draw_outlines(2000, seed=1), certainty=certainty)

    figures = {one.name: one for one in estimate_figures(measures, settings=BootstrapSettings(n_draws=20))}
    assert figures["outline.building.ece"].value < 0.05
    assert figures["outline.building.auc"].value > 0.85
    assert figures["outline.building.auc"].n_rows == 2000
    assert figures["outline.building.right_if_sure"].value > figures["outline.building.right"].value
    assert (certainty.counts, certainty.bare_yes) == ((), None)


def test_what_has_too_few_examples_is_not_measured():
    outlines = draw_outlines(40, seed=0)
    only_right = [one for one in draw_outlines(2000, seed=0) if one.is_right]

    assert fit_certainty([], outlines=outlines) == Certainty()
    assert fit_certainty([], outlines=only_right) == Certainty()


def test_intervals_hold_the_truth_of_other_tiles_about_as_often_as_they_say():
    def draw(seed):
        random = np.random.default_rng(seed)
        said = random.choice([1, 2, 4, 8, 16], 600)
        return said, random.poisson(said)

    fit = fit_counts(*draw(0), kind="building")
    said, true = draw(1)
    low, high = fit.bound(said)

    assert abs(((low <= true) & (true <= high)).mean() - COUNT_LEVEL) < 0.05
    assert [step.up_to for step in fit.steps] == [1, 2, 4, 8, None]


def test_counts_and_bare_yeses_are_measured_in_tiles_called_changed():
    tiles = [answer(f"s{i}", classify="Yes", count="3 buildings.", true_count=2 + i % 3) for i in range(60)]
    tiles += [answer(f"s{i}", classify="Yes", count=NOTHING_COUNTED, is_changed=i % 2 == 0) for i in range(60)]
    tiles += [answer(f"s{i}", classify="No", count="9 buildings.") for i in range(60)]

    certainty = fit_certainty(tiles, outlines=[])
    figures = estimate_figures(
        measure_certainty(tiles, outlines=[], certainty=certainty), settings=BootstrapSettings(n_draws=5)
    )

    assert certainty.bare_yes.probability == 0.5
    assert sum(step.n_tiles for step in certainty.find_counts("building").steps) == 120
    assert {one.name: one.n_rows for one in figures} == {
        "count.building.in_interval": 120,
        "count.building.interval_length": 120,
        "classify.bare_yes.right": 60,
    }

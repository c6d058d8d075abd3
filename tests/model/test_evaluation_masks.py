"""Masks are scored pixel by pixel, where the truth tells of their label, and only of a model that has some."""

import numpy as np
import pytest

from model.evaluation.evaluation import EvaluationSettings, evaluate
from model.evaluation.mask_scores import PixelCounts, count_pixels, measure_masks, paint_cells
from model.evaluation.measures import BootstrapSettings, estimate_figures
from model.images import CHANGED_VALUE
from model.interface import Answer, ChangeMasks, ModelIdentity
from model.pairs.folders import LabelledPair
from model.prompts import load_prompt_book

LABELS = ("building", "road")
PROMPTS = load_prompt_book().prompts


def make_pair(mask: np.ndarray, *, has_road_truth: bool) -> LabelledPair:
    image = np.zeros((*mask.shape, 3), np.uint8)
    return LabelledPair(name="made", before=image, after=image, mask=mask, has_road_truth=has_road_truth)


def make_scored_tile() -> tuple[LabelledPair, np.ndarray]:
    """A tile of 6 x 6 with 4 changed building pixels, and probabilities that meet 3 of them and 3 others."""
    mask = np.zeros((6, 6), np.uint8)
    mask[0:2, 0:2] = CHANGED_VALUE
    probabilities = np.full((1, 2, 6, 6), 0.1, np.float32)
    probabilities[0, 0, 0:2, 0:2] = [[0.9, 0.5], [0.7, 0.2]]
    probabilities[0, 0, 5, 0:3] = 0.6
    return make_pair(mask, has_road_truth=False), probabilities


# Two cells of four pixels are named; one of them is the building.
EXPECTED_COUNTS = PixelCounts(
    n_right=3, n_predicted=6, n_true=4, n_either=7, n_cells_right=4, n_cells_either=8, n_pixels=36
)
EXPECTED = {
    "iou": 3 / 7,
    "f1": 6 / 10,
    "precision": 3 / 6,
    "recall": 3 / 4,
    "cells_iou": 4 / 8,
    "changed_fraction": 4 / 36,
}


def estimate(counts: list[PixelCounts]) -> dict[str, float | None]:
    measures = measure_masks("building", counts, scenes=[str(index) for index in range(len(counts))])
    figures = estimate_figures(measures, settings=BootstrapSettings(n_draws=2))
    return {figure.name.removeprefix("mask.building."): figure.value for figure in figures}


def test_named_cells_are_painted_where_they_are():
    painted = paint_cells(["top-right", "center-center", "bottom-left"], shape=(9, 9))
    expected = np.fliplr(np.eye(3, dtype=bool)).repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(painted, expected)
    assert not paint_cells([], shape=(4, 5)).any()


def test_pixels_are_counted_where_there_is_truth():
    tile, probabilities = make_scored_tile()
    masks = ChangeMasks(labels=LABELS, probabilities=probabilities)
    counted = count_pixels(masks, [tile], named_cells=[{"building": ["top-left", "bottom-right"]}])
    assert counted == [{"building": EXPECTED_COUNTS, "road": None}]


def test_scores_are_over_all_pixels_of_all_tiles_together():
    assert estimate([EXPECTED_COUNTS]) == pytest.approx(EXPECTED)
    none = PixelCounts(n_right=0, n_predicted=3, n_true=0, n_either=3, n_cells_right=0, n_cells_either=0, n_pixels=36)
    assert estimate([EXPECTED_COUNTS, none])["iou"] == 3 / 10
    assert estimate([EXPECTED_COUNTS, none])["changed_fraction"] == 4 / 72


def test_nothing_there_and_nothing_said_scores_zero():
    tile = make_pair(np.zeros((6, 6), np.uint8), has_road_truth=True)
    masks = ChangeMasks(labels=("building",), probabilities=np.zeros((1, 1, 6, 6), np.float32))
    ((counted,),) = (of_tile.values() for of_tile in count_pixels(masks, [tile], named_cells=[{}]))
    assert estimate([counted]) == dict.fromkeys(EXPECTED, 0.0)


class Speaker:
    """Answers every prompt as if two cells held buildings."""

    identity = ModelIdentity(model_id="speaker", weight_hash="0" * 64, path="nowhere")

    def answer_prompts(self, pairs, *, prompts):
        texts = {
            "classify": "Yes",
            "count": "0 roads has changed, and 1 building has changed.",
            "locate": "roads: []. buildings: ['top-left', 'bottom-right'].",
        }
        return [[Answer(text=texts[prompt.kind.value], confidence=1.0)] * len(pairs) for prompt in prompts]


class Painter(Speaker):
    """Gives the same masks for every pair."""

    mask_labels = LABELS

    def predict_masks(self, pairs, *, size_px=None):
        return ChangeMasks(labels=LABELS, probabilities=make_scored_tile()[1].repeat(len(pairs), axis=0))


def test_an_evaluation_speaks_of_masks_where_the_model_has_some():
    settings = EvaluationSettings(bootstrap=BootstrapSettings(n_draws=2))
    tile, _ = make_scored_tile()
    spoken, painted = (
        {figure.name: figure.value for figure in evaluate(model, [tile], prompts=PROMPTS, settings=settings).figures}
        for model in (Speaker(), Painter())
    )
    assert not any(name.startswith("mask.") for name in spoken)
    assert {name: painted[f"mask.building.{name}"] for name in EXPECTED} == pytest.approx(EXPECTED)
    assert painted["mask.road.iou"] is None
    of_masks = ("mask.", "object.", "outline.")
    assert {name: value for name, value in painted.items() if not name.startswith(of_masks)} == spoken

"""Single buildings are counted once each, and what became of them is asked with the dates swapped as well."""

import numpy as np
import pytest

from model.evaluation.evaluation import EvaluationSettings, evaluate
from model.evaluation.measures import BootstrapSettings
from model.evaluation.objects import count_objects
from model.evaluation.outlines import MaskedTile, OutlineGatherer
from model.images import CHANGED_VALUE
from model.interface import Answer, ChangeMasks, ModelIdentity
from model.pairs.folders import LabelledPair
from model.prompts import load_prompt_book

HOUSES = (np.s_[2:8, 2:8], np.s_[2:8, 9:15])


def paint(*boxes, value=1.0, base=0.0):
    layer = np.full((16, 16), base, np.float32)
    for box in boxes:
        layer[box] = value
    return layer


def test_each_thing_is_found_once_by_what_has_most_in_common_with_it():
    truth = paint(*HOUSES) > 0
    labels = np.zeros((16, 16), np.int32)
    labels[2:8, 2:6], labels[2:8, 6:8] = 1, 2  # Two parts of the first house.
    labels[10:12, 0:2] = 3  # Nothing is there.
    found = count_objects(labels, truth, kind="building", scene="s")
    assert (found.n_matched, found.n_found, found.n_true) == (1, 3, 2)
    both = count_objects((paint(np.s_[2:8, 2:15]) > 0).astype(np.int32), truth, kind="building", scene="s")
    # One outline around two houses is one of them, as it has 36 of 78 pixels with it.
    assert (both.n_matched, both.n_found) == (1, 1)


@pytest.mark.parametrize(("has_border", "expected"), [(False, (1, 1)), (True, (2, 2))])
def test_buildings_are_taken_apart_over_the_tiles_of_a_pair(has_border, expected):
    mask = paint(np.s_[2:8, 2:15], value=0.9)
    aspects = {"border": paint(np.s_[1:9, 8:9])} if has_border else {}
    gatherer = OutlineGatherer()
    for left, part in ((0, np.s_[:, :8]), (8, np.s_[:, 8:])):
        gatherer.add(
            MaskedTile(
                pair="a",
                top=0,
                left=left,
                scene="a",
                yes=0.9,
                masks={"building": mask[part]},
                truths={"building": (paint(*HOUSES) > 0)[part]},
                aspects={name: layer[part] for name, layer in aspects.items()},
            )
        )
    outlines = gatherer.finish()
    (counted,) = gatherer.objects
    assert (counted.n_matched, len(outlines)) == expected
    assert not gatherer.directions


class Teller:
    """Outlines what is bright on either date, and says that it went where the earlier date is the brighter one."""

    identity = ModelIdentity(model_id="teller", weight_hash="0" * 64, path="nowhere")
    mask_labels = ("building",)

    def answer_prompts(self, pairs, *, prompts):
        texts = {"classify": "Yes", "count": "2 buildings have changed.", "locate": "buildings: ['top-left']."}
        return [[Answer(text=texts[prompt.kind.value], confidence=0.9)] * len(pairs) for prompt in prompts]

    def predict_masks(self, pairs, *, size_px=None):
        before, after = pairs[:, 0, 0].astype(np.float32) / 255, pairs[:, 1, 0].astype(np.float32) / 255
        return ChangeMasks(
            labels=self.mask_labels,
            probabilities=np.maximum(before, after)[:, np.newaxis],
            aspects={"removed": (before > after).astype(np.float32), "border": np.zeros_like(before)},
        )


def make_pair(*, is_removal):
    image = (paint(*HOUSES, value=250)[..., np.newaxis]).repeat(3, axis=2).astype(np.uint8)
    dates = (image, np.zeros_like(image)) if is_removal else (np.zeros_like(image), image)
    return LabelledPair(
        name=f"made-{is_removal}",
        before=dates[0],
        after=dates[1],
        mask=(paint(*HOUSES) * CHANGED_VALUE).astype(np.uint8),
        has_road_truth=False,
        is_removal=is_removal,
    )


def test_an_evaluation_tells_of_single_buildings_and_of_both_directions():
    settings = EvaluationSettings(bootstrap=BootstrapSettings(n_draws=2))
    pairs = [make_pair(is_removal=False), make_pair(is_removal=True)]
    found = evaluate(Teller(), pairs, prompts=load_prompt_book().prompts, settings=settings)
    assert {name: found.value(name) for name in ("object.building.f1", "direction.building.accuracy")} == {
        "object.building.f1": 1.0,
        "direction.building.accuracy": 1.0,
    }
    # Two houses of two pairs, each with its dates as they are and swapped.
    assert (found.get("direction.building.built").n_rows, found.get("direction.building.removed").n_rows) == (4, 4)

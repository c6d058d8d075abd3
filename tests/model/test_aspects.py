"""Direction and borders beside the masks: their truth, their place in the decoder, and what is read from them."""

import numpy as np
import pytest
import torch

from model.configuration import MaskDecoderConfig
from model.images import CHANGED_VALUE
from model.instances import Direction, split_touching, tell_direction
from model.mask_decoder import ChangeMaskDecoder
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.folders import LabelledPair
from model.registry import find_model_folder
from model.training.aspects import aspect_loss, extend_decoder, find_borders, trace_aspects
from model.training.masks import MaskTrainingModel


def make_pair(*, is_removal: bool) -> LabelledPair:
    mask = np.zeros((96, 96), np.uint8)
    mask[20:40, 10:30] = mask[20:40, 32:52] = mask[70:80, 70:80] = CHANGED_VALUE
    image = np.zeros((96, 96, 3), np.uint8)
    return LabelledPair(name="p", before=image, after=image, mask=mask, has_road_truth=False, is_removal=is_removal)


def test_borders_lie_between_neighbours_alone():
    borders = find_borders(make_pair(is_removal=False).mask > 0)
    assert borders[25:35, 30:32].all()
    assert not borders[:, 60:].any()
    assert not borders[:, :28].any()


@pytest.mark.parametrize("is_removal", [False, True])
def test_direction_is_known_where_something_changed(is_removal):
    pair = make_pair(is_removal=is_removal)
    truth, known = trace_aspects(pair, aspects=("removed", "border"), side_px=48)
    assert truth.shape == known.shape == (2, 48, 48)
    assert truth[0].all() if is_removal else not truth[0].any()
    assert known[0].sum() == (pair.mask > 0).sum() // 4
    assert known[1].all()


def test_the_loss_takes_no_notice_of_what_is_not_known():
    truth = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    known = torch.zeros_like(truth)
    known[..., 0] = True
    logits = torch.full((1, 1, 4, 4), 9.0)
    logits[..., 0] = -9.0
    assert aspect_loss(logits, truth, known, aspects=("removed",)) < 0.001
    assert aspect_loss(-logits, truth, known, aspects=("removed",)) > 8


ASPECTS = {"aspects": ("removed", "border"), "aspect_hidden_size": 32, "n_aspect_stages": 1}


def load_shipped() -> DeltaVlmForConditionalGeneration:
    return DeltaVlmForConditionalGeneration.from_pretrained(find_model_folder("deltavlm-tiny"), dtype=torch.float32)


def test_a_decoder_without_aspects_has_no_part_that_former_models_lack():
    former = ChangeMaskDecoder(MaskDecoderConfig(hidden_size=16, min_hidden_size=8, labels=("building", "road")))
    assert former.head[-1].out_channels == 2
    assert not [name for name in former.state_dict() if name.startswith("aspects")]


def test_a_model_that_ships_learns_aspects_and_keeps_its_masks():
    model = load_shipped()
    tokens = torch.randn(2, 144, model.config.vision_config.hidden_size)
    before = model.predict_masks(tokens, tokens.flip(0))[:, :2]
    extend_decoder(model, ASPECTS)
    after = model.predict_masks(tokens, tokens.flip(0))
    assert after.shape == (2, 4, *before.shape[2:])
    assert torch.equal(after[:, :2], before)
    assert model.config.mask_config.aspects == ("removed", "border")


def test_a_model_keeps_the_aspects_that_it_has_where_none_are_named():
    model = load_shipped()
    former = model.mask_decoder
    assert former.config.aspects == ("removed",)
    extend_decoder(model, ASPECTS | {"aspects": ()})
    assert model.mask_decoder is former


def test_a_training_of_the_aspects_changes_no_mask():
    model = load_shipped()
    extend_decoder(model, ASPECTS)
    training_model = MaskTrainingModel(model, positive_weight=2.0, keeps_masks=True)
    pixels = torch.randn(2, 2, 3, 192, 192)
    with torch.no_grad():
        before = model.predict_masks(*model.encode_dates(pixels))
    optimizer = torch.optim.AdamW([each for each in training_model.parameters() if each.requires_grad], lr=0.01)
    side = model.config.mask_config.output_size_px
    truth = torch.ones(2, 2, side, side, dtype=torch.bool)
    losses = []
    for _ in range(3):
        loss = training_model(pixels, truth, torch.ones(2, 2, dtype=torch.bool), truth, truth)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        after = model.predict_masks(*model.encode_dates(pixels))
    assert losses[-1] < losses[0]
    assert torch.equal(after[:, :2], before[:, :2])
    assert not torch.equal(after[:, 2:], before[:, 2:])


def test_masks_are_kept_of_a_model_that_has_aspects_alone():
    model = load_shipped()
    model.mask_decoder.aspects = None
    with pytest.raises(ValueError, match="tells nothing beside its masks"):
        MaskTrainingModel(model, positive_weight=2.0, keeps_masks=True)


def test_touching_buildings_come_apart_at_their_border():
    probabilities = np.zeros((40, 60), np.float32)
    probabilities[10:30, 5:55] = 0.9
    probabilities[34:38, 5:9] = 0.8
    borders = np.zeros_like(probabilities)
    borders[:, 28:32] = 0.9
    numbers = split_touching(probabilities, borders)
    assert len(set(np.unique(numbers)) - {0}) == 3
    assert numbers[20, 10] != numbers[20, 50]
    assert (numbers > 0).sum() == (probabilities > 0.5).sum()
    borders[33:39, 4:10] = 0.9
    assert split_touching(probabilities, borders)[35, 6] > 0


@pytest.mark.parametrize(
    ("value", "expected"), [(0.9, Direction.REMOVED), (0.1, Direction.BUILT), (0.5, Direction.ALTERED)]
)
def test_direction_is_told_by_the_pixels_of_the_outline(value, expected):
    removed = np.full((4, 4), 0.5, np.float32)
    changed = np.zeros((4, 4), bool)
    removed[1, 1] = value
    changed[1, 1] = True
    assert tell_direction(removed, changed=changed) is expected
    assert tell_direction(removed, changed=np.zeros((4, 4), bool)) is None

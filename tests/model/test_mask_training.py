"""The mask branch is trained on what the truth tells, scored pixel by pixel, and nothing else of the model moves."""

from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.folders import LabelledPair, separate_labels
from model.registry import find_model_folder
from model.training.augmentation import Augmentation
from model.training.checkpoints import save_weights
from model.training.dataset import PairSource
from model.training.masks import (
    MaskCollator,
    MaskStream,
    MaskTrainingModel,
    add_mask_decoder,
    prepare_mask_decoder,
    resize_masks,
    train_masks,
)
from model.training.optimization import build_optimizer
from model.training.recipe import MaskTrainingConfig, TrainingConfig, load_training_config

DECODER = {
    "feature_source": "difference_perception",
    "unification": "projection",
    "hidden_size": 32,
    "n_stages": 2,
    "has_attention": False,
    "output_size_px": 48,
    "labels": ["building", "road"],
}
LABELS = ("building", "road")


@pytest.fixture
def tiny_model() -> DeltaVlmForConditionalGeneration:
    """The weights that ship, which have a mask branch."""
    return DeltaVlmForConditionalGeneration.from_pretrained(find_model_folder("deltavlm-tiny"))


def make_pair(*, left: int, has_road_truth: bool = False) -> LabelledPair:
    """A grey place where one bright square was built."""
    mask = np.zeros((96, 96), np.uint8)
    mask[24:56, left : left + 32] = CHANGED_VALUE
    before = np.random.default_rng(left).integers(60, 120, (96, 96, 3), dtype=np.uint8)
    after = np.where(mask[..., None] > 0, 230, before).astype(np.uint8)
    return LabelledPair(name=str(left), before=before, after=after, mask=mask, has_road_truth=has_road_truth)


def make_scored_pair(mask: np.ndarray, *, has_road_truth: bool) -> LabelledPair:
    image = np.zeros((*mask.shape, 3), np.uint8)
    return LabelledPair(name="made", before=image, after=image, mask=mask, has_road_truth=has_road_truth)


def test_a_branch_can_be_gone_on_with_instead_of_a_fresh_one(tiny_model):
    values = {"kind": "mask", "sources": [{"path": "."}], "n_steps": 1, "decoder": DECODER}
    former = tiny_model.mask_decoder
    prepare_mask_decoder(tiny_model, MaskTrainingConfig.model_validate(values | {"keeps_decoder": True}))
    assert tiny_model.mask_decoder is former
    prepare_mask_decoder(tiny_model, MaskTrainingConfig.model_validate(values))
    assert tiny_model.mask_decoder is not former
    tiny_model.mask_decoder = None
    prepare_mask_decoder(tiny_model, MaskTrainingConfig.model_validate(values | {"keeps_decoder": True}))
    assert tiny_model.mask_decoder is not None


@pytest.mark.parametrize("values", [{"keeps_decoder": False}, {"keeps_decoder": True}])
def test_a_training_in_which_nothing_would_learn_is_refused(values):
    decoder = DECODER | ({"aspects": ("removed",)} if not values["keeps_decoder"] else {})
    fields = {"kind": "mask", "sources": [{"path": "."}], "n_steps": 1, "decoder": decoder, "keeps_masks": True}
    with pytest.raises(ValueError, match="nothing would learn"):
        MaskTrainingConfig.model_validate(fields | values)


def test_labels_are_separated_and_what_masks_do_not_tell_is_not_known():
    mask = np.array([[0, ROAD_VALUE], [CHANGED_VALUE, 0]], np.uint8)
    masks, is_known = separate_labels(
        make_scored_pair(mask, has_road_truth=False), labels=("road", "building", "change")
    )
    assert masks.tolist() == [
        [[False, True], [False, False]],
        [[False, False], [True, False]],
        [[False, True], [True, False]],
    ]
    assert is_known.tolist() == [False, True, True]
    assert separate_labels(make_scored_pair(mask, has_road_truth=True), labels=["road"])[1].tolist() == [True]
    with pytest.raises(ValueError, match=r"the label tree; expected building, road"):
        separate_labels(make_scored_pair(mask, has_road_truth=True), labels=["tree"])


def test_masks_are_resized_by_their_nearest_pixel():
    small = np.array([[[True, False, False], [False, True, False], [False, False, True]]])
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    assert np.array_equal(resize_masks(large, side_px=3), small)
    assert np.array_equal(resize_masks(small, side_px=12), large)


def make_stream(decoder_config, *, pairs: list[LabelledPair]) -> MaskStream:
    return MaskStream(
        [PairSource(pairs=pairs, crop_size_px=96, weight=1.0)],
        image_size=192,
        decoder=decoder_config,
        augmentation=Augmentation(unchanged_fraction=0, removal_fraction=0, shift_px=0),
        seed=0,
    )


@pytest.fixture
def mask_model(model) -> DeltaVlmForConditionalGeneration:
    """A model of its own with a fresh mask branch."""
    whole = DeltaVlmForConditionalGeneration(type(model.config).from_dict(model.config.to_dict()))
    whole.load_state_dict(model.state_dict())
    torch.manual_seed(0)
    add_mask_decoder(whole, DECODER)
    return whole


def test_samples_show_where_the_bright_square_is(mask_model, processor):
    stream = make_stream(mask_model.config.mask_config, pairs=[make_pair(left=8)])
    for sample in islice(iter(stream), 4):
        # Whatever the turn and the light, the date after is brighter exactly where the mask is.
        difference = sample.pair.astype(int).sum(axis=1)[1] - sample.pair.astype(int).sum(axis=1)[0]
        is_brighter = resize_masks((difference > 150)[None], side_px=48)[0]
        assert (is_brighter == sample.masks[0]).mean() > 0.97
        assert sample.masks.shape == (2, 48, 48)
        assert sample.is_known.tolist() == [True, False]
    batch = MaskCollator(processor)([sample, sample])
    assert batch["pixel_values"].shape == (2, 2, 3, 192, 192)
    assert batch["masks"].shape == (2, 2, 48, 48)
    assert batch["is_known"].tolist() == [[True, False]] * 2


def test_training_lowers_the_loss_and_moves_the_decoder_alone(mask_model, processor):
    before = {name: tensor.clone() for name, tensor in mask_model.state_dict().items()}
    stream = make_stream(mask_model.config.mask_config, pairs=[make_pair(left=left) for left in (8, 48)])
    batch = MaskCollator(processor)(list(islice(iter(stream), 4)))
    training = MaskTrainingModel(mask_model, positive_weight=2.0).train()
    config = MaskTrainingConfig.model_validate(
        {"kind": "mask", "sources": [], "n_steps": 15, "learning_rate": 3e-3, "weight_decay": 0.0}
    )
    optimizer = build_optimizer(training, config)
    losses = []
    for _ in range(config.n_steps):
        parts = training(**batch)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["loss"].item())
    assert losses[-1] < 0.5 * losses[0]
    # The truth tells of buildings alone, so their loss is the whole.
    assert parts["building"].item() == pytest.approx(losses[-1], rel=1e-6)
    assert parts["road"].item() == 0
    moved = {name for name, tensor in mask_model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("mask_decoder.") for name in moved)


@pytest.fixture
def folders(tmp_path, model, processor):
    """A folder of pairs, and one of a model without a mask branch."""
    for left in (8, 24, 40, 56):
        pair = make_pair(left=left)
        for name, image in (("A", pair.before), ("B", pair.after), ("label", pair.mask)):
            (tmp_path / "pairs" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "pairs" / name / f"{left}.png"), image)
    processor.save_pretrained(tmp_path / "plain")
    save_weights(model, tmp_path / "plain")
    return tmp_path


def make_config(**values) -> MaskTrainingConfig:
    return MaskTrainingConfig.model_validate(
        {
            "kind": "mask",
            "sources": [{"path": "pairs", "crop_size_px": 96, "weight": 1.0}],
            "decoder": DECODER,
            "n_steps": 2,
            "warm_up_steps": 1,
            "batch_size_pairs": 2,
            "n_loader_workers": 0,
            "use_bfloat16": False,
            **values,
        }
    )


def test_the_command_writes_the_same_model_with_a_mask_branch(folders):
    config = make_config(initial_weights=str(folders / "plain"))
    output = train_masks(config, output=folders / "masked", data_root=folders).folder
    plain, masked = (
        DeltaVlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        for folder in (folders / "plain", output)
    )
    assert masked.config.mask_config.labels == LABELS
    assert all(torch.equal(tensor, masked.state_dict()[name]) for name, tensor in plain.state_dict().items())
    added = set(masked.state_dict()) - set(plain.state_dict())
    assert added
    assert all(name.startswith("mask_decoder.") for name in added)
    assert (folders / "masked-training" / "result.json").is_file()


def test_without_a_model_to_go_on_from_there_is_no_mask_training(tmp_path):
    with pytest.raises(ValueError, match="--initial-weights"):
        train_masks(make_config(), output=tmp_path / "out", data_root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_recipes_are_told_apart_by_their_kind(repository):
    mask = load_training_config(repository / "configs" / "train-tiny-mask.yaml")
    assert isinstance(mask, MaskTrainingConfig)
    assert mask.decoder.labels == LABELS
    direction = load_training_config(repository / "configs" / "train-tiny-direction.yaml")
    assert isinstance(direction, MaskTrainingConfig)
    assert direction.keeps_masks
    assert direction.decoder.aspects
    for name in ("train-tiny.yaml", "train-tiny-words.yaml", "train-tiny-answers.yaml"):
        assert isinstance(load_training_config(repository / "configs" / name), TrainingConfig)

"""Change masks: as the original gives them, and as part of a model that is saved, loaded and asked."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import InstructBlipVisionConfig

from model.answering import DeltaVlmAnswerer
from model.configuration import DeltaVlmConfig, MaskDecoderConfig
from model.conversion.names import infer_mask_config
from model.loading import load_weights
from model.mask_decoder import ChangeMaskDecoder, lay_out_tokens, mask_loss, number_offsets
from model.modeling import DeltaVlmForConditionalGeneration
from model.training.checkpoints import save_weights
from model.training.masks import add_mask_decoder

OURS = {
    "feature_source": "difference_perception",
    "unification": "projection",
    "hidden_size": 32,
    "n_stages": 2,
    "has_attention": False,
    "output_size_px": 40,
    "labels": ["building", "road"],
}


class GoldenMasks(NamedTuple):
    """What was recorded from one decoder of the original."""

    name: str
    decoder: ChangeMaskDecoder
    features: Tensor
    expected: dict[str, Tensor]
    """Probabilities under `prob`, 0 or 1 under `binary`, stages in between under the names of the decoder's parts."""
    truth: Tensor | None
    losses: dict[str, float]


def read_golden_masks(shared_data: Path) -> list[GoldenMasks]:
    """Read every recorded set, whatever its sizes."""
    folders = sorted(file.parent for file in (shared_data / "parity").glob("*/weights.safetensors"))
    sets = [golden for folder in folders if (golden := read_golden_set(folder)) is not None]
    if not sets:
        pytest.skip(f"no recorded masks in {shared_data / 'parity'}")
    return sets


def read_golden_set(folder: Path) -> GoldenMasks | None:
    config = json.loads((folder / "config.json").read_text())
    expected = load_file(folder / "expected.safetensors")
    is_alone = "input_diff_without_cls" in expected
    if not is_alone and "mask.prob" not in expected:
        return None
    size_px = config["out_sz"] if is_alone else config["mask"]["mask_output_size"]
    weights = {
        key: tensor
        for key, tensor in load_file(folder / "weights.safetensors").items()
        if key.startswith("mask_decoder.")
    }
    sizes = infer_mask_config({key: tuple(tensor.shape) for key, tensor in weights.items()}, output_size_px=size_px)
    assert sizes is not None
    decoder = ChangeMaskDecoder(sizes)
    decoder.load_state_dict({key.removeprefix("mask_decoder."): tensor for key, tensor in weights.items()})
    if is_alone:
        features = lay_out_tokens(expected["input_diff_without_cls"], has_class_token=False)
        return GoldenMasks(folder.name, decoder, features, {"prob": expected["prob"]}, None, {})
    recorded = json.loads((folder / "expected.json").read_text())["mask"]
    return GoldenMasks(
        name=folder.name,
        decoder=decoder,
        features=lay_out_tokens(expected["main.csrm.diff"], has_class_token=True),
        expected={key.removeprefix("mask."): tensor for key, tensor in expected.items() if key.startswith("mask.")},
        truth=load_file(folder / "inputs.safetensors")["gt_mask"],
        losses={key: recorded[key] for key in ("loss_pw1", "loss_pw2")},
    )


def decode_with_stages(golden: GoldenMasks) -> dict[str, Tensor]:
    """Run a decoder and keep what its parts give, under the names that the recorder used."""
    found: dict[str, Tensor] = {}
    parts: dict[str, nn.Module] = {
        "lfu": golden.decoder.lfu,
        "proj": golden.decoder.proj,
        "logits_before_resize": golden.decoder.head,
        **{f"stage{index}": stage for index, stage in enumerate(golden.decoder.stages)},
    }
    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
        for name, part in parts.items()
    ]
    found["prob"] = golden.decoder(golden.features).sigmoid()
    for hook in hooks:
        hook.remove()
    return found


def test_every_recorded_tensor_of_the_original_is_met(shared_data):
    for golden in read_golden_masks(shared_data):
        found = decode_with_stages(golden)
        for name, expected in golden.expected.items():
            if name == "binary":
                is_clear = (golden.expected["prob"] - 0.5).abs() >= 1e-4
                assert torch.equal((found["prob"] > 0.5)[is_clear], expected.bool()[is_clear]), golden.name
            else:
                # Some parts were recorded for the first sample alone.
                error = (found[name][: len(expected)] - expected).abs().max() / expected.abs().max()
                assert error.item() <= 1e-5, (golden.name, name)


def test_the_losses_of_the_original_are_met_and_reach_every_parameter(shared_data):
    for golden in read_golden_masks(shared_data):
        if golden.truth is None:
            continue
        logits = golden.decoder(golden.features)
        for name, expected in golden.losses.items():
            loss = mask_loss(logits, golden.truth, positive_weight=float(name.removeprefix("loss_pw")))
            assert loss.item() == pytest.approx(expected, rel=1e-5), (golden.name, name)
        loss.backward()
        for name, parameter in golden.decoder.named_parameters():
            assert parameter.grad is not None, (golden.name, name)
            assert parameter.grad.abs().sum() > 0, (golden.name, name)


def test_tokens_lie_row_major_and_the_class_token_has_no_place():
    # Each token holds its row and column; one in front belongs to no place.
    placed = torch.tensor([[row, col] for row in range(3) for col in range(3)], dtype=torch.float32)[None]
    grid = lay_out_tokens(placed, has_class_token=False)
    assert grid.shape == (1, 2, 3, 3)
    assert grid[0, 0].tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert grid[0, 1].tolist() == [[0.0, 1.0, 2.0]] * 3
    with_class = torch.cat([torch.full((1, 1, 2), 9.0), placed], dim=1)
    assert torch.equal(lay_out_tokens(with_class, has_class_token=True), grid)
    with pytest.raises(ValueError, match=r"10 tokens .* square"):
        lay_out_tokens(with_class, has_class_token=False)


def test_offsets_are_numbered_alike_wherever_they_occur():
    numbers = number_offsets(3)
    places = [divmod(place, 3) for place in range(9)]
    by_offset: dict[tuple[int, int], set[int]] = {}
    for i, (row, col) in enumerate(places):
        for j, (other_row, other_col) in enumerate(places):
            by_offset.setdefault((row - other_row, col - other_col), set()).add(int(numbers[i, j]))
    assert all(len(found) == 1 for found in by_offset.values())
    assert {number for found in by_offset.values() for number in found} == set(range(25))


def test_the_loss_is_the_weighted_cross_entropy_of_what_is_known():
    # Probabilities of 1/4 and 1/2: with weight 2 the cross-entropy is -2 ln 1/4 where changed, and -ln 1/2 where not.
    logits = torch.tensor([1 / 4, 1 / 2]).logit().expand(2, 2, 1, 2)
    truth = torch.tensor([1.0, 0.0]).expand(2, 2, 1, 2)
    expected = (2 * np.log(4) + np.log(2)) / 2
    assert mask_loss(logits, truth).item() == pytest.approx(expected, rel=1e-6)
    # The truth at twice the size: every second pixel counts, the others say the contrary.
    finer = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]).expand(2, 2, 2, 4)
    assert mask_loss(logits, finer).item() == pytest.approx(expected, rel=1e-6)
    # One label of one sample is not known: saying "changed everywhere" about it would cost.
    wrong = truth.clone()
    wrong[1, 1] = 1.0
    known = torch.tensor([[True, True], [True, False]])
    assert mask_loss(logits, wrong, known=known).item() == pytest.approx(expected, rel=1e-6)
    assert mask_loss(logits, wrong).item() > expected
    assert mask_loss(logits, truth, known=torch.zeros(2, 2, dtype=torch.bool)).item() == 0


def test_the_sizes_of_the_decoder_come_back_from_its_folder(tmp_path):
    config = DeltaVlmConfig(mask_config=OURS)
    # Both halves of the difference perception, each as wide as the vision tower.
    assert config.mask_config.feature_size == 2 * config.vision_config.hidden_size
    config.save_pretrained(tmp_path)
    loaded = DeltaVlmConfig.from_pretrained(tmp_path)
    assert isinstance(loaded.mask_config, MaskDecoderConfig)
    assert loaded.mask_config.labels == ("building", "road")
    assert loaded.to_dict() == config.to_dict()
    DeltaVlmConfig().save_pretrained(tmp_path)
    assert DeltaVlmConfig.from_pretrained(tmp_path).mask_config is None
    assert "mask_config" not in json.loads((tmp_path / "config.json").read_text())
    assert DeltaVlmConfig(mask_config={}).mask_config.feature_size == config.vision_config.hidden_size


@pytest.fixture
def mask_model(model) -> DeltaVlmForConditionalGeneration:
    """A small model with a fresh mask branch; its other parts are those of `model`."""
    config = DeltaVlmConfig.from_dict(model.config.to_dict())
    whole = DeltaVlmForConditionalGeneration(config)
    whole.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    add_mask_decoder(whole, OURS)
    return whole.eval()


def make_pairs(n: int, *, size_px: tuple[int, int] = (50, 70)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 2, 3, *size_px), dtype=np.uint8)


def test_masks_have_the_size_of_the_tiles_and_do_not_depend_on_the_batch(mask_model, processor, identity):
    answerer = DeltaVlmAnswerer(mask_model, processor, identity=identity, batch_size_tiles=2)
    pairs = make_pairs(3)
    masks = answerer.predict_masks(pairs)
    assert answerer.mask_labels == masks.labels == ("building", "road")
    assert masks.probabilities.shape == (3, 2, 50, 70)
    assert masks.probabilities.dtype == np.float32
    assert masks.probabilities.min() >= 0
    assert masks.probabilities.max() <= 1
    alone = answerer.predict_masks(pairs[2:])
    np.testing.assert_allclose(masks.probabilities[2:], alone.probabilities, atol=1e-5)
    assert answerer.predict_masks(pairs, size_px=(8, 9)).probabilities.shape == (3, 2, 8, 9)
    assert answerer.predict_masks(pairs[:0]).probabilities.shape == (0, 2, 50, 70)


def test_both_dates_matter_and_the_order_too(mask_model, processor):
    pixels = processor.prepare_pairs(make_pairs(1))
    with torch.inference_mode():
        before, after = mask_model.encode_dates(pixels)
        forward, backward = mask_model.predict_masks(before, after), mask_model.predict_masks(after, before)
        features = mask_model.mask_features(before, after)
        # ^ The two halves of what the language branch reads, as channels.
        halves = mask_model.difference(before, after).chunk(2, dim=1)
    assert not torch.allclose(forward, backward)
    for part, half in zip(features.chunk(2, dim=1), halves, strict=True):
        torch.testing.assert_close(part.flatten(2).transpose(1, 2), half)


def test_the_original_variant_reads_the_plain_difference(model, processor):
    whole = DeltaVlmForConditionalGeneration(DeltaVlmConfig.from_dict(model.config.to_dict()))
    add_mask_decoder(whole, {"hidden_size": 32, "n_stages": 1})
    tokens = torch.randn(2, 144, whole.config.vision_config.hidden_size)
    features = whole.mask_features(torch.zeros_like(tokens), tokens)
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens)
    assert whole.predict_masks(tokens, tokens).shape == (2, 1, 256, 256)


def test_a_saved_mask_branch_comes_back_and_stays_in_float32(mask_model, tmp_path):
    save_weights(mask_model, tmp_path / "whole")
    loaded = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    for name, tensor in mask_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().to(tensor.dtype)), name
    # As a worker loads it, with fused norms.
    coarse = load_weights(str(tmp_path / "whole"), device=torch.device("cpu"), dtype=torch.bfloat16)
    assert coarse.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in coarse.mask_decoder.parameters()} == {torch.float32}
    width = mask_model.config.vision_config.hidden_size
    before, after = torch.randn(2, 1, 144, width).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = coarse.predict_masks(before, after)
    assert found.dtype == torch.float32
    expected = loaded.predict_masks(before.float(), after.float())
    # Only the difference perception's weights differ, by their rounding.
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_attention_comes_back_too(model, tmp_path):
    whole = DeltaVlmForConditionalGeneration(DeltaVlmConfig.from_dict(model.config.to_dict()))
    add_mask_decoder(whole, {"hidden_size": 32, "n_stages": 2, "output_size_px": 48})
    save_weights(whole, tmp_path / "whole")
    loaded = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert torch.equal(loaded.mask_decoder.stages[0].attn.rpi, number_offsets(7))
    assert loaded.mask_decoder.stages[1].attn is None


def test_attention_works_in_a_model_loaded_into_bfloat16(model, tmp_path):
    vision = InstructBlipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    config = DeltaVlmConfig(**{**model.config.to_dict(), "vision_config": vision.to_dict()})
    whole = DeltaVlmForConditionalGeneration(config)
    add_mask_decoder(whole, {"hidden_size": 32, "n_stages": 2, "output_size_px": 48})
    whole.save_pretrained(tmp_path)
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load_weights(str(tmp_path), device=torch.device("cpu"), dtype=dtype).eval()
        pixels = torch.ones(1, 2, 3, 56, 56, dtype=dtype)
        with torch.inference_mode():
            masks.append(loaded.predict_masks(*loaded.encode_dates(pixels)))
    torch.testing.assert_close(masks[1], masks[0], atol=0.05, rtol=0.05)


def test_a_model_without_a_mask_branch_says_so(model, processor, identity):
    answerer = DeltaVlmAnswerer(model, processor, identity=identity, batch_size_tiles=2)
    assert answerer.mask_labels == ()
    with pytest.raises(ValueError, match="no mask branch"):
        answerer.predict_masks(make_pairs(1))
    with pytest.raises(ValueError, match="no mask branch"):
        model.mask_features(*torch.zeros(2, 1, 144, model.config.vision_config.hidden_size))

"""The model's parts against transformers' own classes, published sizes and golden tensors of the original."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import InstructBlipVisionConfig

from model.answering import DeltaVlmAnswerer
from model.configuration import DeltaVlmConfig, DifferenceConfig
from model.interface import Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration, DifferencePerception
from model.vision import stretch_positions

QUESTION = Prompt(name="count", kind=PromptKind.COUNT, text="Please determine how many roads have changed?")


def count_millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_the_full_size_has_the_published_sizes():
    with torch.device("meta"):
        model = DeltaVlmForConditionalGeneration(DeltaVlmConfig())
    sizes = {name: round(count_millions(part), 1) for name, part in model.named_children()}
    assert sizes == {
        "vision_model": 986.0,
        "difference": 13.9,
        "qformer": 185.7,
        "language_projection": 3.1,
        "language_model": 6738.4,
    }


def test_save_and_load_give_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "deltavlm"
    assert loaded.vision_model.post_layernorm.eps == pytest.approx(1e-5)
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_the_order_of_the_dates_matters(model):
    pixels = torch.randn(1, 2, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        forward, backward = model.encode_pairs(pixels), model.encode_pairs(pixels.flip(1))
    # Swapping the dates swaps the two halves but for the sign of the difference, which must leave its mark.
    assert not torch.allclose(forward, torch.cat(backward.chunk(2, dim=1)[::-1], dim=1), atol=1e-4)


def test_each_pair_is_encoded_by_itself(model):
    pixels = torch.randn(3, 2, 3, 192, 192, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together = model.encode_pairs(pixels)
        alone = torch.cat([model.encode_pairs(pair[None]) for pair in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_rows_may_share_a_pair_and_text_after_the_end_is_ignored(model, processor):
    pixels = torch.randn(2, 2, 3, 192, 192, generator=torch.Generator().manual_seed(3))
    text = processor.prepare_prompts(["Please judge whether these two images have changed."] * 3)
    labels = text["input_ids"].clone()
    with torch.inference_mode():
        shared = model(pixels, **text, labels=labels, pair_index=torch.tensor([0, 1, 1]))
        spread = model(pixels[[0, 1, 1]], **text, labels=labels)
    torch.testing.assert_close(shared.logits, spread.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared.loss, spread.loss)
    assert shared.logits.shape[1] == model.config.num_query_tokens + labels.shape[1]


def test_every_part_gets_gradients(model, processor):
    text = processor.prepare_prompts(["Yes"])
    model.zero_grad()
    model(torch.randn(1, 2, 3, 192, 192), **text, labels=text["input_ids"]).loss.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad()
    # The feed-forward part of the Q-Former's last layer that serves text alone: nobody reads its output.
    unread = ("qformer.encoder.layer.3.intermediate.", "qformer.encoder.layer.3.output.")
    assert [name for name in silent if not name.startswith(unread)] == []


def test_the_paper_trains_what_it_says():
    """253.6 million: ViT blocks 37 and 38, the last norm, Q-Former, difference perception, projection, queries."""
    with torch.device("meta"):
        model = DeltaVlmForConditionalGeneration(DeltaVlmConfig())
    layers = model.vision_model.encoder.layers
    assert len(layers) == 39
    parts = [layers[37], layers[38], model.vision_model.post_layernorm, model.qformer, model.difference]
    trained = sum(map(count_millions, parts)) + count_millions(model.language_projection)
    trained += model.query_tokens.numel() / 1e6
    # The original counts two heads of BLIP-2's contrastive training among them, which no answer passes through.
    unused = 2 * (768 * 256 + 256) / 1e6
    # Our towers have a bias for keys, fixed at zero: two blocks of 1,408.
    assert round(trained + unused - 2 * 1408 / 1e6, 1) == 253.6
    key_biases, last_norm = 39 * 1408 / 1e6, count_millions(model.vision_model.post_layernorm)
    assert round(count_millions(model.vision_model) - key_biases - last_norm, 1) == 985.9


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2}),
        ("gpt2", {"n_head": 4}),
        ("mistral", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}),
        ("olmo2", {"num_attention_heads": 4}),
    ],
)
def test_other_language_models_stand_in(model, processor, identity, model_type, sizes, tmp_path):
    """Any causal language model of transformers, by config: it is saved, loaded, trained through and asked."""
    tokenizer = processor.tokenizer
    text_config = {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **sizes,
    }
    config = DeltaVlmConfig(**{**model.config.to_dict(), "text_config": text_config})
    torch.manual_seed(3)
    DeltaVlmForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.language_model.config.model_type == model_type
    text = processor.prepare_prompts(["Yes"])
    assert loaded(torch.randn(1, 2, 3, 192, 192), **text, labels=text["input_ids"]).loss.isfinite()
    answerer = DeltaVlmAnswerer(loaded, processor, identity=identity, batch_size_tiles=2)
    pairs = np.random.default_rng(1).integers(0, 256, (3, 2, 3, 32, 32), dtype=np.uint8)
    together = answerer.answer_prompts(pairs, prompts=[QUESTION])
    answerer.batch_size_tiles = 1
    assert [a.text for a in answerer.answer_prompts(pairs, prompts=[QUESTION])[0]] == [a.text for a in together[0]]


@pytest.mark.parametrize("tower", ["conv", "vit"])
def test_images_of_another_size_get_their_places_interpolated(model, tower):
    config = model.config
    if tower == "vit":
        vision = InstructBlipVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        config = DeltaVlmConfig(**{**config.to_dict(), "vision_config": vision.to_dict()})
    made = model if tower == "conv" else DeltaVlmForConditionalGeneration(config).eval()
    stride, extra = (16, 0) if tower == "conv" else (14, 1)
    with torch.inference_mode():
        before, after = made.encode_dates(torch.randn(2, 2, 3, 4 * stride, 4 * stride))
    assert before.shape == after.shape == (2, 16 + extra, config.vision_config.hidden_size)
    assert before.isfinite().all()


def test_the_usual_size_is_not_interpolated(model):
    pixels = torch.randn(1, 2, 3, 192, 192, generator=torch.Generator().manual_seed(5))
    embedding = model.vision_model.position_embedding
    with torch.inference_mode():
        assert torch.allclose(stretch_positions(embedding, shape=(12, 12)), embedding, atol=1e-6)
        usual = model.vision_model(pixels[:, 0]).last_hidden_state
        stretched = model.vision_model(pixels[:, 0], interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(stretched, usual, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 192, 192), (1, 1, 3, 192, 192), (1, 2, 4, 192, 192)])
def test_pixels_that_are_no_pairs_are_refused(model, shape):
    with pytest.raises(ValueError, match="expected \\(n, date=2"):
        model.encode_pairs(torch.zeros(shape))


def test_no_images_are_refused(model, processor):
    with pytest.raises(ValueError, match="no images"):
        model(**processor.prepare_prompts(["Yes"]))


def test_csrm_gives_the_golden_tensors(shared_data: Path):
    folder = shared_data / "parity" / "dev"
    weights, expected = load_file(folder / "weights.safetensors"), load_file(folder / "expected.safetensors")
    csrm = DifferencePerception(DifferenceConfig(hidden_size=64)).eval()
    csrm.load_state_dict({name: weights[name] for name in csrm.state_dict()})
    with torch.inference_mode():
        related = csrm(expected["main.ln_vision.A"], expected["main.ln_vision.B"])
    golden = torch.cat([expected["main.csrm.image_embedsA"], expected["main.csrm.image_embedsB"]], dim=1)
    assert (related - golden).abs().max() <= 1e-5 * golden.abs().max()


def test_pixels_are_prepared_as_the_original_does(shared_data: Path):
    from PIL import Image

    from model.processing import CLIP_IMAGE_SETTINGS, DeltaVlmProcessor

    folder = shared_data / "parity" / "dev"
    golden = load_file(folder / "preprocess.safetensors")["pixel_values"]
    images = [np.asarray(Image.open(folder / f"preprocess_{i}.png").convert("RGB")) for i in range(3)]
    pairs = np.stack([np.stack([image, image]) for image in images]).transpose(0, 1, 4, 2, 3)
    prepared = DeltaVlmProcessor.prepare_pairs(
        DeltaVlmProcessor(images=CLIP_IMAGE_SETTINGS, tokenizer=None, qformer_tokenizer=None), pairs
    )
    assert torch.equal(prepared[:, 0], golden)
    assert torch.equal(prepared[:, 1], golden)

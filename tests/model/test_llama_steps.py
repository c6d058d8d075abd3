"""Lean steps through a Llama, against those through transformers' own forward pass."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from model.decoding.llama_steps import LlamaSteps, can_take_lean_steps, fuse_projections
from model.decoding.search import start_steps
from model.decoding.steps import Steps

SIZES = {
    "vocab_size": 60,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def build_llama(*, attention: str = "sdpa", seed: int = 0, **changes) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SIZES | changes)).eval()
    model.set_attn_implementation(attention)
    return model


def step_through(steps: Steps | LlamaSteps, prefix: torch.Tensor) -> list[torch.Tensor]:
    """Feed a prefix, two tokens, drop rows and feed a third."""
    n_rows = prefix.shape[0]
    logits = [steps.take_prefix(prefix)]
    logits += [steps.take_tokens(torch.arange(n_rows) + step) for step in (1, 2)]
    kept = torch.arange(n_rows)[:: 2 if n_rows > 1 else 1]
    steps.select(kept)
    return [*logits, steps.take_tokens(kept + 3)]


@pytest.mark.parametrize("is_fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("n_rows", [1, 5, 12])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"num_hidden_layers": 1},
    ],
    ids=["plain", "grouped", "biased", "stretched", "one layer"],
)
@torch.inference_mode()
def test_lean_steps_give_what_transformers_gives(changes, n_rows, is_fused):
    model = build_llama(**changes)
    prefix = torch.randn(n_rows, 9, 48)
    expected = step_through(Steps(model, attention_mask=None), prefix)
    if is_fused:
        fuse_projections(model)
    steps = start_steps(model, attention_mask=None, n_positions=64)
    assert isinstance(steps, LlamaSteps)
    for found, wanted in zip(step_through(steps, prefix), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_lean_steps_round_as_transformers_does_in_bfloat16():
    model = build_llama(attention="sdpa_float32").bfloat16()
    prefix = torch.randn(12, 9, 48).bfloat16()
    expected = step_through(Steps(model, attention_mask=None), prefix)
    fuse_projections(model)
    for found, wanted in zip(step_through(LlamaSteps(model, n_positions=64), prefix), expected, strict=True):
        assert torch.equal(found, wanted)


def test_fused_weights_are_the_layers_own():
    model = build_llama()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fuse_projections(model)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.fused_weight.untyped_storage().data_ptr()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_wide_models_stay_as_they_are():
    model = build_llama(hidden_size=1032, num_hidden_layers=1)
    fuse_projections(model)
    assert not hasattr(model.model.layers[0].self_attn, "fused_weight")


def test_what_lean_steps_do_not_know_goes_the_other_way():
    dynamic = build_llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    mistral = MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4))
    assert not any(can_take_lean_steps(model) for model in (dynamic, mistral, build_llama(attention="eager")))
    assert type(start_steps(mistral, attention_mask=None, n_positions=64)) is Steps
    padded = start_steps(build_llama(), attention_mask=torch.ones(2, 9, dtype=torch.int64), n_positions=64)
    assert type(padded) is Steps

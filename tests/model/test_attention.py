"""Attention in float32 for a language model in bfloat16."""

import copy

import torch

from model.decoding.attention import FLOAT32_ATTENTION
from model.decoding.search import search
from model.decoding.steps import SearchSettings


def test_it_is_closer_to_float32_than_attention_in_bfloat16(model):
    exact = model.language_model
    rounded, upcast = copy.deepcopy(exact).bfloat16(), copy.deepcopy(exact).bfloat16()
    upcast.set_attn_implementation(FLOAT32_ATTENTION)
    prefix = torch.randn(4, 9, exact.config.hidden_size, generator=torch.Generator().manual_seed(6)).bfloat16()
    mask = torch.ones(4, 9, dtype=torch.int64)
    mask[0, 3:5] = 0
    with torch.inference_mode():
        expected = copy.deepcopy(exact)(inputs_embeds=prefix.float(), attention_mask=mask).logits
        errors = [
            (m(inputs_embeds=prefix, attention_mask=mask).logits.float() - expected)[mask.bool()].abs().mean()
            for m in (rounded, upcast)
        ]
        found = search(
            upcast,
            prefix,
            settings=SearchSettings(eos_token_id=2, pad_token_id=0),
            max_new_tokens=4,
            attention_mask=mask,
        )
    assert errors[1] <= errors[0]
    assert errors[1] < 0.1 * expected.abs().mean()
    assert found.token_ids.shape[0] == 4

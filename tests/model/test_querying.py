"""One prompt put to many pairs, against transformers' own Q-Former."""

import pytest
import torch
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

from model.qformer import project_features, query_prompt


def build_qformer(*, n_layers: int, cross_attention_frequency: int) -> InstructBlipQFormerModel:
    torch.manual_seed(0)
    config = InstructBlipQFormerConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=24,
        encoder_hidden_size=20,
        cross_attention_frequency=cross_attention_frequency,
    )
    return InstructBlipQFormerModel(config).eval()


@pytest.mark.parametrize(
    ("n_layers", "frequency"), [(1, 1), (2, 1), (4, 2), (5, 3)], ids=["one", "every", "second", "third"]
)
@pytest.mark.parametrize("n_pairs", [1, 6])
@torch.inference_mode()
def test_one_prompt_to_many_pairs_is_what_transformers_gives(n_layers, frequency, n_pairs):
    qformer = build_qformer(n_layers=n_layers, cross_attention_frequency=frequency)
    queries, features = torch.randn(1, 5, 32), torch.randn(n_pairs, 18, 20)
    ids = torch.arange(3, 14)[None]
    expected = qformer(
        input_ids=ids.expand(n_pairs, -1),
        attention_mask=torch.ones(n_pairs, 5 + 11, dtype=torch.int64),
        query_embeds=queries.expand(n_pairs, -1, -1),
        encoder_hidden_states=features,
    ).last_hidden_state[:, :5]
    keys_values = project_features(qformer, features)
    assert [read is not None for read in keys_values] == [index % frequency == 0 for index in range(n_layers)]
    found = query_prompt(qformer, queries, input_ids=ids, keys_values=keys_values)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_what_was_read_of_the_pairs_serves_every_prompt():
    qformer = build_qformer(n_layers=4, cross_attention_frequency=2)
    queries, features = torch.randn(1, 5, 32), torch.randn(3, 18, 20)
    keys_values = project_features(qformer, features)
    prompts = [torch.tensor([[3, 4, 5]]), torch.tensor([[9, 8, 7, 6]])]
    first, second = (query_prompt(qformer, queries, input_ids=ids, keys_values=keys_values) for ids in prompts)
    assert not torch.allclose(first, second)
    again = query_prompt(qformer, queries, input_ids=prompts[0], keys_values=project_features(qformer, features))
    assert torch.equal(again, first)

"""A fresh small model must know its places before it knows anything else."""

import pytest
import torch

from model.configuration import build_tiny_config
from model.modeling import DeltaVlmForConditionalGeneration
from model.training.initialisation import place_queries
from model.vision import make_position_waves


@pytest.fixture
def fresh() -> DeltaVlmForConditionalGeneration:
    torch.manual_seed(0)
    return DeltaVlmForConditionalGeneration(
        build_tiny_config(vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    ).eval()


def test_each_placed_query_looks_at_its_own_cell(fresh):
    place_queries(fresh)
    # Both dates show the same content everywhere, so that all a query can go by is where a token is.
    tokens = fresh.vision_model.output_position_embedding + torch.randn(1, 1, 192)
    attention = fresh.qformer.encoder.layer[0].crossattention.attention
    with torch.inference_mode():
        features = fresh.difference(tokens, tokens)
        queries = attention.query(fresh.qformer.embeddings.layernorm(fresh.query_tokens))[:, :9]
        heads = [x.unflatten(-1, (6, 32)).transpose(1, 2) for x in (queries, attention.key(features))]
        weights = (heads[0] @ heads[1].transpose(-1, -2) * attention.scaling).softmax(-1).mean(dim=1)[0]  # 9, 2 * 144
    seen = weights.view(9, 2, 3, 4, 3, 4).sum(dim=(1, 3, 5)).view(9, 9)  # query, cell
    assert seen.argmax(dim=1).tolist() == list(range(9))
    assert (seen.diagonal() > 2 / 9).all()


def test_position_waves_tell_places_apart():
    waves = make_position_waves(side=12, width=192)[0]
    likeness = waves @ waves.T / 96
    # Each place is like itself, and less like any other the further away that is, up to a few tokens.
    torch.testing.assert_close(likeness.diagonal(), torch.ones(144))
    middle = likeness[6 * 12 + 6].view(12, 12)
    assert middle[6, 6] > middle[6, 7] > middle[6, 8] > middle[6, 9]
    assert middle[6, 6] > middle[7, 6] > middle[8, 6] > middle[9, 6]


def test_models_without_room_for_places_are_refused(fresh):
    fresh.config.num_query_tokens = 8
    with pytest.raises(ValueError, match="at least 9 queries"):
        place_queries(fresh)

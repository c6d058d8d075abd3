"""The engine on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

from model.pairs.folders import cut_tiles
from model.registry import load_model
from model.training.synthetic_pairs import synthesize_pairs
from pipeline.config.prompts import load_default_prompts

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

PROMPTS = [prompt.to_prompt() for prompt in load_default_prompts()]
LEAST_AGREEMENT = 0.95
"""Share of texts that bfloat16 on a GPU has to have in common with float32 on the CPU."""


@pytest.fixture(scope="module")
def pairs() -> np.ndarray:
    scenes = synthesize_pairs(range(500_000, 500_004), size_px=512, resolution_m=0.5)
    tiles = [tile for scene in scenes for tile in cut_tiles(scene, size_px=128)]
    return np.stack([np.stack([tile.before, tile.after]).transpose(0, 3, 1, 2) for tile in tiles])


def answer(pairs: np.ndarray, **settings) -> list[str]:
    answers = load_model("deltavlm-tiny", **settings).answer_prompts(pairs, prompts=PROMPTS)
    return [each.text for row in answers for each in row]


def test_a_gpu_agrees_with_the_cpu_and_with_itself(pairs):
    settings = {"device": "cuda", "dtype": "auto", "batch_size_tiles": 64}
    texts = answer(pairs, **settings)
    assert answer(pairs, **settings) == texts
    for other in (
        answer(pairs, device="cpu", dtype="float32"),
        answer(pairs, **{**settings, "batch_size_tiles": 7}),
    ):
        agreement = np.mean([one == another for one, another in zip(texts, other, strict=True)])
        assert agreement >= LEAST_AGREEMENT

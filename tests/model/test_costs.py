"""Operations of a tile, against arithmetic done by hand for the paper's size and against a count while answering."""

from __future__ import annotations

from pathlib import Path

import torch
from made_scenes import make_scenes
from torch.utils.flop_counter import FlopCounterMode

from model.configuration import DeltaVlmConfig
from model.costs import ANSWER_TOKENS, count_config_cost, count_tile_cost
from model.loading import load_weights
from model.processing import DeltaVlmProcessor
from model.registry import identify_model
from pipeline.config.run import load_default_prompts
from pipeline.runs.check import check_config


def test_cost_of_the_papers_size_is_what_its_sizes_say() -> None:
    n_text = 24
    ids = {name: torch.zeros(1, n_text, dtype=torch.int64) for name in ("input_ids", "qformer_input_ids")}
    cost = count_config_cost(DeltaVlmConfig(), side_px=224, prompt_ids=[ids, ids])
    # ViT-g/14: 39 blocks of width 1408 with a mixer of 6144 over 257 tokens, and attention's two products.
    block = 2 * 257 * (4 * 1408**2 + 2 * 1408 * 6144) + 4 * 257**2 * 1408
    vision = 2 * (39 * block + 2 * 256 * 3 * 14**2 * 1408)
    # Llama-7B: 32 layers of width 4096 with a mixer of 11008, for queries, prompt and answer.
    layer = 2 * (4 * 4096**2 + 3 * 4096 * 11008)
    language = 32 * layer * (32 + n_text + ANSWER_TOKENS)
    assert vision < cost.encoding_flop < 1.06 * vision
    assert 2 * language < cost.answering_flop < 1.1 * 2 * language


def test_cost_of_shipped_weights_is_what_their_layers_do() -> None:
    identity = identify_model("deltavlm-tiny")
    side = DeltaVlmProcessor.from_pretrained(identity.path).images.image_size
    prompts = [prompt.to_prompt() for prompt in load_default_prompts()]
    model = load_weights(identity.path, device=torch.device("cpu"), dtype=torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model.encode_pairs(torch.zeros(1, 2, 3, side, side))
    cost = count_tile_cost(identity.path, prompts=prompts)
    # Fused for answering, the trunk pads nothing, which spares it a few of its products.
    assert counted.get_total_flops() <= cost.encoding_flop < 1.03 * counted.get_total_flops()
    assert cost.answering_flop > count_tile_cost(identity.path, prompts=prompts[:1]).answering_flop


def test_check_estimates_what_the_model_has_to_compute(tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes")
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"before: {scenes.before}\nafter: {scenes.after}\noutput: {tmp_path / 'run'}\n"
        "grid: {resolution_m: 1, tile_size_px: 48}\nmodel: {name: deltavlm-tiny}\n"
    )
    facts = check_config(str(config))
    prompts = [prompt.to_prompt() for prompt in load_default_prompts()]
    flop = 24 * count_tile_cost(identify_model("deltavlm-tiny").path, prompts=prompts).flop
    assert facts.problems == []
    assert facts.figures["model_tflop_at_most"] == round(flop / 1e12, 3) > 0
    assert facts.figures["cpu_core_hours_at_100_gflop_per_s"] == round(flop / 1e11 / 3600, 4)

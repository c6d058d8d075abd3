"""What a model's answers cost, counted from its config before any weight is loaded.

Floating-point operations are counted by torch's own counter on tensors without content, so that the figure is that of
the layers themselves and not of a formula beside them. Products of matrices and attention count, the rest does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.configuration import DeltaVlmConfig
from model.interface import Prompt
from model.loading import read_config
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor

ANSWER_TOKENS = 20
"""Tokens that an answer is counted with, as in the engine's benchmark."""


@dataclass(frozen=True, kw_only=True)
class TileCost:
    """Floating-point operations for one tile."""

    encoding_flop: int
    """Both dates through the vision tower, and their difference; once per tile."""
    answering_flop: int
    """All prompts together: Q-Former, prompt and answer through the language model."""

    @property
    def flop(self) -> int:
        """All of it."""
        return self.encoding_flop + self.answering_flop


def count_tile_cost(path: str, *, prompts: Sequence[Prompt]) -> TileCost:
    """Count what one tile with its prompts costs.

    Args:
        path: Folder of the model in transformers' layout.
        prompts: The questions.

    Raises:
        InputError: the config is damaged or that of another architecture.
    """
    config = read_config(path)
    processor = DeltaVlmProcessor.from_pretrained(path)
    prompt_ids = [processor.prepare_prompts([prompt.text]) for prompt in prompts]
    return count_config_cost(config, side_px=processor.images.image_size, prompt_ids=prompt_ids)


def count_config_cost(
    config: DeltaVlmConfig, *, side_px: int, prompt_ids: Sequence[Mapping[str, torch.Tensor]]
) -> TileCost:
    """Count what one tile costs a model of this config.

    Args:
        config: The model's sizes.
        side_px: Side of the square that its vision tower sees.
        prompt_ids: Per prompt `input_ids` and `qformer_input_ids`, int64 of shape (1, text).
    """
    with torch.device("meta"):
        model = DeltaVlmForConditionalGeneration(config).eval()
        pair = torch.zeros(1, 2, 3, side_px, side_px)
    with torch.inference_mode(), FlopCounterMode(display=False) as encoding:
        features = model.encode_pairs(pair)
    with torch.inference_mode(), FlopCounterMode(display=False) as answering:
        reading = model.project_features(features)
        for ids in prompt_ids:
            queries = model.query_prompt(reading, qformer_input_ids=ids["qformer_input_ids"].to("meta"))
            prefix = model.prefix_embeddings(queries, input_ids=ids["input_ids"].to("meta"))
            # Each token of the answer goes through all layers once; what it attends to is little beside that.
            for spoken, n_logits in ((prefix, 1), (prefix[:, :1].expand(-1, ANSWER_TOKENS, -1), ANSWER_TOKENS)):
                # A mask of four dimensions is taken as it is; without one transformers would look at values.
                mask = spoken.new_zeros(1, 1, spoken.shape[1], spoken.shape[1])
                model.language_model(
                    inputs_embeds=spoken, attention_mask=mask, use_cache=False, logits_to_keep=n_logits
                )
    return TileCost(encoding_flop=encoding.get_total_flops(), answering_flop=answering.get_total_flops())

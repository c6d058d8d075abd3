"""From a prefix of embeddings to the tokens of an answer."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from model.decoding.beams import score_tokens, search_original_beams, search_stock_beams
from model.decoding.llama_steps import LlamaSteps, can_take_lean_steps
from model.decoding.steps import BeamScoring, FoundTokens, SearchSettings, Steps, adjust_scores


def search(
    language_model: PreTrainedModel,
    prefix: Tensor,
    *,
    settings: SearchSettings,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
) -> FoundTokens:
    """Find an answer to each prefix.

    Args:
        language_model: A causal language model of transformers.
        prefix: Embeddings of queries and prompt, shape (n, queries + text, width).
        settings: How.
        max_new_tokens: Where rows are cut off that do not end by themselves.
        attention_mask: 0 where `prefix` is padding, which may stand anywhere but at the end; int64 of shape (n,
            queries + text); None where nothing is padded.
    """
    if settings.num_beams == 1:
        return search_greedily(
            language_model, prefix, settings=settings, max_new_tokens=max_new_tokens, attention_mask=attention_mask
        )
    mask = attention_mask if attention_mask is not None else torch.ones_like(prefix[..., 0], dtype=torch.int64)
    find = search_stock_beams if settings.beam_scoring is BeamScoring.STOCK else search_original_beams
    token_ids, scores = find(
        language_model, prefix, settings=settings, max_new_tokens=max_new_tokens, attention_mask=mask
    )
    return score_tokens(
        language_model, prefix, token_ids=token_ids, scores=scores, settings=settings, attention_mask=mask
    )


def start_steps(
    language_model: PreTrainedModel, *, attention_mask: Tensor | None, n_positions: int
) -> Steps | LlamaSteps:
    """Choose how steps through a language model are taken: the lean way where it is known and nothing is padded."""
    if attention_mask is None and can_take_lean_steps(language_model):
        return LlamaSteps(language_model, n_positions=n_positions)
    return Steps(language_model, attention_mask=attention_mask)


def search_greedily(
    language_model: PreTrainedModel,
    prefix: Tensor,
    *,
    settings: SearchSettings,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
) -> FoundTokens:
    """Take the best token again and again until every row has ended; arguments as of `search`."""
    n_rows, device = prefix.shape[0], prefix.device
    token_ids = torch.full((n_rows, max_new_tokens), settings.pad_token_id, device=device)
    chances = torch.zeros(n_rows, max_new_tokens, device=device)
    lengths = torch.zeros(n_rows, device=device)
    # 1. The prefix goes in at once; only its last position is worth a look.
    steps = start_steps(language_model, attention_mask=attention_mask, n_positions=prefix.shape[1] + max_new_tokens)
    logits = settings.add_biases(steps.take_prefix(prefix))
    first_probabilities = logits.softmax(dim=-1)
    # 2. Rows still running, by their place in the batch.
    running = torch.arange(n_rows, device=device)
    for step in range(max_new_tokens):
        scores = adjust_scores(logits, settings=settings, token_ids=token_ids[running, :step])
        token = scores.argmax(dim=-1)
        token_ids[running, step] = token
        chances[running, step] = logits.softmax(dim=-1).gather(1, token[:, None]).squeeze(1)
        lengths[running] += 1
        # 3. Rows that have ended leave, and their keys and values with them.
        has_more = token != settings.eos_token_id
        if not has_more.all():
            kept = has_more.nonzero().squeeze(1)
            running, token = running[kept], token[kept]
            steps.select(kept)
        if running.numel() == 0 or step + 1 == max_new_tokens:
            break
        # 4. The token of each remaining row gives the next distribution.
        logits = settings.add_biases(steps.take_tokens(token))
    return FoundTokens(
        token_ids=token_ids.cpu(),
        confidence=(chances.sum(dim=1) / lengths.clamp(min=1)).cpu(),
        first_probabilities=first_probabilities.cpu(),
    )

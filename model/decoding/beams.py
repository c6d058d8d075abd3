"""Beam search: transformers' own, and the original's.

The original generates with transformers 4.33, whose sequences start with one token that the language model never
sees (`SearchSettings.start_token_id`): it counts towards `max_length`, the repetition penalty covers it, and beam
scores are divided by lengths that include it. transformers 5 has no such token when it starts from embeddings, so that
lengths and the moment at which a beam search ends differ; `search_original_beams` follows the original in both.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from model.decoding.steps import FoundTokens, SearchSettings, Steps, adjust_scores


def search_stock_beams(
    language_model: Any,
    prefix: Tensor,
    *,
    settings: SearchSettings,
    max_new_tokens: int,
    attention_mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Let transformers search; give token ids of shape (n, steps) and scores of shape (n,)."""
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=settings.num_beams,
        repetition_penalty=settings.repetition_penalty,
        length_penalty=settings.length_penalty,
        suppress_tokens=list(settings.suppressed_ids) or None,
        sequence_bias={(token,): bias for token, bias in settings.token_biases} or None,
        eos_token_id=settings.eos_token_id,
        pad_token_id=settings.pad_token_id,
        return_dict_in_generate=True,
        output_scores=True,
    )
    with warnings.catch_warnings():
        # That the penalty leaves out the prompt is what it should do.
        warnings.filterwarnings("ignore", "Passing `repetition_penalty` with `inputs_embeds`", UserWarning)
        output = language_model.generate(inputs_embeds=prefix, attention_mask=attention_mask, generation_config=config)
    return output.sequences, output.sequences_scores


def score_tokens(
    language_model: PreTrainedModel,
    prefix: Tensor,
    *,
    token_ids: Tensor,
    scores: Tensor,
    settings: SearchSettings,
    attention_mask: Tensor,
) -> FoundTokens:
    """Look up how likely the language model finds tokens of shape (n, steps) that a beam search chose."""
    steps = Steps(language_model, attention_mask=attention_mask)
    logits = settings.add_biases(steps.take_prefix(prefix))
    first_probabilities = logits.softmax(dim=-1)
    chances = [logits.softmax(dim=-1).gather(1, token_ids[:, :1])]
    for token, following in pairwise(token_ids.T):
        logits = settings.add_biases(steps.take_tokens(token))
        chances.append(logits.softmax(dim=-1).gather(1, following[:, None]))
    # What stands behind the first end token is padding.
    is_end = token_ids == settings.eos_token_id
    is_said = is_end.cumsum(dim=1) - is_end.int() == 0
    confidence = (torch.cat(chances, dim=1) * is_said).sum(dim=1) / is_said.sum(dim=1)
    return FoundTokens(
        token_ids=token_ids.cpu(),
        confidence=confidence.cpu(),
        first_probabilities=first_probabilities.cpu(),
        scores=scores.cpu(),
    )


@dataclass(kw_only=True)
class _Hypotheses:
    """The best finished hypotheses of one row, as transformers 4.33 keeps them."""

    settings: SearchSettings
    finished: list[tuple[float, list[int]]] = field(default_factory=list)
    """Score and tokens, start token included, end token not; best first."""
    is_done: bool = False

    def add(self, tokens: list[int], *, log_probability: float) -> None:
        """Keep a hypothesis if it is among the best; its length counts the start token and not the end."""
        score = log_probability / len(tokens) ** self.settings.length_penalty
        self.finished.append((score, tokens))
        self.finished.sort(key=lambda entry: -entry[0])
        del self.finished[self.settings.num_beams :]

    def close(self, *, best_log_probability: float, length: int) -> None:
        """End the search once no running hypothesis could beat the worst finished one at this length."""
        if len(self.finished) == self.settings.num_beams:
            attainable = best_log_probability / length**self.settings.length_penalty
            self.is_done = self.is_done or self.finished[-1][0] >= attainable


def search_original_beams(
    language_model: PreTrainedModel,
    prefix: Tensor,
    *,
    settings: SearchSettings,
    max_new_tokens: int,
    attention_mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Search as the original does; give token ids of shape (n, steps) and scores of shape (n,)."""
    n_rows, n_beams, device = prefix.shape[0], settings.num_beams, prefix.device
    start = [] if settings.start_token_id is None else [settings.start_token_id]
    # 1. Every row becomes n_beams equal hypotheses, of which only the first counts until they differ.
    steps = Steps(language_model, attention_mask=attention_mask.repeat_interleave(n_beams, dim=0))
    logits = steps.take_prefix(prefix.repeat_interleave(n_beams, dim=0))
    log_probabilities = settings.add_biases(logits).log_softmax(dim=-1)
    sums = torch.full((n_rows, n_beams), -1e9, device=device)
    sums[:, 0] = 0.0
    tokens = torch.empty(n_rows * n_beams, 0, dtype=torch.int64, device=device)
    rows = [_Hypotheses(settings=settings) for _ in range(n_rows)]
    for step in range(max_new_tokens):
        # 2. The best 2 * n_beams continuations of each row: if half of them end it, enough go on.
        adjusted = adjust_scores(log_probabilities, settings=settings, token_ids=tokens)
        candidates = (adjusted.unflatten(0, (n_rows, n_beams)) + sums[..., None]).flatten(1)
        best, flat = candidates.topk(2 * n_beams, dim=1)
        parents, chosen = flat // adjusted.shape[-1], flat % adjusted.shape[-1]
        # 3. An end among the first n_beams finishes a hypothesis; the first n_beams others run on.
        is_end = chosen == settings.eos_token_id
        for row, hypotheses in enumerate(rows):
            if hypotheses.is_done:
                continue
            for rank in is_end[row, :n_beams].nonzero().flatten().tolist():
                parent = tokens[row * n_beams + int(parents[row, rank])]
                hypotheses.add([*start, *parent.tolist()], log_probability=float(best[row, rank]))
            hypotheses.close(best_log_probability=float(best[row, 0]), length=len(start) + step + 1)
        order = is_end.int().argsort(dim=1, stable=True)[:, :n_beams]
        sums, kept, token = best.gather(1, order), parents.gather(1, order), chosen.gather(1, order).flatten()
        kept = (kept + torch.arange(n_rows, device=device)[:, None] * n_beams).flatten()
        tokens = torch.cat([tokens[kept], token[:, None]], dim=1)
        if all(hypotheses.is_done for hypotheses in rows) or step + 1 == max_new_tokens:
            break
        # 4. Their caches follow, and their tokens give the next distributions.
        steps.select(kept)
        log_probabilities = settings.add_biases(steps.take_tokens(token)).log_softmax(dim=-1)
    # 5. What was cut off competes with what has ended.
    for row, hypotheses in enumerate(rows):
        if not hypotheses.is_done:
            for beam in range(n_beams):
                held = [*start, *tokens[row * n_beams + beam].tolist()]
                hypotheses.add(held, log_probability=float(sums[row, beam]))
    return _gather_best(rows, n_start=len(start), max_new_tokens=max_new_tokens, device=device)


def _gather_best(
    rows: list[_Hypotheses], *, n_start: int, max_new_tokens: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Put the best hypothesis of each row into one tensor, its end token behind it where there is room."""
    settings = rows[0].settings
    found = [[*row.finished[0][1][n_start:], settings.eos_token_id][:max_new_tokens] for row in rows]
    token_ids = torch.full((len(rows), max(map(len, found))), settings.pad_token_id, device=device)
    for row, held in enumerate(found):
        token_ids[row, : len(held)] = torch.tensor(held, device=device)
    return token_ids, torch.tensor([row.finished[0][0] for row in rows])

"""From a prefix of embeddings to the tokens of an answer: greedy search, beam search, and the original's beam search.

The original generates with transformers 4.33, whose sequences start with one token that the language model never
sees (`start_token_id` here): it counts towards `max_length`, the repetition penalty covers it, and beam scores are
divided by lengths that include it. transformers 5 has no such token when it starts from embeddings, so that lengths and
the moment at which a beam search ends differ; `BeamScoring.ORIGINAL` follows the original in both.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

GENERATION_FILE = "generation_config.json"
MIN_ROWS_ON_CPU = 8


class BeamScoring(StrEnum):
    """How a beam search compares hypotheses of different lengths, and when it ends."""

    STOCK = "stock"
    """As transformers' own `generate` does today."""
    ORIGINAL = "original"
    """As the original does: lengths count the start token."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How the tokens of an answer are chosen."""

    eos_token_id: int
    """Ends an answer."""
    pad_token_id: int
    """Fills up what is behind the end."""
    max_length: int | None = None
    """Most tokens of a sequence, its start token included; None leaves it to the kind of the prompt."""
    start_token_id: int | None = None
    """Token that every sequence notionally starts with; the language model is never fed it."""
    num_beams: int = 1
    """Hypotheses kept at each step; 1 is greedy search."""
    beam_scoring: BeamScoring = BeamScoring.STOCK
    """Which beam search."""
    repetition_penalty: float = 1.0
    """Scores of tokens that the sequence holds already are divided by it where positive, multiplied where negative
    (Keskar et al., arXiv 1909.05858). The prompt does not count."""
    length_penalty: float = 1.0
    """Exponent of the length that a beam's summed log-probability is divided by."""
    suppressed_ids: tuple[int, ...] = ()
    """Tokens that are never generated."""

    @classmethod
    def from_folder(cls, folder: str | Path, *, eos_token_id: int, pad_token_id: int) -> SearchSettings:
        """Read the settings of a model from its ``generation_config.json``; a model without one searches greedily.

        The fields are transformers': `num_beams`, `repetition_penalty`, `length_penalty`, `max_length`,
        `suppress_tokens`, `decoder_start_token_id` (our `start_token_id`), and `beam_scoring`, which is ours.
        """
        settings = cls(eos_token_id=eos_token_id, pad_token_id=pad_token_id)
        if not (Path(folder) / GENERATION_FILE).is_file():
            return settings
        stored: dict[str, Any] = GenerationConfig.from_pretrained(folder).to_dict()
        given: dict[str, Any] = {
            "max_length": stored.get("max_length"),
            "start_token_id": stored.get("decoder_start_token_id"),
            "num_beams": stored.get("num_beams"),
            "repetition_penalty": stored.get("repetition_penalty"),
            "length_penalty": stored.get("length_penalty"),
            "beam_scoring": BeamScoring(stored["beam_scoring"]) if stored.get("beam_scoring") else None,
            "suppressed_ids": tuple(stored["suppress_tokens"]) if stored.get("suppress_tokens") else None,
        }
        return replace(settings, **{name: value for name, value in given.items() if value is not None})

    def limit_new_tokens(self, usual: int) -> int:
        """Give the most tokens to generate: by `max_length` where there is one, else the usual number."""
        if self.max_length is None:
            return usual
        return self.max_length - (self.start_token_id is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundTokens:
    """What a batch of searches found."""

    token_ids: Tensor
    """int64 of shape (n, steps), the end token included; padded behind it."""
    confidence: Tensor
    """float32 of shape (n,): mean probability of the chosen tokens, the end token included, as the language model
    gives it before any penalty."""
    first_probabilities: Tensor
    """float32 of shape (n, vocabulary): distribution of the first token."""
    scores: Tensor | None = None
    """float32 of shape (n,): what a beam search ranks by, the summed log-probability over the length."""


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
    find = _search_stock_beams if settings.beam_scoring is BeamScoring.STOCK else _search_original_beams
    token_ids, scores = find(
        language_model, prefix, settings=settings, max_new_tokens=max_new_tokens, attention_mask=mask
    )
    return _score_tokens(
        language_model, prefix, token_ids=token_ids, scores=scores, settings=settings, attention_mask=mask
    )


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
    steps = Steps(language_model, attention_mask=attention_mask)
    logits = steps.take_prefix(prefix)
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
        logits = steps.take_tokens(token)
    return FoundTokens(
        token_ids=token_ids.cpu(),
        confidence=(chances.sum(dim=1) / lengths.clamp(min=1)).cpu(),
        first_probabilities=first_probabilities.cpu(),
    )


def adjust_scores(scores: Tensor, *, settings: SearchSettings, token_ids: Tensor) -> Tensor:
    """Apply the repetition penalty and rule out suppressed tokens.

    Args:
        scores: Logits or log-probabilities of shape (n, vocabulary); left as they are.
        settings: Penalty, start token and suppressed tokens.
        token_ids: What each row holds already, int64 of shape (n, steps).
    """
    if settings.repetition_penalty != 1.0:
        if settings.start_token_id is not None:
            start = token_ids.new_full((token_ids.shape[0], 1), settings.start_token_id)
            token_ids = torch.cat([start, token_ids], dim=1)
        held = scores.gather(1, token_ids)
        penalty = settings.repetition_penalty
        scores = scores.scatter(1, token_ids, torch.where(held < 0, held * penalty, held / penalty))
    if settings.suppressed_ids:
        scores = scores.index_fill(1, torch.tensor(settings.suppressed_ids, device=scores.device), -torch.inf)
    return scores


class Steps:
    """A language model with its cache, fed one position after the other.

    A CPU multiplies a few rows with other instructions than many, which rounds otherwise. So that an answer does not
    depend on how many others are still running, rows are never fewer than `MIN_ROWS_ON_CPU` there: copies of the
    last one fill up.
    """

    def __init__(self, language_model: PreTrainedModel, *, attention_mask: Tensor | None) -> None:
        self.language_model = language_model
        self.cache = DynamicCache(config=language_model.config)
        self.mask = attention_mask
        self.min_rows = MIN_ROWS_ON_CPU if language_model.device.type == "cpu" else 1
        self.n_rows = 0

    def take_prefix(self, prefix: Tensor) -> Tensor:
        """Feed the prefix; give float32 logits of shape (n, vocabulary) behind its last position."""
        extra: dict[str, Any] = {}
        if self.mask is not None:
            # Padding may stand between the queries and the prompt: positions count what is no padding.
            extra = {"position_ids": (self.mask.cumsum(dim=-1) - 1).masked_fill(self.mask == 0, 1)}
        self.n_rows = prefix.shape[0]
        logits = self._run(inputs_embeds=prefix, logits_to_keep=-(-self.min_rows // self.n_rows), **extra)
        if self.n_rows < self.min_rows:
            self.select(torch.arange(self.n_rows, device=prefix.device))
        return logits

    def take_tokens(self, token: Tensor) -> Tensor:
        """Feed one token per row, int64 of shape (n,); give logits as `take_prefix`."""
        extra: dict[str, Any] = {}
        if self.mask is not None:
            extra = {"position_ids": self.mask.sum(dim=-1, keepdim=True)}
            self.mask = torch.cat([self.mask, self.mask.new_ones(self.mask.shape[0], 1)], dim=-1)
        return self._run(input_ids=self._fill_up(token)[:, None], logits_to_keep=1, **extra)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; int64 of shape (m,)."""
        self.n_rows = len(rows)
        rows = self._fill_up(rows)
        self.cache.batch_select_indices(rows)
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _fill_up(self, rows: Tensor) -> Tensor:
        n_lacking = self.min_rows - len(rows)
        return torch.cat([rows, rows[-1:].expand(n_lacking)]) if 0 < len(rows) < self.min_rows else rows

    def _run(self, **inputs: Any) -> Tensor:
        output = self.language_model(**inputs, attention_mask=self.mask, past_key_values=self.cache, use_cache=True)
        logits: Tensor = output.logits[: self.n_rows, -1].float()
        return logits


def _search_stock_beams(
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


def _score_tokens(
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
    logits = steps.take_prefix(prefix)
    first_probabilities = logits.softmax(dim=-1)
    chances = [logits.softmax(dim=-1).gather(1, token_ids[:, :1])]
    for token, following in pairwise(token_ids.T):
        logits = steps.take_tokens(token)
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


def _search_original_beams(
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
    log_probabilities = steps.take_prefix(prefix.repeat_interleave(n_beams, dim=0)).log_softmax(dim=-1)
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
        log_probabilities = steps.take_tokens(token).log_softmax(dim=-1)
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

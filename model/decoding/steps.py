"""What every search for an answer is made of: its settings, its steps through the language model, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from model.errors import InputError

GENERATION_FILE = "generation_config.json"
MIN_ROWS_ON_CPU = 8
"""Fewest rows of a decoding step there: fewer are multiplied by other instructions, which round otherwise."""


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
    confidence_temperature: float = 1.0
    """What the log-odds of a yes or no are divided by to give its confidence (Guo et al., arXiv 1706.04599)."""
    yes_bias: float = 0.0
    """Added to the log-odds of yes before a yes-or-no prompt is answered: with the temperature, Platt's scaling (1999).
    The answerer makes `token_biases` of it for prompts of that kind."""
    token_biases: tuple[tuple[int, float], ...] = ()
    """Tokens whose logits are raised by so much, at every step."""

    @classmethod
    def from_folder(cls, folder: str | Path, *, eos_token_id: int, pad_token_id: int) -> SearchSettings:
        """Read the settings of a model from its ``generation_config.json``; a model without one searches greedily.

        The fields are transformers': `num_beams`, `repetition_penalty`, `length_penalty`, `max_length`,
        `suppress_tokens`, `decoder_start_token_id` (our `start_token_id`), and `beam_scoring`,
        `confidence_temperature` and `yes_bias`, which are ours.
        """
        settings = cls(eos_token_id=eos_token_id, pad_token_id=pad_token_id)
        if not (Path(folder) / GENERATION_FILE).is_file():
            return settings
        try:
            stored: dict[str, Any] = GenerationConfig.from_pretrained(folder, local_files_only=True).to_dict()
            scoring = BeamScoring(stored["beam_scoring"]) if stored.get("beam_scoring") else None
        except (OSError, ValueError, TypeError, AttributeError) as problem:
            raise InputError(
                f"{GENERATION_FILE} in {folder} cannot be read ({str(problem)[:200]})",
                expected="transformers' settings",
                remedy="correct or remove the file",
            ) from None
        given: dict[str, Any] = {
            "max_length": stored.get("max_length"),
            "start_token_id": stored.get("decoder_start_token_id"),
            "num_beams": stored.get("num_beams"),
            "repetition_penalty": stored.get("repetition_penalty"),
            "length_penalty": stored.get("length_penalty"),
            "confidence_temperature": stored.get("confidence_temperature"),
            "yes_bias": stored.get("yes_bias"),
            "beam_scoring": scoring,
            "suppressed_ids": tuple(stored["suppress_tokens"]) if stored.get("suppress_tokens") else None,
        }
        return replace(settings, **{name: value for name, value in given.items() if value is not None})

    def calibrate(self, probability: Tensor) -> Tensor:
        """Turn the model's probability of the chosen word, of two, into a confidence; any shape."""
        if self.confidence_temperature == 1:
            return probability
        return torch.sigmoid(torch.logit(probability.clamp(1e-7, 1 - 1e-7)) / self.confidence_temperature)

    def add_biases(self, logits: Tensor) -> Tensor:
        """Raise the logits of tokens that have a bias; of shape (n, vocabulary)."""
        if not self.token_biases:
            return logits
        biases = logits.new_zeros(logits.shape[-1])
        for token, bias in self.token_biases:
            biases[token] = bias
        return logits + biases

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


def choose_min_rows(device: torch.device) -> int:
    """Give the fewest rows that a decoding step is taken with."""
    return MIN_ROWS_ON_CPU if device.type == "cpu" else 1


def fill_rows_up(rows: Tensor, *, n_rows: int) -> Tensor:
    """Repeat the last of some rows until there are enough of them; none stay none."""
    n_lacking = n_rows - len(rows)
    if n_lacking <= 0 or len(rows) == 0:
        return rows
    return torch.cat([rows, rows[-1:].expand(n_lacking, *rows.shape[1:])])


class Steps:
    """A language model with its cache, fed one position after the other.

    So that on a CPU an answer does not depend on how many others are still running, rows are never fewer than
    `MIN_ROWS_ON_CPU` there: copies of the last one fill up.
    """

    def __init__(self, language_model: PreTrainedModel, *, attention_mask: Tensor | None) -> None:
        self.language_model = language_model
        self.cache = DynamicCache(config=language_model.config)
        self.mask = attention_mask
        self.min_rows = choose_min_rows(language_model.device)
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
        return self._run(input_ids=fill_rows_up(token, n_rows=self.min_rows)[:, None], logits_to_keep=1, **extra)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; int64 of shape (m,)."""
        self.n_rows = len(rows)
        rows = fill_rows_up(rows, n_rows=self.min_rows)
        self.cache.batch_select_indices(rows)
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _run(self, **inputs: Any) -> Tensor:
        output = self.language_model(**inputs, attention_mask=self.mask, past_key_values=self.cache, use_cache=True)
        logits: Tensor = output.logits[: self.n_rows, -1].float()
        return logits

"""The batched engine that a worker holds: encode each pair once, then ask every prompt of the whole batch.

All rows of a batch carry the same prompt, so they have the same length and nothing is padded. Answers are greedy; a row
that has ended leaves the batch, so that long answers do not keep short ones waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.utils import logging as transformers_logging

from model.interface import Answer, ModelIdentity, Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor

MAX_NEW_TOKENS = {
    PromptKind.DESCRIBE: 48,
    PromptKind.CLASSIFY: 8,
    PromptKind.COUNT: 32,
    # Nine cells of two kinds take 58 tokens of the small vocabulary; others may cut the names of cells into pieces.
    PromptKind.LOCATE: 192,
    PromptKind.ASK: 64,
    PromptKind.DIALOGUE: 64,
}
"""Longest answer per kind of prompt, in tokens."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, eq=False)
class GreedyTokens:
    """What a batch of greedy searches found."""

    token_ids: Tensor
    """int64 of shape (n, steps), the end token included; padded behind it."""
    confidence: Tensor
    """float32 of shape (n,): mean probability of the chosen tokens, the end token included."""
    first_probabilities: Tensor
    """float32 of shape (n, vocabulary): distribution of the first token."""


class DeltaVlmAnswerer:
    """A `ChangeModel` around `DeltaVlmForConditionalGeneration`."""

    def __init__(
        self,
        model: DeltaVlmForConditionalGeneration,
        processor: DeltaVlmProcessor,
        *,
        identity: ModelIdentity,
        batch_size_tiles: int,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.identity = identity
        self.batch_size_tiles = batch_size_tiles
        yes_ids, no_ids = self._first_ids("Yes", "yes", " Yes"), self._first_ids("No", "no", " No")
        # A vocabulary may begin both words with one token, such as a space: it decides nothing.
        self._yes_ids = torch.tensor(sorted(yes_ids - no_ids))
        self._no_ids = torch.tensor(sorted(no_ids - yes_ids))

    @classmethod
    def from_folder(
        cls, identity: ModelIdentity, *, device: str, dtype: str, batch_size_tiles: int
    ) -> DeltaVlmAnswerer:
        """Load model and processor from the folder of a model.

        Args:
            identity: Which model, and where.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            dtype: ``auto``, ``float32`` or ``bfloat16``.
            batch_size_tiles: Most pairs that go through the model at once.

        Raises:
            ValueError: another dtype.
        """
        # A progress bar per worker would write over the one of the run.
        transformers_logging.disable_progress_bar()
        target = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        if dtype == "auto":
            dtype = "bfloat16" if target.type == "cuda" else "float32"
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r}; expected auto, {' or '.join(DTYPES)}")
        model = DeltaVlmForConditionalGeneration.from_pretrained(
            identity.path, dtype=DTYPES[dtype], use_safetensors=True
        )
        return cls(
            model.to(target),  # type: ignore[arg-type]  # transformers wraps `to` without its self
            DeltaVlmProcessor.from_pretrained(identity.path),
            identity=identity,
            batch_size_tiles=batch_size_tiles,
        )

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Answer every prompt for every pair, as `ChangeModel.answer_prompts` says.

        Raises:
            ValueError: the pairs are not uint8 of shape (n, date=2, band=3, y, x).
        """
        answers: list[list[Answer]] = [[] for _ in prompts]
        for start in range(0, len(pairs), self.batch_size_tiles):
            features = self.encode_pairs(pairs[start : start + self.batch_size_tiles])
            for answered, prompt in zip(answers, prompts, strict=True):
                answered += self.ask(features, prompt=prompt)
        return answers

    @torch.inference_mode()
    def encode_pairs(self, pairs: npt.NDArray[np.uint8]) -> Tensor:
        """Give the difference features of shape (n, 2 * tokens, width) that every prompt shares."""
        pixels = self.processor.prepare_pairs(pairs)
        features: Tensor = self.model.encode_pairs(pixels.to(self.model.device, self.model.dtype))
        return features

    @torch.inference_mode()
    def ask(self, difference_features: Tensor, *, prompt: Prompt) -> list[Answer]:
        """Put one prompt to every row of difference features."""
        n_rows = difference_features.shape[0]
        text = {name: ids.to(self.model.device) for name, ids in self.processor.prepare_prompts([prompt.text]).items()}
        query_output = self.model.query_differences(
            difference_features,
            qformer_input_ids=text["qformer_input_ids"].expand(n_rows, -1),
            qformer_attention_mask=text["qformer_attention_mask"].expand(n_rows, -1),
        )
        prefix = self.model.prefix_embeddings(query_output, input_ids=text["input_ids"].expand(n_rows, -1))
        found = self.search_greedily(prefix, max_new_tokens=MAX_NEW_TOKENS[prompt.kind])
        confidence = found.confidence
        if prompt.kind is PromptKind.CLASSIFY:
            confidence = self._choice_confidence(found)
        texts = self.processor.decode_answers(found.token_ids)
        return [Answer(text=text, confidence=value) for text, value in zip(texts, confidence.tolist(), strict=True)]

    def search_greedily(self, prefix: Tensor, *, max_new_tokens: int) -> GreedyTokens:
        """Take the likeliest token again and again until every row has ended.

        Args:
            prefix: Embeddings of queries and prompt, shape (n, queries + text, text width).
            max_new_tokens: Where rows are cut off that do not end by themselves.
        """
        language_model, tokenizer = self.model.language_model, self.processor.tokenizer
        n_rows, device = prefix.shape[0], prefix.device
        token_ids = torch.full((n_rows, max_new_tokens), int(tokenizer.pad_token_id), device=device)
        chances = torch.zeros(n_rows, max_new_tokens, device=device)
        lengths = torch.zeros(n_rows, device=device)
        # 1. The prefix goes in at once; only its last position is worth a look.
        cache = DynamicCache(config=language_model.config)
        output = language_model(inputs_embeds=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
        probabilities = output.logits[:, -1].float().softmax(dim=-1)
        first_probabilities = probabilities
        # 2. Rows still running, by their place in the batch.
        running = torch.arange(n_rows, device=device)
        for step in range(max_new_tokens):
            chance, token = probabilities.max(dim=-1)
            token_ids[running, step], chances[running, step] = token, chance
            lengths[running] += 1
            # 3. Rows that have ended leave, and their keys and values with them.
            has_more = token != int(tokenizer.eos_token_id)
            if not has_more.all():
                kept = has_more.nonzero().squeeze(1)
                running, token = running[kept], token[kept]
                cache.batch_select_indices(kept)
            if running.numel() == 0 or step + 1 == max_new_tokens:
                break
            # 4. The token of each remaining row gives the next distribution.
            output = language_model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
            probabilities = output.logits[:, -1].float().softmax(dim=-1)
        return GreedyTokens(
            token_ids=token_ids.cpu(),
            confidence=(chances.sum(dim=1) / lengths.clamp(min=1)).cpu(),
            first_probabilities=first_probabilities.cpu(),
        )

    def _choice_confidence(self, found: GreedyTokens) -> Tensor:
        """Renormalise the first token over yes and no; an answer that is neither keeps its mean probability."""
        yes = found.first_probabilities[:, self._yes_ids].sum(dim=1)
        no = found.first_probabilities[:, self._no_ids].sum(dim=1)
        first = found.token_ids[:, :1]
        is_yes = torch.isin(first, self._yes_ids).squeeze(1)
        is_no = torch.isin(first, self._no_ids).squeeze(1)
        chosen = torch.where(is_yes, yes, no)
        return torch.where(is_yes | is_no, chosen / (yes + no).clamp(min=1e-12), found.confidence)

    def _first_ids(self, *words: str) -> set[int]:
        return {self.processor.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words}

"""Puts instruction samples into the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.interface import PromptKind
from model.pairs.details import load_details
from model.pairs.facts import TargetText
from model.processing import IGNORED_LABEL, DeltaVlmProcessor, clean_text, format_prompt, pad_targets
from model.training.dataset import InstructionSample
from model.training.heads import encode_facts

KINDS = tuple(PromptKind)
"""Kinds of prompts by their number in a batch."""


class InstructionCollator:
    """Puts samples into the tensors that the model's `forward` takes."""

    def __init__(
        self,
        processor: DeltaVlmProcessor,
        *,
        has_clean_answers: bool = False,
        max_prompt_tokens: int = 128,
        max_answer_tokens: int = 256,
    ) -> None:
        """Set up.

        Args:
            processor: Tokenises prompts and answers in its prompt form.
            has_clean_answers: Whether answers are cleaned as the original's training does.
            max_prompt_tokens: Most tokens of a prompt; what is too long loses its beginning but for the start token.
            max_answer_tokens: Most tokens of an answer, its end token included; what is too long loses its end.
        """
        self.processor = processor
        self.has_clean_answers = has_clean_answers
        self.max_prompt_tokens = max_prompt_tokens
        self.max_answer_tokens = max_answer_tokens

    def __call__(self, samples: Sequence[InstructionSample]) -> dict[str, Tensor]:
        """Collate; rows of text, [prompt | answer | padding], point to their pair by `pair_index`."""
        rows = [(index, *turn) for index, sample in enumerate(samples) for turn in sample.turns]
        encoded = [self._encode(prompt, answer) for _, prompt, answer in rows]
        read = self.processor.prepare_prompts([prompt for _, prompt, _ in rows])
        targets, known = encode_facts([sample.facts for sample in samples])
        details = [sample.details for sample in samples]
        unknown = (0.0,) * len(load_details())
        kinds = [KINDS.index(kind) for sample in samples for kind in sample.kinds]
        return {
            "pixel_values": self.processor.prepare_pairs(np.stack([sample.pair for sample in samples])),
            **pad_targets(encoded, pad_token_id=int(self.processor.tokenizer.pad_token_id)),
            "qformer_input_ids": read["qformer_input_ids"],
            "qformer_attention_mask": read["qformer_attention_mask"],
            "pair_index": torch.tensor([index for index, _, _ in rows]),
            "fact_targets": targets,
            "fact_known": known,
            "detail_targets": torch.tensor([unknown if shares is None else shares for shares in details]),
            "detail_known": torch.tensor([shares is not None for shares in details]),
            **({"answer_kinds": torch.tensor(kinds)} if len(kinds) == len(rows) else {}),
        }

    def _encode(self, prompt: str, answer: TargetText) -> tuple[list[int], list[int]]:
        tokenizer = self.processor.tokenizer
        prompt_ids: list[int] = tokenizer(format_prompt(prompt, form=self.processor.prompt_form))["input_ids"]
        if len(prompt_ids) > self.max_prompt_tokens:
            n_kept = int(prompt_ids[0] == tokenizer.bos_token_id)
            prompt_ids = prompt_ids[:n_kept] + prompt_ids[n_kept - self.max_prompt_tokens :]
        ids, targets = self._encode_answer(answer)
        end_id = int(tokenizer.eos_token_id)
        # An answer that was cut off must not learn to end there.
        ids, targets = [*ids, end_id][: self.max_answer_tokens], [*targets, end_id][: self.max_answer_tokens]
        return [*prompt_ids, *ids], [IGNORED_LABEL] * len(prompt_ids) + targets

    def _encode_answer(self, answer: TargetText) -> tuple[list[int], list[int]]:
        tokenizer = self.processor.tokenizer
        if self.has_clean_answers:
            cleaned: list[int] = tokenizer(clean_text(answer.text, max_words=None), add_special_tokens=False)[
                "input_ids"
            ]
            # ^ Spans count the characters of the text as it was: what is cleaned comes from people, and is known.
            return cleaned, cleaned
        encoded: Mapping[str, Any] = tokenizer(answer.text, add_special_tokens=False, return_offsets_mapping=True)
        targets = [
            IGNORED_LABEL if any(begin < stop and start < end for start, stop in answer.unknown_spans) else token
            for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        return encoded["input_ids"], targets

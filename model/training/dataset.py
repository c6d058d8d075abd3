"""Samples for training: a lit and cropped pair, the prompts asked about it and the answers to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from model.interface import Prompt, PromptKind
from model.processing import IGNORED_LABEL, DeltaVlmProcessor, pad_targets, resize_image
from model.training.heads import encode_facts
from model.training.instructions import ChangeFacts, TargetText, phrase_answer
from model.training.pairs import Augmentation, LabelledPair, draw_sample


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Pairs that belong together, how large a crop of them is, and how often they are drawn."""

    pairs: Sequence[LabelledPair]
    crop_size_px: int
    """Side of a crop in pixels of the source: the ground that one tile shows."""
    weight: float
    """Relative frequency."""
    scale_range: tuple[float, float] = (1.0, 1.0)
    """Factors that the crop's side varies by, clipped to the pair's size."""


def draw_samples(
    sources: Sequence[PairSource], *, augmentation: Augmentation, random: np.random.Generator
) -> Iterator[LabelledPair]:
    """Draw crops of all sources under changing lights, without end."""
    weights = np.array([source.weight for source in sources])
    while True:
        source = sources[int(random.choice(len(sources), p=weights / weights.sum()))]
        pair = source.pairs[int(random.integers(len(source.pairs)))]
        size_px = min(round(source.crop_size_px * random.uniform(*source.scale_range)), *pair.mask.shape)
        yield draw_sample(pair, size_px=size_px, augmentation=augmentation, random=random)


def stack_dates(pair: LabelledPair, *, side_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Resize both dates to the model's input size: uint8 of shape (date=2, band=3, y, x)."""
    images = [resize_image(image, side_px=side_px) for image in (pair.before, pair.after)]
    return np.stack(images).transpose(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class InstructionSample:
    """One pair with some of the prompts that can be answered about it."""

    pair: np.ndarray[Any, np.dtype[np.uint8]]
    """uint8 of shape (date=2, band=3, y, x) at the model's input size."""
    facts: ChangeFacts
    turns: tuple[tuple[str, TargetText], ...]
    """Prompt and answer of each row."""


class InstructionStream(IterableDataset[InstructionSample]):
    """An endless, seeded stream of samples."""

    def __init__(
        self,
        sources: Sequence[PairSource],
        *,
        prompts: Sequence[Prompt],
        image_size: int,
        prompts_per_pair: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.sources = sources
        self.prompts = {prompt.kind: prompt.text for prompt in prompts}
        self.image_size = image_size
        self.prompts_per_pair = prompts_per_pair
        self.augmentation = augmentation
        self.seed = seed

    def __iter__(self) -> Iterator[InstructionSample]:
        """Start the stream anew."""
        random = np.random.default_rng(self.seed)
        for drawn in draw_samples(self.sources, augmentation=self.augmentation, random=random):
            yield self.ask(drawn, random=random)

    def ask(self, drawn: LabelledPair, *, random: np.random.Generator) -> InstructionSample:
        """Choose prompts for a drawn pair and phrase their answers."""
        facts = drawn.facts
        kinds = list(random.permutation(np.array(list(self.prompts), dtype=object))[: self.prompts_per_pair])
        if drawn.captions and PromptKind.DESCRIBE not in kinds:
            kinds[0] = PromptKind.DESCRIBE
        turns = []
        for kind in kinds:
            answer = phrase_answer(kind, facts, random=random)
            if kind is PromptKind.DESCRIBE and drawn.captions:
                answer = TargetText(text=str(random.choice(np.array(drawn.captions))))
            turns.append((self.prompts[kind], answer))
        return InstructionSample(pair=stack_dates(drawn, side_px=self.image_size), facts=facts, turns=tuple(turns))


class InstructionCollator:
    """Puts samples into the tensors that the model's `forward` takes."""

    def __init__(self, processor: DeltaVlmProcessor) -> None:
        self.processor = processor

    def __call__(self, samples: Sequence[InstructionSample]) -> dict[str, Tensor]:
        """Collate; rows of text, [prompt | answer | padding], point to their pair by `pair_index`."""
        rows = [(index, *turn) for index, sample in enumerate(samples) for turn in sample.turns]
        encoded = [self._encode(prompt, answer) for _, prompt, answer in rows]
        read = self.processor.prepare_prompts([prompt for _, prompt, _ in rows])
        targets, known = encode_facts([sample.facts for sample in samples])
        return {
            "pixel_values": self.processor.prepare_pairs(np.stack([sample.pair for sample in samples])),
            **pad_targets(encoded, pad_token_id=int(self.processor.tokenizer.pad_token_id)),
            "qformer_input_ids": read["qformer_input_ids"],
            "qformer_attention_mask": read["qformer_attention_mask"],
            "pair_index": torch.tensor([index for index, _, _ in rows]),
            "fact_targets": targets,
            "fact_known": known,
        }

    def _encode(self, prompt: str, answer: TargetText) -> tuple[list[int], list[int]]:
        tokenizer = self.processor.tokenizer
        prompt_ids: list[int] = tokenizer(prompt)["input_ids"]
        encoded: Mapping[str, Any] = tokenizer(answer.text, add_special_tokens=False, return_offsets_mapping=True)
        targets = [
            IGNORED_LABEL if any(begin < stop and start < end for start, stop in answer.unknown_spans) else token
            for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        end_id = int(tokenizer.eos_token_id)
        return (
            [*prompt_ids, *encoded["input_ids"], end_id],
            [IGNORED_LABEL] * len(prompt_ids) + [*targets, end_id],
        )

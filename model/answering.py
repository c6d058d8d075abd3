"""The batched engine that a worker holds: encode each pair once, then ask every prompt of the whole batch.

All rows of a batch carry the same prompt, so they have the same length and nothing is padded. A row that has ended
leaves the batch, so that long answers do not keep short ones waiting. A batch that does not fit into memory is halved
and asked again.

On a CPU a greedy answer should not depend on the batch that its tile is in: every step is taken so that a row is
rounded alike beside few others and beside many (`PAIRS_ENCODED_AT_ONCE_ON_CPU`, `MIN_ROWS_ON_CPU`, the contiguous
slices of `modeling`); docs/fidelity.md tells where that was seen to hold to the last bit. On a GPU a close decision may
fall the other way in another batch size.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from model.configuration import MaskDecoderConfig
from model.decoding.search import search
from model.decoding.steps import SearchSettings
from model.decoding.yes_or_no import YesOrNo
from model.errors import InputError
from model.familiarity import Familiarity, Floats, describe_images
from model.inspection import INT8
from model.interface import (
    NOT_ASKED,
    Answer,
    ChangeMasks,
    ChooseAsked,
    ChooseMasked,
    MaskedAnswers,
    ModelIdentity,
    Prompt,
    PromptKind,
)
from model.loading import choose_device, choose_dtype, load_weights, read_config
from model.mask_prediction import count_layers, decode_masks, name_masks, predict_change_masks
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor
from model.qformer import PairReading, take_pairs
from model.questions.known import KnownQuestions

logger = logging.getLogger(__name__)

Sliced = TypeVar("Sliced", Tensor, npt.NDArray[np.uint8])

MAX_NEW_TOKENS = {
    PromptKind.DESCRIBE: 48,
    PromptKind.CLASSIFY: 8,
    PromptKind.COUNT: 32,
    # Nine cells of two kinds take 58 tokens of the small vocabulary; others may cut the names of cells into pieces.
    PromptKind.LOCATE: 192,
    PromptKind.ASK: 64,
    PromptKind.DIALOGUE: 64,
}
"""Longest answer per kind of prompt, in tokens, for models whose `generation_config.json` sets no `max_length`."""

PAIRS_ENCODED_AT_ONCE_ON_CPU = 4
"""On a CPU larger batches push each other's activations out of the cache and gain nothing; and in float32 a convolution
rounds otherwise from eight pairs on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _AnsweredBatch:
    """What one batch gave."""

    answers: list[list[Answer]]
    pair_indexes: npt.NDArray[np.int64]
    """Pairs of the batch with masks."""
    decoded: npt.NDArray[np.float32]
    """Their masks, as `decode_masks` gives them."""


class DeltaVlmAnswerer:
    """A `ChangeModel` around `DeltaVlmForConditionalGeneration`."""

    def __init__(
        self,
        model: DeltaVlmForConditionalGeneration,
        processor: DeltaVlmProcessor,
        *,
        identity: ModelIdentity,
        batch_size_tiles: int,
        settings: SearchSettings | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        tokenizer = processor.tokenizer
        self.model = model.eval()
        self.processor = processor
        self.identity = identity
        self.batch_size_tiles = batch_size_tiles
        self.familiarity = familiarity
        self.settings = settings or SearchSettings(
            eos_token_id=int(tokenizer.eos_token_id), pad_token_id=int(tokenizer.pad_token_id)
        )
        self._notes: Counter[str] = Counter()
        self._choice = YesOrNo.from_tokenizer(tokenizer)
        self._classify_settings = self._choice.lean(self.settings)

    @classmethod
    def from_folder(
        cls, identity: ModelIdentity, *, device: str, dtype: str, batch_size_tiles: int
    ) -> DeltaVlmAnswerer:
        """Load model and processor from the folder of a model and warm them up.

        Args:
            identity: Which model, and where.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
            batch_size_tiles: Most pairs that go through the model at once.

        Raises:
            InputError: another dtype or device, or weights that do not fit the config.
        """
        # A progress bar per worker would write over the one of the run.
        transformers_logging.disable_progress_bar()
        target = choose_device(device)
        # What is wrong with the model itself should be told before what lies beside it.
        config = read_config(identity.path)
        familiarity = Familiarity.from_folder(identity.path, width=config.vision_config.hidden_size)
        processor = DeltaVlmProcessor.from_pretrained(identity.path)
        tokenizer = processor.tokenizer
        answerer = cls(
            load_weights(identity.path, device=target, dtype=choose_dtype(dtype, device=target), is_int8=dtype == INT8),
            processor,
            identity=identity,
            batch_size_tiles=batch_size_tiles,
            settings=SearchSettings.from_folder(
                identity.path, eos_token_id=int(tokenizer.eos_token_id), pad_token_id=int(tokenizer.pad_token_id)
            ),
            familiarity=familiarity,
        )
        answerer.warm_up()
        return answerer

    def warm_up(self) -> None:
        """Answer once about nothing, so that kernels are loaded and memory is there before the first tile."""
        side = self.processor.images.image_size
        prompt = Prompt(name="warm_up", kind=PromptKind.CLASSIFY, text="Have these two images changed?")
        self.answer_prompts(np.zeros((1, 2, 3, side, side), np.uint8), prompts=[prompt])

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt in tokens that leaves room for the queries and an answer."""
        config = self.model.config
        answer = self.settings.limit_new_tokens(MAX_NEW_TOKENS[PromptKind.DIALOGUE])
        return int(config.text_config.max_position_embeddings) - int(config.num_query_tokens) - answer

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a prompt."""
        return int(self.processor.prepare_prompts([text])["input_ids"].shape[1])

    @property
    def has_open_questions(self) -> bool:
        """Whether free questions go to the language model as they are."""
        return bool(self.model.config.has_open_questions)

    def take_notes(self) -> dict[str, int]:
        """Say what happened since the last call that people should know of, and how often."""
        notes, self._notes = dict(self._notes), Counter()
        return notes

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Answer every prompt for every pair, as `ChangeModel.answer_prompts` says.

        Raises:
            ValueError: the pairs are not uint8 of shape (n, date=2, band=3, y, x), or a prompt is empty or longer
                than the context.
        """
        return self._answer_all(pairs, prompts=prompts, choose_masked=None).answers

    def answer_with_masks(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: ChooseMasked
    ) -> MaskedAnswers:
        """Answer, and outline some pairs by what was encoded for that, as `MaskModel.answer_with_masks` says.

        Raises:
            InputError: as `answer_prompts` and `predict_masks`.
        """
        self.model.get_mask_decoder()
        return self._answer_all(pairs, prompts=prompts, choose_masked=choose_masked)

    def answer_screened(
        self,
        pairs: npt.NDArray[np.uint8],
        *,
        prompts: Sequence[Prompt],
        choose_asked: ChooseAsked,
        choose_masked: ChooseMasked | None,
    ) -> MaskedAnswers:
        """Answer, further prompts only for some pairs, as `ScreeningModel.answer_screened` says.

        Raises:
            InputError: as `answer_prompts` and `predict_masks`.
        """
        if choose_masked is not None:
            self.model.get_mask_decoder()
        return self._answer_all(pairs, prompts=prompts, choose_masked=choose_masked, choose_asked=choose_asked)

    def _answer_all(
        self,
        pairs: npt.NDArray[np.uint8],
        *,
        prompts: Sequence[Prompt],
        choose_masked: ChooseMasked | None,
        choose_asked: ChooseAsked | None = None,
    ) -> MaskedAnswers:
        answers: list[list[Answer]] = [[] for _ in prompts]
        indexes = [np.empty(0, np.int64)]
        decoded = [np.empty((0, count_layers(self.model), *pairs.shape[-2:]), np.float32)]
        start = 0
        while start < len(pairs):
            batch = pairs[start : start + self.batch_size_tiles]
            answered = self._try_batch(
                batch, start=start, prompts=prompts, choose_masked=choose_masked, choose_asked=choose_asked
            )
            if answered is None:
                self._halve_batches(len(batch))
                continue
            for all_of_prompt, some in zip(answers, answered.answers, strict=True):
                all_of_prompt += some
            indexes.append(start + answered.pair_indexes)
            decoded.append(answered.decoded)
            start += len(batch)
        return MaskedAnswers(
            answers=answers,
            pair_indexes=np.concatenate(indexes),
            masks=name_masks(self._mask_config, np.concatenate(decoded)),
        )

    def _try_batch(
        self,
        pairs: npt.NDArray[np.uint8],
        *,
        start: int,
        prompts: Sequence[Prompt],
        choose_masked: ChooseMasked | None,
        choose_asked: ChooseAsked | None,
    ) -> _AnsweredBatch | None:
        """Answer one batch; None if it does not fit into memory and could be smaller."""
        try:
            dates = self.encode_dates(pairs)
            read = self.read_pairs(self.relate_dates(*dates)) if prompts else []
            answers = self._ask_in_turn(read, n_pairs=len(pairs), prompts=prompts, choose_asked=choose_asked)
            numbers = range(start, start + len(pairs))
            chosen = np.flatnonzero(choose_masked(numbers, answers) if choose_masked else [])
            before, after = (tokens[torch.from_numpy(chosen).to(tokens.device)] for tokens in dates)
            parts = [
                decode_masks(self.model, *some, size_px=(pairs.shape[-2], pairs.shape[-1]))
                for some in zip(self._split(before), self._split(after), strict=True)
            ]
            return _AnsweredBatch(
                answers=self._tell_familiarity(answers, pairs=pairs, dates=dates),
                pair_indexes=chosen,
                decoded=np.concatenate(parts),
            )
        except (RuntimeError, MemoryError) as problem:
            if len(pairs) == 1 or not is_out_of_memory(problem):
                raise
            # Not here: as long as the error is being handled, its traceback holds the tensors of the batch.
            return None

    def describe_pairs(self, pairs: npt.NDArray[np.uint8]) -> Floats:
        """Describe pairs as familiarity is told by, as `model.familiarity.describe_images` says."""
        return _describe(pairs, dates=self.encode_dates(pairs))

    def _tell_familiarity(
        self, answers: list[list[Answer]], *, pairs: npt.NDArray[np.uint8], dates: tuple[Tensor, Tensor]
    ) -> list[list[Answer]]:
        if self.familiarity is None:
            return answers
        rated = self.familiarity.rate(_describe(pairs, dates=dates))
        return [
            [
                answer if answer is NOT_ASKED else replace(answer, familiarity=value)
                for answer, value in zip(row, rated, strict=True)
            ]
            for row in answers
        ]

    def _ask_in_turn(
        self, read: PairReading, *, n_pairs: int, prompts: Sequence[Prompt], choose_asked: ChooseAsked | None
    ) -> list[list[Answer]]:
        if choose_asked is None:
            return self._ask_all(read, n_pairs=n_pairs, prompts=prompts)
        first = self.ask(read, prompt=prompts[0])
        asked = np.flatnonzero(choose_asked(first))
        rest = [[NOT_ASKED] * len(first) for _ in prompts[1:]]
        if asked.size:
            some = take_pairs(read, torch.from_numpy(asked).to(self.model.device))
            found = self._ask_all(some, n_pairs=asked.size, prompts=prompts[1:])
            for row, of_prompt in zip(rest, found, strict=True):
                for index, answer in zip(asked.tolist(), of_prompt, strict=True):
                    row[index] = answer
        return [first, *rest]

    def _ask_all(self, read: PairReading, *, n_pairs: int, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        def ask(prompt: Prompt) -> list[Answer]:
            return self.ask(read, prompt=prompt)

        answer = ask if self.has_open_questions else KnownQuestions(ask, n_pairs=n_pairs).answer
        return [answer(prompt) for prompt in prompts]

    def _halve_batches(self, n_pairs: int) -> None:
        self.batch_size_tiles = max(1, n_pairs // 2)
        note = f"out of memory: batches of {self.batch_size_tiles} tiles from here on"
        logger.warning(note)
        self._notes[note] += 1
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def encode_pairs(self, pairs: npt.NDArray[np.uint8]) -> Tensor:
        """Give the difference features of shape (n, 2 * tokens, width) that every prompt shares."""
        return self.relate_dates(*self.encode_dates(pairs))

    @torch.inference_mode()
    def encode_dates(self, pairs: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Give the tokens of each date, of shape (n, tokens, width)."""
        parts = [
            self.model.encode_dates(self.processor.prepare_pairs(some).to(self.model.device, self.model.dtype))
            for some in self._split(pairs)
        ]
        return torch.cat([before for before, _ in parts]), torch.cat([after for _, after in parts])

    @torch.inference_mode()
    def relate_dates(self, before: Tensor, after: Tensor) -> Tensor:
        """Give the difference features that every prompt shares, of shape (n, 2 * tokens, width)."""
        parts = zip(self._split(before), self._split(after), strict=True)
        return torch.cat([self.model.difference(*dates) for dates in parts])

    def _split(self, pairs: Sliced) -> list[Sliced]:
        """Cut pairs into as many as go through the vision tower at once; none are one part."""
        size = self._pairs_at_once
        return [pairs[start : start + size] for start in range(0, max(1, len(pairs)), size)]

    @torch.inference_mode()
    def read_pairs(self, difference_features: Tensor) -> PairReading:
        """Compute what the Q-Former reads of every pair, whatever the prompt."""
        reading: PairReading = self.model.project_features(difference_features)
        return reading

    @torch.inference_mode()
    def ask(self, pairs: PairReading | Tensor, *, prompt: Prompt) -> list[Answer]:
        """Put one prompt to every pair.

        Args:
            pairs: What `read_pairs` gave, or the difference features of a single prompt's pairs.
            prompt: The prompt.

        Raises:
            InputError: the prompt is empty or longer than the context.
        """
        prefix = self.embed_prompt(self.read_pairs(pairs) if isinstance(pairs, Tensor) else pairs, text=prompt.text)
        max_new_tokens = self.settings.limit_new_tokens(MAX_NEW_TOKENS[prompt.kind])
        context = int(self.model.config.text_config.max_position_embeddings)
        if prefix.shape[1] + 1 > context:
            raise InputError(
                f"prompt {prompt.name!r} takes {prefix.shape[1]} of the language model's {context} positions",
                expected="room for an answer",
                remedy=f"shorten it by {prefix.shape[1] + max_new_tokens - context} tokens",
            )
        found = search(
            self.model.language_model,
            prefix,
            settings=self._classify_settings if prompt.kind is PromptKind.CLASSIFY else self.settings,
            max_new_tokens=min(max_new_tokens, context - prefix.shape[1]),
        )
        confidence = found.confidence
        if prompt.kind is PromptKind.CLASSIFY:
            confidence = self._choice.tell_confidence(found, settings=self.settings)
        texts = self.processor.decode_answers(found.token_ids)
        return [Answer(text=text, confidence=value) for text, value in zip(texts, confidence.tolist(), strict=True)]

    @torch.inference_mode()
    def embed_prompt(self, pairs: PairReading, *, text: str) -> Tensor:
        """Let the queries read a prompt about every pair; give the prefix of shape (n, queries + text, text width)."""
        ids = {name: ids.to(self.model.device) for name, ids in self.processor.prepare_prompts([text]).items()}
        query_output = self.model.query_prompt(pairs, qformer_input_ids=ids["qformer_input_ids"])
        prefix: Tensor = self.model.prefix_embeddings(
            query_output, input_ids=ids["input_ids"].expand(query_output.shape[0], -1)
        )
        return prefix

    @property
    def mask_labels(self) -> tuple[str, ...]:
        """What there are masks of; empty for weights without a mask branch."""
        return () if self._mask_config is None else tuple(self._mask_config.labels)

    @property
    def _mask_config(self) -> MaskDecoderConfig | None:
        return None if self.model.mask_decoder is None else self.model.mask_decoder.config

    def predict_masks(self, pairs: npt.NDArray[np.uint8], *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        """Give a mask per label for every pair, as `MaskModel.predict_masks` says.

        Raises:
            ValueError: these weights have no mask branch, or the pairs are of another dtype or shape.
        """
        while True:
            masks = self._try_masks(pairs, size_px=size_px)
            if masks is not None:
                return masks
            self._halve_batches(min(self._pairs_at_once, len(pairs)))

    def _try_masks(self, pairs: npt.NDArray[np.uint8], *, size_px: tuple[int, int] | None) -> ChangeMasks | None:
        """Outline all pairs; None if a batch of them does not fit into memory and could be smaller."""
        try:
            return predict_change_masks(
                self.model, self.processor, pairs, size_px=size_px, batch_size_tiles=self._pairs_at_once
            )
        except (RuntimeError, MemoryError) as problem:
            if min(self._pairs_at_once, len(pairs)) <= 1 or not is_out_of_memory(problem):
                raise
            return None

    @property
    def _pairs_at_once(self) -> int:
        """Most pairs that go through the vision tower at once."""
        is_on_cpu = self.model.device.type == "cpu"
        return min(self.batch_size_tiles, PAIRS_ENCODED_AT_ONCE_ON_CPU) if is_on_cpu else self.batch_size_tiles


def _describe(pairs: npt.NDArray[np.uint8], *, dates: tuple[Tensor, Tensor]) -> Floats:
    features = torch.stack([tokens.float().mean(dim=1) for tokens in dates], dim=1)
    return describe_images(pairs, features=features.cpu().numpy())


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether a computation failed for want of memory, on a GPU or on a CPU."""
    # torch has an error of its own for GPUs alone; a CPU's allocator raises a RuntimeError.
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(problem)

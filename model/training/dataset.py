"""Samples for training: a lit and cropped pair, the prompts asked about it and the answers to learn.

Sample `k` of a stream has a seed of its own, made of the stream's and `k`. So any sample can be drawn without the ones
before it: workers and processes share a stream by the numbers of its samples, and a training that goes on after a kill
starts where it was without drawing again what it has seen.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, count
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from model.changechat.questions import DRAWN_KINDS, draw_dialogue_turn, draw_question
from model.interface import Prompt, PromptKind
from model.pairs.captions import CaptionPool
from model.pairs.details import share_details, weigh_captions
from model.pairs.facts import ChangeFacts, TargetText, phrase_answer
from model.pairs.folders import LabelledPair, cut_tiles
from model.processing import resize_image
from model.training.augmentation import Augmentation, draw_sample
from model.training.synthetic_pairs import SyntheticPairs

DrawnT = TypeVar("DrawnT")
DrawnT_co = TypeVar("DrawnT_co", covariant=True)
SampleT = TypeVar("SampleT")


class Source(Protocol[DrawnT_co]):
    """Items that belong together, and how often they are drawn."""

    @property
    def weight(self) -> float:
        """Relative frequency."""
        ...

    def __len__(self) -> int: ...

    def draw(self, index: int, *, augmentation: Augmentation, random: np.random.Generator) -> DrawnT_co:
        """Show one item as `random` decides."""
        ...

    def list_fixed(self, *, max_items: int) -> Sequence[DrawnT_co]:
        """Give items as they are, for validation: at most so many, spread over the source."""
        ...


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

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, *, augmentation: Augmentation, random: np.random.Generator) -> LabelledPair:
        """Show a random crop of a pair under changing lights."""
        pair = self.pairs[index]
        size_px = min(round(self.crop_size_px * random.uniform(*self.scale_range)), *pair.mask.shape)
        return draw_sample(pair, size_px=size_px, augmentation=augmentation, random=random)

    def list_fixed(self, *, max_items: int) -> list[LabelledPair]:
        """Cut pairs into tiles as large as a crop; those of pairs that are smaller are the whole pair."""
        tiles = []
        for index in spread_indices(len(self), n_taken=max_items):
            pair = self.pairs[index]
            tiles += list(cut_tiles(pair, size_px=min(self.crop_size_px, *pair.mask.shape)))
        return [tiles[index] for index in spread_indices(len(tiles), n_taken=max_items)]


def count_items(sources: Sequence[Source[Any]]) -> int:
    """Count what sources hold; those that make their pairs as they are drawn hold none."""
    held = [s for s in sources if not (isinstance(s, PairSource) and isinstance(s.pairs, SyntheticPairs))]
    return sum(len(source) for source in held)


def spread_indices(n_items: int, *, n_taken: int) -> list[int]:
    """Choose indices at even distances, all of them where there are no more than are taken."""
    return [k * n_items // n_taken for k in range(n_taken)] if n_items > n_taken else list(range(n_items))


def draw_samples(
    sources: Sequence[Source[DrawnT]], *, augmentation: Augmentation, random: np.random.Generator
) -> Iterator[DrawnT]:
    """Draw items of all sources, each as often as its weight says, without end."""
    weights = np.array([source.weight for source in sources])
    while True:
        source = sources[int(random.choice(len(sources), p=weights / weights.sum()))]
        yield source.draw(int(random.integers(len(source))), augmentation=augmentation, random=random)


class SampleStream(Dataset[SampleT], Generic[DrawnT, SampleT]):
    """Samples that can be had in any order: sample `k` is always the same.

    Without `is_in_epochs` every sample is drawn from all sources by their weights; with it, every item of every source
    is shown once before any is shown again, in an order shuffled anew each time.
    """

    def __init__(
        self,
        sources: Sequence[Source[DrawnT]],
        *,
        augmentation: Augmentation,
        seed: int,
        n_samples: int | None = None,
        is_in_epochs: bool = False,
    ) -> None:
        self.sources = sources
        self.augmentation = augmentation
        self.seed = seed
        self.n_samples = n_samples
        self.is_in_epochs = is_in_epochs

    def __len__(self) -> int:
        if self.n_samples is None:
            raise TypeError("this stream has no end")
        return self.n_samples

    def __iter__(self) -> Iterator[SampleT]:
        """Start the stream anew; it never ends, whatever its length."""
        return map(self.__getitem__, count())

    def __getitem__(self, index: int) -> SampleT:
        """Draw sample `index`."""
        random = np.random.default_rng((self.seed, index))
        if self.is_in_epochs:
            source, item = self._find_in_epoch(index)
            drawn = source.draw(item, augmentation=self.augmentation, random=random)
        else:
            drawn = next(draw_samples(self.sources, augmentation=self.augmentation, random=random))
        return self.make_sample(drawn, random=random)

    @abstractmethod
    def make_sample(self, drawn: DrawnT, *, random: np.random.Generator) -> SampleT:
        """Turn a drawn item into what the collator takes."""

    def _find_in_epoch(self, index: int) -> tuple[Source[DrawnT], int]:
        ends = list(accumulate(len(source) for source in self.sources))
        epoch, place = divmod(index, ends[-1])
        item = int(_shuffle_items(self.seed, epoch, ends[-1])[place])
        number = bisect_right(ends, item)
        return self.sources[number], item - (ends[number - 1] if number else 0)


@lru_cache(maxsize=2)
def _shuffle_items(seed: int, epoch: int, n_items: int) -> npt.NDArray[np.int64]:
    # Three numbers: no sample's seed, which has two, is the same.
    return np.random.default_rng((seed, epoch, n_items)).permutation(n_items)


class FixedSamples(Dataset[SampleT], Generic[DrawnT, SampleT]):
    """Samples of items as they are, for validation: always the same, in the same order."""

    def __init__(self, items: Sequence[DrawnT], *, stream: SampleStream[DrawnT, SampleT]) -> None:
        self.items = items
        self.stream = stream

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> SampleT:
        """Make sample `index`."""
        return self.stream.make_sample(self.items[index], random=np.random.default_rng((self.stream.seed, index)))


def stack_dates(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], *, side_px: int) -> npt.NDArray[np.uint8]:
    """Resize both dates to the model's input size: uint8 of shape (date=2, band=3, y, x)."""
    images = [resize_image(image, side_px=side_px) for image in (before, after)]
    return np.stack(images).transpose(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedPair:
    """Two images of one place with a question that was answered about them."""

    before: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    after: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    kind: PromptKind
    """What form the answer has."""
    question: str
    """What the model reads, with the turns before it in a dialogue."""
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class InstructionSample:
    """One pair with some of the prompts that can be answered about it."""

    pair: npt.NDArray[np.uint8]
    """uint8 of shape (date=2, band=3, y, x) at the model's input size."""
    facts: ChangeFacts | None
    """What is known to have changed; None where there is no mask."""
    turns: tuple[tuple[str, TargetText], ...]
    """Prompt and answer of each row."""
    kinds: tuple[PromptKind, ...] = ()
    """Kind of each row's prompt; left out where nobody asks."""
    details: tuple[float, ...] | None = None
    """Which part of the people names each detail, as `share_details` gives it; None where nobody wrote."""


class InstructionStream(SampleStream[Any, InstructionSample]):
    """Seeded samples with prompts and answers: from pairs with masks, or with questions that come with their pairs."""

    def __init__(
        self,
        sources: Sequence[Source[LabelledPair | AskedPair]],
        *,
        prompts: Sequence[Prompt],
        image_size: int,
        prompts_per_pair: int,
        augmentation: Augmentation,
        seed: int,
        n_samples: int | None = None,
        is_in_epochs: bool = False,
        captions: CaptionPool | None = None,
        borrows_captions: bool = True,
        has_questions: bool = False,
    ) -> None:
        super().__init__(sources, augmentation=augmentation, seed=seed, n_samples=n_samples, is_in_epochs=is_in_epochs)
        self.captions = captions
        self.borrows_captions = borrows_captions
        self.prompts = {prompt.kind: prompt.text for prompt in prompts}
        self.image_size = image_size
        self.prompts_per_pair = prompts_per_pair
        self.kinds = [*self.prompts, *(DRAWN_KINDS if has_questions else ())]

    def make_sample(self, drawn: LabelledPair | AskedPair, *, random: np.random.Generator) -> InstructionSample:
        """Ask about a drawn pair what is to be asked."""
        if isinstance(drawn, LabelledPair):
            return self.ask(drawn, random=random)
        return InstructionSample(
            pair=stack_dates(drawn.before, drawn.after, side_px=self.image_size),
            facts=None,
            turns=((drawn.question, TargetText(text=drawn.answer)),),
            kinds=(drawn.kind,),
        )

    def ask(self, drawn: LabelledPair, *, random: np.random.Generator) -> InstructionSample:
        """Choose prompts for a drawn pair and phrase their answers."""
        facts = drawn.facts
        # People also saw what the mask does not tell, or not what it tells: only their words are learned then.
        is_told = drawn.is_flagged in {None, facts.is_changed} or PromptKind.DESCRIBE not in self.prompts
        kinds = self._choose_kinds(drawn, random=random) if is_told else [PromptKind.DESCRIBE]
        turns = [(self._ask_kind(kind, drawn, facts=facts, random=random), kind) for kind in kinds]
        return InstructionSample(
            pair=stack_dates(drawn.before, drawn.after, side_px=self.image_size),
            facts=facts if is_told else None,
            turns=tuple(turn for turn, _ in turns),
            kinds=tuple(kind for _, kind in turns),
            details=share_details(drawn.captions) if drawn.captions else None,
        )

    def _choose_kinds(self, drawn: LabelledPair, *, random: np.random.Generator) -> list[PromptKind]:
        can_describe = self._can_describe(drawn)
        known = [kind for kind in self.kinds if can_describe or kind is not PromptKind.DESCRIBE]
        kinds = list(random.permutation(np.array(known, dtype=object))[: self.prompts_per_pair])
        if drawn.captions and PromptKind.DESCRIBE in self.prompts and PromptKind.DESCRIBE not in kinds:
            kinds[0] = PromptKind.DESCRIBE
        return kinds or [PromptKind.DESCRIBE]

    def _can_describe(self, drawn: LabelledPair) -> bool:
        """Tell whether there are words for a pair: its own, or such as miss nothing that people would tell."""
        if drawn.captions or self.borrows_captions:
            return True
        facts = drawn.facts
        return not facts.is_changed or facts.is_removal or facts.building.count == 0

    def _ask_kind(
        self, kind: PromptKind, drawn: LabelledPair, *, facts: ChangeFacts, random: np.random.Generator
    ) -> tuple[str, TargetText]:
        if kind is PromptKind.DESCRIBE:
            return self.prompts[kind], self._describe(drawn, facts=facts, random=random)
        if kind is PromptKind.ASK:
            description = self._describe_if_known(drawn, facts=facts, random=random)
            return draw_question(facts, cover=drawn.cover, description=description, random=random)
        if kind is PromptKind.DIALOGUE:
            description = self._describe_if_known(drawn, facts=facts, random=random)
            return draw_dialogue_turn(facts, cover=drawn.cover, description=description, random=random)
        return self.prompts[kind], phrase_answer(kind, facts, random=random)

    def _describe_if_known(self, drawn: LabelledPair, *, facts: ChangeFacts, random: np.random.Generator) -> str | None:
        return self._describe(drawn, facts=facts, random=random).text if self._can_describe(drawn) else None

    def _describe(self, drawn: LabelledPair, *, facts: ChangeFacts, random: np.random.Generator) -> TargetText:
        """Take what people wrote of the pair itself, or of one like it; else say what the mask tells."""
        if drawn.captions:
            chosen = random.choice(len(drawn.captions), p=weigh_captions(drawn.captions))
            return TargetText(text=drawn.captions[int(chosen)])
        pool = self.captions if self.borrows_captions else None
        borrowed = pool.draw(facts, cover=drawn.cover, random=random) if pool is not None else None
        if borrowed is not None:
            return TargetText(text=borrowed)
        return phrase_answer(PromptKind.DESCRIBE, facts, random=random)

"""What the rest of the system knows of a change model. Importing this module loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from model.certainty import Certainty
from model.home import ModelHome

ENGINE_VERSION = 4
"""Raised when equal pixels, prompts and weights come to give other answers."""

CELL_NAMES = tuple(f"{y}-{x}" for y in ("top", "center", "bottom") for x in ("left", "center", "right"))
"""The 3 x 3 cells of a tile, row-major; the words are those of the prompts."""


class PromptKind(StrEnum):
    """The interaction types of ChangeChat-105k."""

    DESCRIBE = "describe"
    CLASSIFY = "classify"
    COUNT = "count"
    LOCATE = "locate"
    ASK = "ask"
    DIALOGUE = "dialogue"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question that is put to every tile."""

    name: str
    """Unique within a run; a column name where the answer's text becomes a column."""
    kind: PromptKind
    """What form the answer has, and so how it is parsed."""
    text: str
    """The words the model reads."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's text for one tile and one prompt."""

    text: str
    confidence: float
    """Between 0 and 1: the mean probability of the generated tokens; for a `classify` prompt the probability of
    the chosen word, renormalised over yes and no and calibrated where the model was. NaN where the model tells none."""
    familiarity: float | None = None
    """How much the pair looks like those that the model was calibrated on, 0 to 1; None where the model tells none."""


NOT_ASKED = Answer(text="\x18not asked", confidence=math.nan)
"""Stands in the place of an answer where a prompt was left out; the words of models hold no control characters."""


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which weights answer: enough to tell one model from another without loading it."""

    model_id: str
    """Readable name with the first digits of the hash, such as ``deltavlm-tiny@0123456789ab``."""
    weight_hash: str
    """SHA-256 over the model's files, hexadecimal."""
    path: str
    """Folder that holds the model's files."""
    mask_labels: tuple[str, ...] = ()
    """What it gives masks of, as `MaskModel.mask_labels`; empty for models that give none."""
    home: ModelHome | None = None
    """What it was made for; None where nothing tells."""
    certainty: Certainty | None = None
    """How far its findings can be relied on; None where nobody has measured it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeMasks:
    """Where in each tile something changed, pixel by pixel, as far as the model can tell."""

    labels: tuple[str, ...]
    """What each mask is of, such as ``building``; ``change`` where the model does not tell kinds apart."""
    probabilities: npt.NDArray[np.float32]
    """Probability of change, float32 of shape (tile, label, y, x); 0.5 and more means changed."""
    aspects: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """What else the model tells of each pixel, by the names of `MaskDecoderConfig.aspects`: probabilities, float32 of
    shape (tile, y, x); empty for models that tell none."""


ChooseMasked = Callable[[range, list[list[Answer]]], npt.NDArray[np.bool_]]
"""Tells of which pairs masks are wanted, once their answers are there: it is given the numbers of some pairs, and one
list of answers per prompt, and gives a flag per pair."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedAnswers:
    """What one pass over many pairs gave: answers to all prompts, and masks of some pairs."""

    answers: list[list[Answer]]
    """As `ChangeModel.answer_prompts` gives them."""
    pair_indexes: npt.NDArray[np.int64]
    """Which pairs have masks, ascending."""
    masks: ChangeMasks
    """Their masks, in this order."""


class ChangeModel(Protocol):
    """Anything that answers prompts about pairs of tiles."""

    identity: ModelIdentity

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Answer every prompt for every pair.

        Args:
            pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
            prompts: The questions, each asked of every pair.

        Returns:
            One list per prompt, in the order of `prompts`, holding one answer per pair in the order of `pairs`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PairContext:
    """What is known of a pair besides its pixels."""

    before_date: str | None
    """Day of the earlier image, such as 2026-05-01; None: not known."""
    after_date: str | None
    """Likewise of the later one."""
    latitude: float
    """Of its middle, in degrees."""
    longitude: float
    """Likewise."""
    side_m: float
    """What a side of the images measures on the ground, in metres."""


ChooseAsked = Callable[[list[Answer]], npt.NDArray[np.bool_]]
"""Tells which pairs get the other prompts too, given the answers of some pairs to the first: a flag per pair."""


@runtime_checkable
class ScreeningModel(ChangeModel, Protocol):
    """A change model that asks further prompts of some pairs without looking at them again."""

    def answer_screened(
        self,
        pairs: npt.NDArray[np.uint8],
        *,
        prompts: Sequence[Prompt],
        choose_asked: ChooseAsked,
        choose_masked: ChooseMasked | None,
    ) -> MaskedAnswers:
        """Answer as `MaskModel.answer_with_masks` does, with further prompts for some pairs alone.

        Args:
            pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
            prompts: The questions; the first is asked of every pair.
            choose_asked: Chooses the pairs that are asked the others; those that are not have `NOT_ASKED` there.
            choose_masked: Chooses the pairs with masks; None: none have.
        """
        ...


class ContextModel(ChangeModel, Protocol):
    """A change model that is told what else is known of a pair, and may answer otherwise for it."""

    def answer_in_context(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], contexts: Sequence[PairContext]
    ) -> list[list[Answer]]:
        """Answer as `answer_prompts` does.

        Args:
            pairs: As `answer_prompts`.
            prompts: Likewise.
            contexts: One for each pair.
        """
        ...


class MaskModel(ChangeModel, Protocol):
    """A change model that also outlines what changed."""

    @property
    def mask_labels(self) -> tuple[str, ...]:
        """What there are masks of; empty for weights without a mask branch."""
        ...

    def predict_masks(self, pairs: npt.NDArray[np.uint8], *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        """Give a mask per label for every pair.

        Args:
            pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
            size_px: Height and width of the masks; left out, those of the tiles.

        Raises:
            InputError: these weights have no mask branch.
        """
        ...

    def answer_with_masks(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: ChooseMasked
    ) -> MaskedAnswers:
        """Answer as `answer_prompts` does, and give masks of some pairs without looking at them again.

        Args:
            pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
            prompts: The questions; there may be none.
            choose_masked: Chooses those pairs by their answers, some pairs at a time.

        Raises:
            InputError: these weights have no mask branch.
        """
        ...


@runtime_checkable
class NotingModel(ChangeModel, Protocol):
    """A change model that has more to say than answers."""

    def take_notes(self) -> dict[str, int]:
        """Say what happened since the last call that people should know of, and how often."""
        ...


class ModelSource(Protocol):
    """A change model that another package brings: what its entry point in `ENTRY_POINT_GROUP` names.

    Only what is installed beside this package can be named so; a name never makes other code run.
    """

    def identify(self) -> ModelIdentity:
        """Tell which weights would answer, without loading them."""
        ...

    def load(self, *, device: str, dtype: str, batch_size_tiles: int) -> ChangeModel:
        """Load the model; the arguments are those of `load_model`."""
        ...


ENDPOINT_PREFIX = "openai:"
"""Begins the name of a model behind an OpenAI-compatible server: ``openai:URL#NAME``."""

"""What the rest of the system knows of a change model. Importing this module loads no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

ENGINE_VERSION = 3
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeMasks:
    """Where in each tile something changed, pixel by pixel, as far as the model can tell."""

    labels: tuple[str, ...]
    """What each mask is of, such as ``building``; ``change`` where the model does not tell kinds apart."""
    probabilities: npt.NDArray[np.float32]
    """Probability of change, float32 of shape (tile, label, y, x); 0.5 and more means changed."""


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
            ValueError: these weights have no mask branch.
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
            ValueError: these weights have no mask branch.
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


ENTRY_POINT_GROUP = "deltavlm.models"
"""Group of entry points, each with the name of a model and a `ModelSource`."""

SHIPPED_MODELS = ("deltavlm-tiny",)
"""Names that are resolved to weights inside this package."""

ENDPOINT_PREFIX = "openai:"
"""Begins the name of a model behind an OpenAI-compatible server: ``openai:URL#NAME``."""


def find_model_source(name: str) -> ModelSource | None:
    """Give the model of this name that a server offers or an installed package brings, if one does.

    Raises:
        FileNotFoundError: the name begins as one of a served model and has another form.
    """
    if name.startswith(ENDPOINT_PREFIX):
        from model.remote import RemoteModelSource

        return RemoteModelSource.from_name(name)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        source: ModelSource = entry_point.load()
        return source
    return None


def find_model_folder(name: str) -> Path:
    """Resolve the name of a shipped model, or a folder in transformers' layout, to a folder.

    Raises:
        FileNotFoundError: neither a shipped name nor a folder with a ``config.json`` and weights in safetensors, the
            only form that holds data alone.
    """
    folder = Path(str(resources.files("model.weights"))) / name if name in SHIPPED_MODELS else Path(name)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"no model at {name!r}; expected one of {', '.join(SHIPPED_MODELS)} "
            "or a folder with config.json and model.safetensors"
        )
    return folder


def identify_model(name: str) -> ModelIdentity:
    """Hash a model's files without loading them.

    Raises:
        FileNotFoundError: as `find_model_folder`.
    """
    if (source := find_model_source(name)) is not None:
        return source.identify()
    folder = find_model_folder(name)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".json", ".safetensors", ".txt", ".model"}:
            digest.update(json.dumps(file.relative_to(folder).as_posix()).encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    weight_hash = digest.hexdigest()
    return ModelIdentity(
        model_id=f"{folder.resolve().name}@{weight_hash[:12]}",
        weight_hash=weight_hash,
        path=str(folder),
        mask_labels=_read_mask_labels(folder),
    )


def _read_mask_labels(folder: Path) -> tuple[str, ...]:
    try:
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["mask_config"]["labels"]
    except (ValueError, KeyError, TypeError):
        # No mask branch; and what is damaged is told by whoever loads it.
        return ()
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def resolve_dtype(name: str, *, device: str, dtype: str) -> str:
    """Tell what precision a model would answer in on this machine; a model whose own affair that is keeps the word.

    Args:
        name: As `load_model`.
        device: As `load_model`.
        dtype: As `load_model`.

    Raises:
        ValueError: there is no such device or precision here.
    """
    if dtype != "auto" or find_model_source(name) is not None:
        return dtype
    from model.loading import choose_device, choose_dtype

    return str(choose_dtype(dtype, device=choose_device(device))).removeprefix("torch.")


def load_model(name: str, *, device: str = "auto", dtype: str = "auto", batch_size_tiles: int = 64) -> ChangeModel:
    """Load a model and make it ready to answer.

    Args:
        name: A shipped model, one that an installed package brings, a folder in transformers' layout, or
            ``openai:URL#NAME`` for one behind an OpenAI-compatible server.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (bfloat16 on CUDA and on CPUs with instructions for it, else float32), ``float32`` or
            ``bfloat16``.
        batch_size_tiles: Most pairs that go through the model at once.

    Raises:
        FileNotFoundError: as `find_model_folder`.
        ValueError: a model cannot be used; a server among them that cannot be reached or refuses to answer.
    """
    if (source := find_model_source(name)) is not None:
        return source.load(device=device, dtype=dtype, batch_size_tiles=batch_size_tiles)
    # torch and transformers take seconds to import, and only workers need them.
    from model.answering import DeltaVlmAnswerer

    return DeltaVlmAnswerer.from_folder(
        identify_model(name), device=device, dtype=dtype, batch_size_tiles=batch_size_tiles
    )

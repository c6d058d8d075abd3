"""uint8 pairs and prompts to tensors; the only home of normalisation constants."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from model.errors import InputError
from model.model_folders import SAFE_LOADING, check_model_folder

IMAGE_SETTINGS_FILE = "preprocessor_config.json"
QFORMER_TOKENIZER_FOLDER = "qformer_tokenizer"
IGNORED_LABEL = -100
"""Label of a position that gives no loss."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How the pixels of one date become the input of the vision tower."""

    image_size: int
    """Side of the square input in pixels."""
    image_mean: tuple[float, float, float]
    """Subtracted from each channel of the pixels scaled to 0..1."""
    image_std: tuple[float, float, float]
    """What each channel is divided by after that."""

    def __post_init__(self) -> None:
        """Refuse what no image can be made with."""
        numbers = (*self.image_mean, *self.image_std)
        is_sound = len(self.image_mean) == len(self.image_std) == 3 and all(map(math.isfinite, numbers))
        if not is_sound or min(self.image_std) <= 0 or not (isinstance(self.image_size, int) and self.image_size > 0):
            raise ValueError(f"{self} is no way to prepare images")


CLIP_IMAGE_SETTINGS = ImageSettings(
    image_size=224,
    image_mean=(0.48145466, 0.4578275, 0.40821073),
    image_std=(0.26862954, 0.26130258, 0.27577711),
)
"""What EVA ViT-g, the vision tower of the full size, was trained on."""

EFFICIENTNET_LITE_IMAGE_SETTINGS = ImageSettings(
    image_size=192, image_mean=(127 / 255,) * 3, image_std=(128 / 255,) * 3
)
"""What EfficientNet-Lite0, the trunk of the small size, was trained on."""


class PromptForm(StrEnum):
    """What a prompt's text looks like when the model reads it."""

    RAW = "raw"
    """As it was written: what the original's inference gives its model, and what ours was trained on."""
    CLEANED = "cleaned"
    """Through `clean_text`: what the original's evaluation gives it."""
    TRAINING = "training"
    """Cleaned, behind ``q:``: what the original was trained on."""


def clean_text(text: str, *, max_words: int | None = 50) -> str:
    """Clean a text as the original does for training (LAVIS' caption processor).

    The original keeps the first 50 words, which cuts the current question off a long dialogue; `format_prompt`
    therefore sets no limit.

    Args:
        text: Any text.
        max_words: Words to keep, from the first; None keeps all.

    Returns:
        The text in lower case, without markers of images and with blanks in place of ``.!"()*#:;~``.
    """
    lowered = text.lower().replace("<image>", " ")
    spaced = re.sub(r"\s{2,}", " ", re.sub(r"[.!\"()*#:;~]", " ", lowered))
    words = spaced.rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:max_words])


def format_prompt(text: str, *, form: PromptForm) -> str:
    """Give a prompt the form that the model reads."""
    if form is PromptForm.RAW:
        return text
    return clean_text(f"q: {text}" if form is PromptForm.TRAINING else text, max_words=None)


def resize_image(image: npt.NDArray[np.uint8], *, side_px: int) -> npt.NDArray[np.uint8]:
    """Resize RGB pixels of shape (y, x, 3) to a square as PIL does: bicubic, antialiased, rounded to uint8."""
    if image.shape[:2] == (side_px, side_px):
        return image
    pixels = np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC), np.uint8)


@dataclass(frozen=True, kw_only=True)
class DeltaVlmProcessor:
    """Prepares what `DeltaVlmForConditionalGeneration` takes, and turns token ids back into text."""

    images: ImageSettings
    tokenizer: PreTrainedTokenizerBase
    """Vocabulary of the language model; pads on the left."""
    qformer_tokenizer: PreTrainedTokenizerBase
    """Vocabulary of the Q-Former; lower case, pads on the right, keeps the end of what is too long."""
    prompt_form: PromptForm = PromptForm.RAW
    """What prompts look like when the model reads them."""

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DeltaVlmProcessor:
        """Load from a model's folder.

        Raises:
            InputError: the settings or a tokenizer are missing.
        """
        folder = Path(folder)
        for name in (IMAGE_SETTINGS_FILE, "tokenizer_config.json", f"{QFORMER_TOKENIZER_FOLDER}/tokenizer_config.json"):
            if not (folder / name).is_file():
                raise InputError(
                    f"no {name} in {folder}",
                    expected="the folder of a whole DeltaVLM",
                    remedy="get its files again or convert it again",
                )
        check_model_folder(folder)
        try:
            settings = json.loads((folder / IMAGE_SETTINGS_FILE).read_text())
            return cls(
                images=ImageSettings(
                    image_size=settings["image_size"],
                    image_mean=tuple(settings["image_mean"]),
                    image_std=tuple(settings["image_std"]),
                ),
                tokenizer=AutoTokenizer.from_pretrained(folder, **SAFE_LOADING),
                qformer_tokenizer=AutoTokenizer.from_pretrained(folder / QFORMER_TOKENIZER_FOLDER, **SAFE_LOADING),
                prompt_form=PromptForm(settings.get("prompt_form", PromptForm.RAW)),
            )
        except Exception as problem:
            # Nothing but files is read here, and tokenizers has no error of its own for a damaged one.
            raise InputError(
                f"settings or tokenizers in {folder} cannot be read ({type(problem).__name__}: {str(problem)[:200]})",
                expected="the files that a model is saved with",
                remedy="get them again or convert it again",
            ) from None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings and both tokenizers into a model's folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = asdict(self.images) | {"prompt_form": self.prompt_form.value}
        (folder / IMAGE_SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
        self.tokenizer.save_pretrained(folder)
        self.qformer_tokenizer.save_pretrained(folder / QFORMER_TOKENIZER_FOLDER)

    def prepare_pairs(self, pairs: npt.NDArray[np.uint8]) -> Tensor:
        """Resize (bicubic, antialiased, rounded to uint8 as PIL does), scale and normalise.

        Args:
            pairs: uint8 of shape (n, date=2, band=3, y, x).

        Returns:
            float32 of shape (n, 2, 3, image_size, image_size).

        Raises:
            ValueError: another dtype or shape.
        """
        if pairs.dtype != np.uint8 or pairs.ndim != 5 or pairs.shape[1:3] != (2, 3):
            raise ValueError(
                f"pairs of {pairs.dtype} and shape {pairs.shape}; expected uint8 and (n, date=2, band=3, y, x)"
            )
        side = self.images.image_size
        # A byte has 256 values: scaling and normalising those once gives the same floats as doing it for each pixel.
        scaled = torch.arange(256, dtype=torch.float32) / 255
        mean, std = (torch.tensor(values).view(3, 1) for values in (self.images.image_mean, self.images.image_std))
        normalised = ((scaled - mean) / std).numpy()
        prepared = np.empty((pairs.shape[0] * 2, 3, side, side), np.float32)
        for target, image in zip(prepared, pairs.reshape(-1, *pairs.shape[2:]), strict=True):
            resized = resize_image(np.asarray(cv2.merge(list(image)), np.uint8), side_px=side)
            for band, values, levels in zip(target, cv2.split(resized), normalised, strict=True):
                cv2.LUT(values, levels, dst=band)
        return torch.from_numpy(prepared).view(-1, 2, 3, side, side)

    def prepare_prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise prompts for both readers.

        Returns:
            `input_ids` and `attention_mask`, padded on the left, and `qformer_input_ids` and
            `qformer_attention_mask`, padded on the right; int64 of shape (n, text).

        Raises:
            InputError: a text is empty or cannot be encoded.
        """
        prompts = [format_prompt(_check_prompt(text), form=self.prompt_form) for text in texts]
        spoken: Any = self.tokenizer(prompts, padding=True, return_tensors="pt")
        read: Any = self.qformer_tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        return {
            "input_ids": spoken["input_ids"],
            "attention_mask": spoken["attention_mask"],
            "qformer_input_ids": read["input_ids"],
            "qformer_attention_mask": read["attention_mask"],
        }

    def decode_answers(self, token_ids: Tensor) -> list[str]:
        """Turn generated ids of shape (n, tokens) into texts without special tokens."""
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def pad_targets(rows: Sequence[tuple[list[int], list[int]]], *, pad_token_id: int) -> dict[str, Tensor]:
    """Put rows of token ids and labels of equal length into `input_ids`, `attention_mask` and `labels`, (n, text)."""
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), length), pad_token_id)
    labels = torch.full((len(rows), length), IGNORED_LABEL)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.int64)
    for row, (ids, target_ids) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.tensor(target_ids)
        attention_mask[row, : len(ids)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def _check_prompt(text: str) -> str:
    if not text.strip():
        raise InputError("empty prompt", expected="a question", remedy="write one")
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise InputError(
            f"prompt with {text[problem.start]!r} at character {problem.start}",
            expected="text that UTF-8 can hold",
            remedy="remove half of a surrogate pair",
        ) from None
    return text

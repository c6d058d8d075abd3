"""uint8 pairs and prompts to tensors; the only home of normalisation constants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

IMAGE_SETTINGS_FILE = "preprocessor_config.json"
QFORMER_TOKENIZER_FOLDER = "qformer_tokenizer"


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How the pixels of one date become the input of the vision tower."""

    image_size: int
    """Side of the square input in pixels."""
    image_mean: tuple[float, float, float]
    """Subtracted from each channel of the pixels scaled to 0..1."""
    image_std: tuple[float, float, float]
    """What each channel is divided by after that."""


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

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DeltaVlmProcessor:
        """Load from a model's folder."""
        folder = Path(folder)
        settings = json.loads((folder / IMAGE_SETTINGS_FILE).read_text())
        return cls(
            images=ImageSettings(
                image_size=settings["image_size"],
                image_mean=tuple(settings["image_mean"]),
                image_std=tuple(settings["image_std"]),
            ),
            tokenizer=AutoTokenizer.from_pretrained(folder),
            qformer_tokenizer=AutoTokenizer.from_pretrained(folder / QFORMER_TOKENIZER_FOLDER),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings and both tokenizers into a model's folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / IMAGE_SETTINGS_FILE).write_text(json.dumps(asdict(self.images), indent=2) + "\n")
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
        resized = np.empty((pairs.shape[0] * 2, side, side, 3), np.uint8)
        for target, image in zip(resized, pairs.reshape(-1, *pairs.shape[2:]), strict=True):
            target[:] = resize_image(image.transpose(1, 2, 0), side_px=side)
        scaled = torch.from_numpy(resized).permute(0, 3, 1, 2).to(torch.float32) / 255
        mean = torch.tensor(self.images.image_mean).view(3, 1, 1)
        std = torch.tensor(self.images.image_std).view(3, 1, 1)
        normalised: Tensor = (scaled - mean) / std
        return normalised.view(-1, 2, *normalised.shape[1:])

    def prepare_prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise prompts for both readers.

        Returns:
            `input_ids` and `attention_mask`, padded on the left, and `qformer_input_ids` and
            `qformer_attention_mask`, padded on the right; int64 of shape (n, text).
        """
        spoken: Any = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        read: Any = self.qformer_tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
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

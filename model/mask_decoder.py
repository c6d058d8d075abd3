"""Pixel change masks from the difference features: the mask branch beside the language model.

    features ─▶ unification ─▶ projection ─▶ stages, each twice as large ─▶ head ─▶ resize ─▶ logits of labels
        └─────▶ projection ─▶ stages of their own ─▶ head ─▶ resize ─▶ logits of aspects

What is told beside the masks, the aspects, has a branch of its own: it can be learned later, and changes no mask.
Modules carry the names of the original (hanlinwu/DeltaVLM), so that its parameters `mask_decoder.X` load as they are.
Its unification of features and its blocks are in the manner of AnyUp (Wimmer et al. 2025), its attention in that of
Swin (arXiv 2103.14030).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from model.configuration import MaskDecoderConfig

BASIS_SIZE = 5
"""Side of a filter of the learned feature unification, in tokens."""


def norm_groups(width: int) -> nn.GroupNorm:
    """Make the group norm that every block takes: eight groups, or one per channel where there are fewer."""
    return nn.GroupNorm(min(8, width), width)


class LearnedFeatureUnification(nn.Module):
    """Maps any number of channels to a fixed one: which of the learned filters does each channel look like here?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(width, 1, BASIS_SIZE, BASIS_SIZE) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, channels, y, x) to (n, width, y, x); y and x must exceed half the filters' side."""
        channels, (height, width) = features.shape[1], features.shape[-2:]
        reach = BASIS_SIZE // 2
        padded = F.pad(features, (reach,) * 4, mode="reflect")
        # Every filter on every channel: n, channels * width, y, x.
        responses = F.conv2d(padded, self.basis.repeat(channels, 1, 1, 1), groups=channels)
        ones = torch.ones_like(features[:1, :1])
        taps = F.conv2d(F.pad(ones, (reach,) * 4), torch.ones_like(self.basis[:1]))
        # ^ Taps inside the image, so the border comes out too large beside the reflected padding: the original's way.
        scaled = (responses / taps).reshape(-1, self.basis.shape[0], channels, height, width)
        # ^ Computed as (channel, filter) but read as (filter, channel): so does the original, and was trained.
        return scaled.softmax(dim=1).mean(dim=2)


class ResidualBlock(nn.Module):
    """Two convolutions that keep width and size, each after norm and SiLU, with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect", bias=False)
            layers += [norm_groups(width), nn.SiLU(), convolution]
        self.block = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, width, y, x) to the same shape."""
        refined: Tensor = self.block(features)
        return features + refined


class WindowAttention(nn.Module):
    """Attention among the places of each square window, with a learned bias per offset between two of them."""

    rpi: Tensor

    def __init__(self, width: int, *, n_heads: int, window: int) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rpb = nn.Parameter(torch.zeros((2 * window - 1) ** 2, n_heads))
        self.register_buffer("rpi", number_offsets(window))

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, y, x, width) to the same shape; windows at the bottom and right edge are filled up with zeros."""
        n, height, width, channels = features.shape
        side, heads = self.window, self.n_heads
        padded = F.pad(features, (0, 0, 0, -width % side, 0, -height % side))
        # ^ Zeros take part in the attention, as in the original, which has no mask for them.
        rows, cols = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.reshape(n, rows, side, cols, side, channels).transpose(2, 3).reshape(-1, side**2, channels)
        # Each of windows, heads, places, channels / heads.
        query, key, value = self.qkv(windows).unflatten(-1, (3, heads, channels // heads)).permute(2, 0, 3, 1, 4)
        # Loading into bfloat16, transformers makes floats of these numbers too: whole ones, and small.
        bias = self.rpb[self.rpi.long()].permute(2, 0, 1).unsqueeze(0).to(query.dtype)  # 1, heads, places, places
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))  # windows, places, channels
        whole = output.view(n, rows, cols, side, side, channels).transpose(2, 3).reshape(padded.shape)
        return whole[:, :height, :width]


def number_offsets(window: int) -> Tensor:
    """Number the offset between each two places of a window, row-major: int64 of shape (window^2, window^2)."""
    places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offsets = places[:, None] - places[None] + window - 1
    return offsets[..., 0] * (2 * window - 1) + offsets[..., 1]


class UpsampleBlock(nn.Module):
    """Doubles the size by a transposed convolution, refines, and lets each window look at itself."""

    def __init__(self, width_in: int, width_out: int, *, attention: WindowAttention | None) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(width_in, width_out, 4, 2, 1), norm_groups(width_out), nn.SiLU())
        self.ref = ResidualBlock(width_out)
        self.attn = attention
        self.norm = None if attention is None else nn.LayerNorm(width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, width_in, y, x) to (n, width_out, 2 y, 2 x)."""
        refined: Tensor = self.ref(self.up(features))
        if self.attn is None or self.norm is None:
            return refined
        attended: Tensor = self.attn(self.norm(refined.permute(0, 2, 3, 1)))
        return refined + attended.permute(0, 3, 1, 2)


class AspectDecoder(nn.Sequential):
    """Difference features on the grid of tokens to logits per aspect, on a grid twice as fine per stage."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        widths = [max(config.aspect_hidden_size // 2**stage, 16) for stage in range(config.n_aspect_stages + 1)]
        stages = (UpsampleBlock(*pair, attention=None) for pair in pairwise(widths))
        super().__init__(
            nn.Conv2d(config.feature_size, widths[0], 1),
            norm_groups(widths[0]),
            nn.SiLU(),
            ResidualBlock(widths[0]),
            *stages,
            nn.Conv2d(widths[-1], len(config.aspects), 1),
        )


class ChangeMaskDecoder(nn.Module):
    """Difference features on the grid of tokens to one mask per label, and what is told beside it."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        # The name is the original's; a plain projection in its place reads the channels as what they are.
        self.lfu: nn.Module = (
            LearnedFeatureUnification(width)
            if config.unification == "learned_basis"
            else nn.Conv2d(config.feature_size, width, 1)
        )
        self.proj = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), norm_groups(width), nn.SiLU(), ResidualBlock(width)
        )
        self.stages = nn.ModuleList()
        for stage in range(config.n_stages):
            width_in, width = width, max(config.hidden_size // 2 ** (stage + 1), config.min_hidden_size)
            attention = None
            if config.has_attention and stage < config.n_stages - 1:
                attention = WindowAttention(width, n_heads=config.num_attention_heads, window=config.window_size)
            self.stages.append(UpsampleBlock(width_in, width, attention=attention))
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            norm_groups(width),
            nn.SiLU(),
            nn.Conv2d(width, len(config.labels), 1),
        )
        self.aspects = AspectDecoder(config) if config.aspects else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start afresh as the original does: He initialisation over the fan-out, truncated normal in the attention."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.rpb, std=0.02)
                module.rpi.copy_(number_offsets(module.window))
            elif isinstance(module, LearnedFeatureUnification):
                nn.init.normal_(module.basis, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Decode.

        Args:
            features: Shape (n, channels, y, x), one place per token; `MaskDecoderConfig.feature_size` channels, or any
                number under the learned feature unification.

        Returns:
            Logits of shape (n, label + aspect, output_size_px, output_size_px), labels first.
        """
        decoded = self.proj(self.lfu(features))
        for stage in self.stages:
            decoded = stage(decoded)
        logits = self._resize(self.head(decoded))
        return logits if self.aspects is None else torch.cat([logits, self.tell_aspects(features)], dim=1)

    def tell_aspects(self, features: Tensor) -> Tensor:
        """Decode what is told beside the masks alone: logits of shape (n, aspect, output_size_px, output_size_px).

        Args:
            features: As of `forward`.

        Raises:
            ValueError: Nothing is told beside the masks.
        """
        if self.aspects is None:
            raise ValueError("this mask branch tells nothing beside its masks; expected one with aspects; extend it")
        return self._resize(self.aspects(features))

    def _resize(self, logits: Tensor) -> Tensor:
        size = (self.config.output_size_px,) * 2
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def lay_out_tokens(tokens: Tensor, *, has_class_token: bool) -> Tensor:
    """Put tokens of shape (n, tokens, width) where they lie in the square image: (n, width, y, x).

    The original tells a class token from the number of tokens, 257, and fails at other sizes; ours is told.

    Raises:
        ValueError: the tokens, without the one of the class, are not as many as a square has places.
    """
    placed = tokens[:, 1:] if has_class_token else tokens
    side = math.isqrt(placed.shape[1])
    if side * side != placed.shape[1]:
        raise ValueError(f"{placed.shape[1]} tokens of an image; expected a square number, from a square image")
    grid: Tensor = placed.transpose(1, 2).unflatten(2, (side, side))
    return grid


def mask_loss(logits: Tensor, truth: Tensor, *, known: Tensor | None = None, positive_weight: float = 2.0) -> Tensor:
    """Give the cross-entropy of each pixel, changed ones weighted, averaged over what is known.

    The original's loss: the mean of -(w * t * log(p) + (1 - t) * log(1 - p)) over all pixels, with w = 2. It takes
    probabilities; logits give the same value and stay finite.

    Args:
        logits: Shape (n, label, y, x).
        truth: 1 where something changed, 0 elsewhere; shape (n, label, y', x'), resized to the logits by nearest.
        known: Whether the truth of a label is known, bool of shape (n, label); left out, everything is.
        positive_weight: Weight of changed pixels.

    Returns:
        Scalar; 0 where nothing is known.
    """
    target = truth.to(logits.dtype)
    if target.shape[-2:] != logits.shape[-2:]:
        target = F.interpolate(target, size=logits.shape[-2:], mode="nearest")
    weight = torch.as_tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    pixels = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    losses: Tensor = pixels.mean(dim=(2, 3))  # n, label
    if known is None:
        return losses.mean()
    mean: Tensor = (losses * known).sum() / known.sum().clamp(min=1)
    return mean

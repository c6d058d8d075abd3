"""Whether the difference perception (CSRM) of an original checkpoint was ever trained.

The released `forward()` of the original skips it, so training gives it no gradient, while `generate()` applies it: a
checkpoint may hold random weights there, and its answers cannot depend on what those layers should have learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

CSRM_LAYERS = ("context1", "context2", "context3", "gate1", "gate2")
CSRM_WEIGHTS = tuple(f"{layer}.weight" for layer in CSRM_LAYERS)


@dataclass(frozen=True, kw_only=True)
class TrainingVerdict:
    """Whether the layers were trained, and how that can be told."""

    is_trained: bool
    evidence: str
    """A sentence for people."""


def judge_csrm_training(
    weights: Mapping[str, Tensor], *, optimizer: Any, trained_keys: Sequence[tuple[str, tuple[int, ...]]]
) -> TrainingVerdict:
    """Tell from the optimizer's state if it has any, else from the weights.

    Args:
        weights: The tensors of `CSRM_WEIGHTS`.
        optimizer: State dict of the original's optimizer, or None.
        trained_keys: Keys and shapes of the checkpoint's parameters, in its order, without buffers.
    """
    by_optimizer = judge_by_optimizer(optimizer, trained_keys=trained_keys)
    return by_optimizer if by_optimizer is not None else judge_by_weights(weights)


def judge_by_optimizer(
    optimizer: Any, *, trained_keys: Sequence[tuple[str, tuple[int, ...]]]
) -> TrainingVerdict | None:
    """Look for the layers' moments: Adam keeps some for each parameter that ever had a gradient.

    The optimizer numbers its parameters as they are handed over: first those with weight decay (no vectors, nor what
    has "bias", "ln" or "bn" in its name), then the rest, each in the model's order. Whether scalars count as vectors
    differs between LAVIS, where they do, and checkpoints of the original; the sizes of both groups tell.

    Returns:
        None where the state is empty, or does not fit that numbering.
    """
    state = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        return None
    groups = [group["params"] for group in optimizer.get("param_groups", [])]
    ordered = _order_like_groups(trained_keys, sizes=[len(group) for group in groups])
    if ordered is None:
        return None
    moments: dict[str, Tensor] = {}
    for number, (key, shape) in zip(chain.from_iterable(groups), ordered, strict=True):
        moment = state.get(number, {}).get("exp_avg_sq")
        if moment is None:
            continue
        if tuple(moment.shape) != shape:
            return None
        moments[key] = moment
    idle = [key for key in CSRM_WEIGHTS if key not in moments or not bool(moments[key].any())]
    if idle:
        return TrainingVerdict(
            is_trained=False,
            evidence=f"the optimizer has moments of {len(moments)} parameters, but none of {', '.join(idle)}",
        )
    return TrainingVerdict(is_trained=True, evidence="the optimizer has moments of all its layers")


def judge_by_weights(weights: Mapping[str, Tensor]) -> TrainingVerdict:
    """Compare each layer's weights with what a fresh layer of torch has."""
    fresh = [key for key in CSRM_WEIGHTS if is_freshly_initialised(weights[key])]
    if fresh:
        return TrainingVerdict(
            is_trained=False,
            evidence=f"the weights of {', '.join(fresh)} are uniform within torch's initial bounds",
        )
    return TrainingVerdict(is_trained=True, evidence="the weights of none of its layers are as torch initialises them")


def is_freshly_initialised(weight: Tensor) -> bool:
    """Whether weights of shape (out, in) look drawn from U(-b, b) with b = 1 / sqrt(in), as `nn.Linear` starts.

    Any training moves some weights near the bound over it; the standard deviation guards against small weights of
    another origin, within five times its own sampling error, which is 0.45 / sqrt(n) of it for a uniform distribution.
    """
    bound = 1 / math.sqrt(weight.shape[1])
    rounding = 2 * torch.finfo(weight.dtype).eps
    values = weight.float()
    if values.abs().max().item() > bound * (1 + rounding):
        return False
    expected = bound / math.sqrt(3)
    tolerance = 5 * 0.45 / math.sqrt(values.numel()) + rounding
    return abs(values.std().item() / expected - 1) <= tolerance


def _order_like_groups(
    keys: Sequence[tuple[str, tuple[int, ...]]], *, sizes: list[int]
) -> list[tuple[str, tuple[int, ...]]] | None:
    for without_decay in ((1,), (0, 1)):  # numbers of dimensions
        rest = [
            (key, shape)
            for key, shape in keys
            if len(shape) in without_decay or any(part in key for part in ("bias", "ln", "bn"))
        ]
        decayed = [pair for pair in keys if pair not in rest]
        if sizes == [len(decayed), len(rest)]:
            return decayed + rest
    return None

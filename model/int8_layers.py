"""Linear layers with weights of one byte, for CPUs: a quarter of float32's memory, and a few times its speed.

Each row of activations is scaled by its own largest value to whole numbers of 8 bits, each row of weights by its own to
whole numbers of 7. Whole numbers are multiplied and summed exactly, so that a row gives the same bits whatever rows are
beside it, on every CPU. torch's own dynamic quantization, whose products these are, scales the activations of a batch
all alike, by which an answer would depend on its neighbours; and with weights of 8 bits the instructions of CPUs
without VNNI cut off large sums.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from model.errors import InputError
from model.inspection import is_int8_layer

_BACKEND = "fbgemm"
"""What of torch multiplies; for x86 alone."""
_MAX_ACTIVATION = 127
_MAX_WEIGHT = 64
"""Two products of 255 and 64 are the most that a sum of 16 bits holds, and CPUs without VNNI sum in pairs like that."""
_ZERO_POINT = 128
"""Activations are handed over as numbers from 0 to 255."""


class Int8Linear(nn.Module):
    """A linear layer without weights, until `pack` gives it some; takes and gives float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed: Any = None

    def pack(self, weight: Tensor) -> None:
        """Take weights of shape (out, in), in any precision, and keep them in int8."""
        scales = (weight.abs().amax(dim=1).float() / _MAX_WEIGHT).clamp_min(torch.finfo(torch.float32).tiny)
        zeros = torch.zeros(self.out_features, dtype=torch.int64)
        former = torch.backends.quantized.engine
        with warnings.catch_warnings():
            # torch sends its users to torchao, which multiplies several times slower where nothing is compiled.
            warnings.simplefilter("ignore")
            torch.backends.quantized.engine = _BACKEND
            try:
                whole = torch.quantize_per_channel(weight.float(), scales.double(), zeros, 0, torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(whole, None)
            finally:
                torch.backends.quantized.engine = former

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        rows = hidden.reshape(-1, self.in_features)
        steps = rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / _MAX_ACTIVATION
        whole = (rows / steps).round_()
        # As `whole` holds what it shall be rounded to, its scale is 1; each row's own comes afterwards.
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        found: Tensor = multiply(whole, 1.0, _ZERO_POINT, self._packed)
        found *= steps
        if self.bias is not None:
            found += self.bias
        return found.view(*hidden.shape[:-1], self.out_features)


def has_cpu_int8() -> bool:
    """Tell whether this machine's CPU is one of those that `Int8Linear` multiplies on."""
    return _BACKEND in torch.backends.quantized.supported_engines


def check_int8(device: torch.device) -> None:
    """Refuse a device that does not multiply int8 as this module does.

    Raises:
        InputError: a GPU, or a CPU that torch's x86 products are not made for.
    """
    if device.type != "cpu":
        raise InputError(
            f"model.quantize int8 on device {str(device)!r}",
            expected="a CPU; a GPU computes in bfloat16, a half of float32",
            remedy="set model.device to cpu, or leave model.quantize out",
        )
    if not has_cpu_int8():
        raise InputError(
            f"model.quantize int8 on a CPU of kind {torch.cpu.get_capabilities().get('architecture', 'unknown')}",
            expected="an x86 CPU: torch has no such products for others",
            remedy="leave model.quantize out",
        )


def empty_linears(model: nn.Module) -> None:
    """Put an empty `Int8Linear` in the place of every layer whose weights are to be held in int8."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and is_int8_layer(f"{name}.weight", n_dims=2):
            model.set_submodule(name, Int8Linear(module))


def fill_linears(model: nn.Module, files: Sequence[Path]) -> dict[str, set[str]]:
    """Give every `Int8Linear` its weights, one after the other: at no time there are two in another precision.

    Args:
        model: A model that `empty_linears` was applied to.
        files: Its weights.

    Returns:
        Names of weights: those `filled`, those `missing` in the files, and those `mismatched` in shape.
    """
    linears = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Int8Linear)}
    names: dict[str, set[str]] = {"filled": set(), "missing": set(linears), "mismatched": set()}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            held = linears.keys() & set(opened.keys())
        names["missing"] -= held
        for name in sorted(held):
            # Opened anew for each: as long as a file is open, all that was ever read of it counts as memory in use.
            with safe_open(file, framework="pt") as opened:
                weight = opened.get_tensor(name)
            if weight.shape == (linears[name].out_features, linears[name].in_features):
                linears[name].pack(weight)
                names["filled"].add(name)
            else:
                names["mismatched"].add(name)
            del weight
    return names

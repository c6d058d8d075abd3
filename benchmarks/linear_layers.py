"""What precision is worth on this CPU: the linear layers of one layer of the paper's language model, in each.

The seven products of a layer of Vicuna-7B (4,096 wide, 11,008 within) with random weights, in float32, in bfloat16 and
in int8 as `model.quantize` has it. One row is a step of decoding of one answer, 8 are what such steps are filled up to,
64 are a step of a whole batch, 514 the tokens of both dates of a tile. One thread, CPU time, the best of two.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from model.int8_layers import Int8Linear

WIDTH, INNER_WIDTH = 4096, 11008
QUICK_WIDTH = 256
ROWS = (1, 8, 64, 514)
BAR = 10.0
"""Times as fast in int8 as in bfloat16, of the largest number of rows."""


class Layer(nn.Module):
    """The products of a layer, without its attention over other rows."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, inner_width, bias=False) for _ in range(2))
        self.down = nn.Linear(inner_width, width, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Take rows through it."""
        rows = rows + self.output(self.query(rows) + self.key(rows) + self.value(rows))
        widened: Tensor = rows + self.down(nn.functional.silu(self.gate(rows)) * self.up(rows))
        return widened


def make_layers(width: int, inner_width: int) -> Iterator[tuple[str, torch.dtype, Layer]]:
    """Make the layer in each precision, one at a time; gives what its rows are to be held in as well."""
    torch.manual_seed(0)
    layer = Layer(width, inner_width).eval()
    yield "float32", torch.float32, layer
    weights = {name: linear.weight.detach() for name, linear in layer.named_children() if isinstance(linear, nn.Linear)}
    yield "bfloat16", torch.bfloat16, layer.to(torch.bfloat16)
    for name, weight in weights.items():
        packed = Int8Linear(layer.get_submodule(name))
        packed.pack(weight)
        layer.set_submodule(name, packed)
    yield "int8", torch.float32, layer


def time_calls(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Give the CPU seconds of the better of two calls, and what the last one found."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        found = call()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def measure(width: int, inner_width: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Give billions of operations a second, and how far from float32 the rows are, by precision and number of rows."""
    n_weights = 4 * width**2 + 3 * width * inner_width
    inputs = {n_rows: torch.randn(n_rows, width, generator=torch.Generator().manual_seed(n_rows)) for n_rows in ROWS}
    speeds: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    exact: dict[int, Tensor] = {}
    for name, dtype, layer in make_layers(width, inner_width):
        speeds[name], errors[name] = {}, {}
        for n_rows, rows in inputs.items():
            given = rows.to(dtype)
            seconds, found = time_calls(lambda layer=layer, given=given: layer(given))
            expected = exact.setdefault(n_rows, found)
            speeds[name][f"{n_rows} rows"] = round(2 * n_weights * n_rows / seconds / 1e9, 1)
            errors[name][f"{n_rows} rows"] = round(float((found - expected).norm() / expected.norm()), 4)
    return speeds, errors


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small layer, to see that it runs")
    is_quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with torch.inference_mode():
        speeds, errors = measure(*((QUICK_WIDTH, 2 * QUICK_WIDTH) if is_quick else (WIDTH, INNER_WIDTH)))
    for name, by_rows in speeds.items():
        for rows, speed in by_rows.items():
            print(f"{name:<9} {rows:>8} {speed:>8.1f} GFLOP/s, off float32 by {errors[name][rows]:.4f}")
    many = f"{ROWS[-1]} rows"
    ratio = round(speeds["int8"][many] / speeds["bfloat16"][many], 2)
    told = {"figures": speeds, "errors": errors, "ratio": ratio, "bar": BAR, "holds": ratio >= BAR}
    print(json.dumps({"name": "linear_layers", **told}))


if __name__ == "__main__":
    main()

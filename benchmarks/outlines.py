"""What outlines cost the workers, beside answers alone, on the same tiles in turns on one core.

Three ways of answering the run's prompts about synthetic tiles: without masks; with masks of the tiles that the answers
leave open, in the same pass and traced into polygons, as a run's workers do; and with masks of all tiles in a pass of
their own. The bars: a tile that is outlined takes at most 1.5 times as long again as its answers, so that a region of
which a tenth changed takes 15 % longer; and the way of the workers is quicker than a pass of its own for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from engine import BATCH_SIZE_TILES, N_ROUNDS, Pairs, make_pairs

from model.interface import MaskModel
from model.registry import load_model
from pipeline.answers.meaning import list_witnesses
from pipeline.answers.outlines import answer_with_outlines, choose_outline_kinds, trace_masks
from pipeline.config.prompts import load_default_prompts
from pipeline.grid.grid import Grid
from pipeline.tiles.table import Tile

BAR_RATIO_PER_OUTLINED = 1.5


def make_grid(n_tiles: int, *, tile_size_px: int) -> Grid:
    """Lay the tiles in one row."""
    size = {"tile_size_px": tile_size_px, "width_px": n_tiles * tile_size_px, "height_px": tile_size_px}
    place = {"crs": "EPSG:32614", "resolution_m": 0.5, "origin_x": 600_000.0, "origin_y": 3_400_000.0}
    return Grid.from_dict({**place, **size, "n_rows": 1, "n_cols": n_tiles})


def measure(pairs: Pairs, *, n_rounds: int) -> dict[str, Any]:
    """Take turns; give medians over the rounds."""
    import torch

    torch.set_num_threads(1)
    model = cast(MaskModel, load_model("deltavlm-tiny", batch_size_tiles=BATCH_SIZE_TILES))
    prompts = [prompt.to_prompt() for prompt in load_default_prompts()]
    kinds = choose_outline_kinds("auto", mask_labels=model.mask_labels)
    grid = make_grid(len(pairs), tile_size_px=pairs.shape[-1])
    tiles = [
        Tile(row=0, col=col, tile_id=grid.tile_id(0, col), valid_fraction=1.0, status=None, reason="")
        for col in range(len(pairs))
    ]
    told: dict[str, float] = {}

    def answer_and_outline() -> None:
        _, masks, is_open = answer_with_outlines(
            model, pairs, prompts=prompts, witnesses=list_witnesses(prompts), known={}, kinds=kinds
        )
        start = time.process_time()
        outlines = trace_masks(masks, tiles=tiles, is_open=is_open, kinds=kinds, grid=grid)
        told["tracing_s"] = time.process_time() - start
        told["outlined_fraction"] = float(np.mean(is_open.any(axis=1)))
        told["n_outlines"] = len(outlines)

    def answer_and_mask_all() -> None:
        model.answer_prompts(pairs, prompts=prompts)
        model.predict_masks(pairs)

    ways: dict[str, Callable[[], Any]] = {
        "answers": lambda: model.answer_prompts(pairs, prompts=prompts),
        "answers_and_outlines": answer_and_outline,
        "answers_and_all_masks_apart": answer_and_mask_all,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: statistics.median(taken / alone for taken, alone in zip(values, seconds["answers"], strict=True))
        for name, values in seconds.items()
    }
    return {
        "n_tiles": len(pairs),
        "cpu_s": {name: round(value, 2) for name, value in medians.items()},
        "ratio": {name: round(value, 3) for name, value in ratios.items()},
        "ratio_per_outlined_tile": round((ratios["answers_and_outlines"] - 1) / told["outlined_fraction"], 3),
        **{name: round(value, 3) for name, value in told.items()},
    }


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=128, help="tiles in each round")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, help="how often each way is taken")
    options = parser.parse_args()
    figures = measure(make_pairs(options.tiles), n_rounds=options.rounds)
    print(f"{'way':<30} {'cpu s':>8} {'ratio':>8}")
    for name, seconds in figures["cpu_s"].items():
        print(f"{name:<30} {seconds:>8.2f} {figures['ratio'][name]:>8.3f}")
    ratio = figures["ratio"]
    holds = figures["ratio_per_outlined_tile"] < BAR_RATIO_PER_OUTLINED
    holds = holds and ratio["answers_and_outlines"] < ratio["answers_and_all_masks_apart"]
    bar = {"ratio_per_outlined_tile": BAR_RATIO_PER_OUTLINED}
    print(json.dumps({"name": "outlines", "figures": figures, "bar": bar, "holds": holds}))


if __name__ == "__main__":
    main()

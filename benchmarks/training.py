"""How much of a training's time is spent on computing, at the small size; the bar is 90 %.

deltavlm-tiny goes on from its own weights, with one process that prepares batches: once from pairs that are held in
memory, and once with a quarter of them made on the fly, as the recipes have it. The first step, which waits for the
process to start, is counted. What preparing batches alone can do is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BAR_FRACTION = 0.9
HELD = {"kind": "synthetic", "n_pairs": 12, "size_px": 512, "crop_size_px": 256, "scale_range": [0.88, 1.15]}
FLYING = {"kind": "synthetic", "on_the_fly": True, "size_px": 296, "crop_size_px": 256, "scale_range": [0.88, 1.15]}
SOURCES = {"held": [HELD | {"weight": 1.0}], "a_quarter_made": [HELD | {"weight": 0.75}, FLYING | {"weight": 0.25}]}


def make_config(sources: list[dict[str, Any]], *, n_steps: int, batch_size_pairs: int) -> Any:
    """Put the training together."""
    from model.training.recipe import TrainingConfig

    return TrainingConfig.model_validate(
        {
            "sources": sources,
            "initial_weights": "deltavlm-tiny",
            "n_steps": n_steps,
            "warm_up_steps": 1,
            "batch_size_pairs": batch_size_pairs,
            "checkpoint_every_steps": n_steps,
            "n_loader_workers": 1,
        }
    )


def measure_training(config: Any) -> dict[str, float]:
    """Train, and give throughput and the part of the time that is computing."""
    from model.training.trainer import train

    with tempfile.TemporaryDirectory() as folder:
        result = train(config, output=Path(folder) / "model", data_root=Path(folder))
    return {"pairs_per_s": result.pairs_per_s or 0.0, "compute_fraction": result.compute_fraction or 0.0}


def measure_loading(config: Any) -> float:
    """Give the pairs per second that one process prepares into batches when nothing else is done."""
    from model.processing import DeltaVlmProcessor
    from model.registry import find_model_folder
    from model.training.collation import InstructionCollator
    from model.training.sources import load_sources
    from model.training.trainer import build_stream

    sources = load_sources(config.sources, data_root=Path()).training
    stream = build_stream(config, sources, n_prompts=config.prompts_per_pair)
    collate = InstructionCollator(DeltaVlmProcessor.from_pretrained(find_model_folder("deltavlm-tiny")))
    size = config.batch_size_pairs
    start = time.perf_counter()
    for batch in range(2):
        collate([stream[index] for index in range(batch * size, (batch + 1) * size)])
    return round(2 * size / (time.perf_counter() - start), 1)


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="steps of each training")
    parser.add_argument("--batch-size-pairs", type=int, default=32, help="pairs of a step")
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    for name, sources in SOURCES.items():
        print(f"training, {name.replace('_', ' ')}", file=sys.stderr)
        config = make_config(sources, n_steps=asked.steps, batch_size_pairs=asked.batch_size_pairs)
        figures |= {f"{name}_{figure}": value for figure, value in measure_training(config).items()}
        figures[f"{name}_loading_pairs_per_s"] = measure_loading(config)
    for name, value in figures.items():
        print(f"{name:<36} {value}")
    worst = min(value for name, value in figures.items() if name.endswith("compute_fraction"))
    print(json.dumps({"name": "training", "figures": figures, "bar": BAR_FRACTION, "holds": worst >= BAR_FRACTION}))


if __name__ == "__main__":
    main()

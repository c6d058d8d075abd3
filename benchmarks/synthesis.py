"""How many made tile pairs of 256 px one core gives a second, as training asks for them: seeds in order.

Counted is processor time of one thread, so that other work on the machine counts less. Each of the landscapes is
planned and drawn anew; the textures, which a process draws once, are drawn before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import cv2

from model.synthesis.pairs import TILES_PER_LANDSCAPE, synthesize_pair, synthesize_tiles

BAR_PER_S = 50.0
SIZE_PX, RESOLUTION_M = 256, 0.5
N_ROUNDS = 3
N_SCENES = 20


def measure_tiles(first_seed: int, n_tiles: int) -> float:
    """Give the tile pairs per second of processor time."""
    start = time.process_time()
    n_made = sum(1 for _ in synthesize_tiles(range(first_seed, first_seed + n_tiles), size_px=SIZE_PX))
    return n_made / (time.process_time() - start)


def measure_scenes(n_scenes: int) -> float:
    """Give the pairs per second of processor time when each has a landscape of its own."""
    start = time.process_time()
    for seed in range(n_scenes):
        synthesize_pair(seed, height_px=SIZE_PX, width_px=SIZE_PX, resolution_m=RESOLUTION_M)
    return n_scenes / (time.process_time() - start)


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--landscapes", type=int, default=8, help="Landscapes per round.")
    n_tiles = parser.parse_args().landscapes * TILES_PER_LANDSCAPE
    cv2.setNumThreads(1)
    next(synthesize_tiles([0]))
    rounds = [measure_tiles((index + 1) * n_tiles, n_tiles) for index in range(N_ROUNDS)]
    tiles_per_s, scenes_per_s = statistics.median(rounds), measure_scenes(N_SCENES)
    print(f"{'tiles of shared landscapes':<36}{tiles_per_s:8.1f} pairs/s, {min(rounds):.1f} to {max(rounds):.1f}")
    print(f"{'scenes with landscapes of their own':<36}{scenes_per_s:8.1f} pairs/s")
    figures = {
        "tiles_per_s": round(tiles_per_s, 1),
        "tiles_per_s_min": round(min(rounds), 1),
        "tiles_per_s_max": round(max(rounds), 1),
        "scenes_per_s": round(scenes_per_s, 1),
    }
    print(json.dumps({"name": "synthesis", "figures": figures, "bar": BAR_PER_S, "holds": tiles_per_s >= BAR_PER_S}))


if __name__ == "__main__":
    main()

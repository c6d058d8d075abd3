"""Once around the loop of docs/review.md, with a made pair of scenes and a reviewer who knows the truth.

The scenes are run, the changes and a sample of tiles are reviewed by the requests that the browser sends, the reviews
become pairs, deltavlm-tiny goes on from them for some steps, and both models answer for the ground that was held out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("deltavlm"))
SEED = 21
MIN_SHARED, MIN_ON_ROAD = 0.4, 0.5
FIGURES = ("classify.accuracy", "count.building.mae", "locate.building.f1", "mask.building.iou")


def call(*words: str) -> dict[str, Any]:
    """Run a command of deltavlm; gives its JSON line."""
    print("deltavlm", *words, file=sys.stderr)
    done = subprocess.run([COMMAND, *words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    # 1: some were left out, and the rest is there.
    if done.returncode not in (0, 1):
        raise SystemExit(f"deltavlm {words[0]} ended with {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@contextmanager
def explore(run: Path) -> Iterator[str]:
    """Serve the review of a run; gives its address."""
    words = [COMMAND, "explore", str(run), "--no-browser", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request as the page does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Reviewer:
    """Somebody who knows what changed."""

    def __init__(self, url: str, *, run: Path, truth: Path) -> None:
        """Learn the truth, and where the pictures lie.

        Args:
            url: Address of the server.
            run: Folder of the run.
            truth: What `deltavlm data synthesize` wrote.
        """
        import geopandas as gpd

        from pipeline.grid.grid import Grid

        self._url = url
        self._grid = Grid.from_dict(json.loads((run / "run.json").read_text())["grid"])
        told = gpd.read_parquet(run / "report" / "changes.parquet").set_index("change_id")
        frame = gpd.read_parquet(truth).to_crs(self._grid.crs)
        self._truth = frame[frame["is_in_before"] != frame["is_in_after"]]
        self._right = told[[self._is_right(row) for row in told.itertuples()]]

    def review(self) -> dict[str, int]:
        """Say something of each thing that is offered; gives how often what was said."""
        items = ask(f"{self._url}api/review/items")
        n_said = {"right": 0, "wrong": 0, "changed": 0, "unchanged": 0}
        for item in [*items["changes"], *items["sample"]]:
            query = urllib.parse.urlencode({"subject": item["subject"], "id": item["id"]})
            window = ask(f"{self._url}api/review/item?{query}")["window"]
            missed = self._draw(window, known=None if item["subject"] == "tile" else self._right)
            if item["subject"] == "tile":
                said = {"is_changed": bool(missed), "missed": missed}
                word = "changed" if missed else "unchanged"
            else:
                word = "right" if item["id"] in self._right.index else "wrong"
                said = {"verdict": word, "missed": missed}
            n_said[word] += 1
            body = {"person": "script", "subject": item["subject"], "subject_id": item["id"], **said}
            ask(f"{self._url}api/review", body)
        return n_said

    def _is_right(self, told: Any) -> bool:
        """Tell whether an outline is that of one building, or lies on roads that changed."""
        same = self._truth.geometry[self._truth["kind"] == told.kind]
        shared = same.intersection(told.geometry).area
        if told.kind == "road":
            return bool(shared.sum() >= MIN_ON_ROAD * told.geometry.area)
        return bool((shared >= MIN_SHARED * (same.area + told.geometry.area - shared)).any())

    def _draw(self, window: dict[str, int], *, known: Any) -> list[list[list[float]]]:
        """Give the buildings in a picture of which nothing is told, as the corners that a person would click."""
        import numpy as np
        import shapely

        frame = self._grid.move(window["top"], window["left"]).transform
        east, south = frame @ (window["width"], window["height"])
        ground = shapely.box(frame.c, south, east, frame.f)
        shapes = self._truth.geometry[self._truth["kind"] == "building"].intersection(ground)
        shapes = shapes.explode()
        shapes = shapes[shapes.area > 1.0]
        if known is not None:
            shapes = shapes[~shapes.intersects(shapely.union_all(known.geometry.make_valid()))]
        rings = []
        for shape in shapes:
            corners = shapely.get_coordinates(shape.exterior)[:-1]
            cols, rows = ~frame @ (corners[:, 0], corners[:, 1])
            inside = np.clip(np.column_stack([cols, rows]), 0, (window["width"], window["height"]))
            rings.append(inside.tolist())
        return rings[:50]


def go_round(work: Path, *, size_px: int, n_sampled: int, n_steps: int) -> dict[str, Any]:
    """Go once around; gives the figures."""
    scenes, run, pairs, model = (work / name for name in ("scenes", "run", "pairs", "model"))
    truth = Path(call("data", "synthesize", str(scenes), "--size-px", str(size_px), "--seed", str(SEED))["truth"])
    call("run", str(scenes / "before.tif"), str(scenes / "after.tif"), "--output", str(run))
    call("assess", str(run), "--n", str(n_sampled), "--seed", "1")
    start = time.perf_counter()
    with explore(run) as url:
        said = Reviewer(url, run=run, truth=truth).review()
    review_s = time.perf_counter() - start
    made = call("data", "from-reviews", str(run), "--output", str(pairs))
    config = work / "fine-tune.yaml"
    shipped = Path(__file__).parent.parent / "configs" / "fine-tune.yaml"
    config.write_text(shipped.read_text().replace("n_steps: 300", f"n_steps: {n_steps}"))
    call("model", "train", str(config), "--data", str(pairs / "train"), "--output", str(model))
    figures = {
        name: call("model", "evaluate", "--data", str(pairs / "val"), "--model", which)
        for name, which in (("shipped", "deltavlm-tiny"), ("fine_tuned", str(model)))
    }
    return {"said": said, "review_s": round(review_s, 1), "pairs": made, "figures": figures}


def main() -> None:
    """Print the figures of both models, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder to work in, and to go on in; left out, one that goes again")
    parser.add_argument("--size-px", type=int, default=2560, help="side of the scenes")
    parser.add_argument("--sampled", type=int, default=60, help="tiles of the sample")
    parser.add_argument("--steps", type=int, default=60, help="steps of the training")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        work = (asked.work or Path(passing)).resolve()
        told = go_round(work, size_px=asked.size_px, n_sampled=asked.sampled, n_steps=asked.steps)
    for name in FIGURES:
        values = [told["figures"][which].get(name) for which in ("shipped", "fine_tuned")]
        print(f"{name:24} {values[0]} -> {values[1]}")
    print(json.dumps({"name": "review_loop", "figures": told}))


if __name__ == "__main__":
    main()

"""Weekly passes over a made region as an operator has them: a STAC API, an archive that signs, and a Prefect server.

The archive is that of `region_truth.py`: 3 x 3 blocks over a border of UTM zones, six dates under clouds. Its items are
in a real STAC API (stac-fastapi-pgstac on PostgreSQL), its files in a store that gives nothing without a token. Tokens
live for six seconds and claim twenty, so that the store really refuses some. `deltavlm serve` works for a real Prefect
server, which is asked for the passes one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from region_truth import CONFIG, MAKE, PASSES, compare, run_command, tell

ROOT = Path(__file__).parents[1]
TOKEN_S, TOLD_S = 6.0, 20.0
MAX_PASS_S = 3600.0


def find_items(folder: Path, *, store: str) -> Iterator[dict[str, Any]]:
    """Give the items of the archive, with addresses in the store."""
    for path in sorted((folder / "made" / "items").glob("*.json")):
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = f"{store}/made/items/{asset['href']}"
        yield item | {"links": []}


def write_region(folder: Path, *, api: str) -> Path:
    """Write the region of `region_truth.py` with its scenes in the API and its files in a store that signs."""
    region = yaml.safe_load(CONFIG.read_text())
    region["aoi"] = str(folder / "made" / "area.geojson")
    region["output"] = str(folder / "regions" / "made-archive")
    region["source"]["search"]["href"] = api
    region["source"]["sign"] = "planetary-computer"
    path = folder / "region.yaml"
    path.write_text(yaml.safe_dump(region))
    return path


def find_secrets(folder: Path, *, tokens: Sequence[str]) -> int:
    """Count the files of the region that hold any token."""
    words = [token.encode() for token in tokens]
    files = [path for path in (folder / "regions").rglob("*") if path.is_file()]
    return sum(any(word in data for word in words) for data in map(Path.read_bytes, files))


def watch(folder: Path, *, passes: Sequence[str], cache: Path) -> dict[str, Any]:
    """Make the archive, start all servers, have the passes made; print what each tells."""
    # The programs of the tests: a real API, a real server, and the store.
    sys.path.insert(0, str(ROOT / "tests" / "stand_in"))
    from pgstac_server import run_api
    from prefect_processes import PrefectServer
    from signing_server import STORE, start_signing_server

    if not (folder / "made").exists():
        run_command(shlex.split(MAKE), folder=folder)
    collection = json.loads((folder / "made" / "collection.json").read_text()) | {"links": []}
    items = list(find_items(folder, store=STORE))
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        api = stack.enter_context(run_api([collection], items, cache=cache))
        store = stack.enter_context(
            start_signing_server(folder, log=folder / "store.log", token_s=TOKEN_S, told_s=TOLD_S)
        )
        server = PrefectServer(folder=folder, settings=store.environment | {"no_proxy": "127.0.0.1"})
        stack.enter_context(server.run())
        region = write_region(folder, api=api)
        command = [sys.executable, "-c", "from flows.cli.main import main; main()", "serve", str(region)]
        stack.enter_context(server.work(*command))
        deployment = server.wait_for(lambda: server.find_deployment("made-archive"), what="deployment")
        for day in passes:
            figures[day] = make_pass(server, deployment, day=day, folder=folder)
            answers = store.list_answers()
            figures[day] |= {
                "n_tokens": len(store.list_tokens()),
                "n_reads": len(answers),
                "n_refused": answers.count(403),
                "n_files_with_tokens": find_secrets(folder, tokens=store.list_tokens()),
            }
            print(
                f"    so far {figures[day]['n_tokens']} tokens, {len(answers)} reads of which"
                f" {figures[day]['n_refused']} were refused for an expired token;"
                f" {figures[day]['n_files_with_tokens']} files of the region hold a token"
            )
    return figures


def make_pass(server: Any, deployment: dict[str, Any], *, day: str, folder: Path) -> dict[str, Any]:
    """Ask the server for a pass, wait for its end, and hold the region against the truth."""
    begun_s = time.monotonic()
    run_id = server.start_run(deployment, as_of=f"{day}T00:00:00Z")
    while (run := server.get(f"flow_runs/{run_id}"))["state_type"] not in {"COMPLETED", "FAILED", "CRASHED"}:
        if time.monotonic() - begun_s > MAX_PASS_S:
            raise SystemExit(f"the pass of {day} has not ended within {MAX_PASS_S:g} s")
        time.sleep(2)
    seconds = round(time.monotonic() - begun_s, 1)
    if run["state_type"] != "COMPLETED":
        raise SystemExit(f"the pass of {day} is {run['state_type']}: {run['state']['message']}")
    last = json.loads((folder / "regions" / "made-archive" / "region.json").read_text())["last_pass"]
    statuses = ", ".join(f"{block['block_id']} {block['status']}" for block in last["blocks"])
    print(f"{day}: {seconds} s; {len(last['blocks'])} blocks: {statuses}")
    compared = compare(folder)
    for kind, each in compared.items():
        print(tell(each, kind=kind), flush=True)
    figures = {
        "seconds": seconds,
        "n_blocks_done": sum(block["status"] == "done" for block in last["blocks"]),
        "n_failed": len(last["failed"]),
        "events": last["events"],
    }
    return figures | {kind: asdict(each) for kind, each in compared.items() if each.n_changed}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is done, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where all of it is kept, and perhaps `made` is; left out, nowhere")
    parser.add_argument("--cache", type=Path, help="where the API's environment is kept; left out, nowhere")
    parser.add_argument("--quick", action="store_true", help="the first pass alone, to see that it runs")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        kept = os.environ.get("DELTAVLM_STAC_API_CACHE")
        cache = options.cache or (Path(kept) if kept else folder / "cache")
        cache.mkdir(parents=True, exist_ok=True)
        figures = watch(folder, passes=PASSES[:1] if options.quick else PASSES, cache=cache)
    print(json.dumps({"name": "region_served", "figures": figures}))


if __name__ == "__main__":
    main()

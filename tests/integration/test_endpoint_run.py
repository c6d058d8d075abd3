"""``deltavlm run``, ``ask`` and ``model evaluate`` with a model that is asked over HTTP."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pytest
from made_scenes import N_COLS, N_ROWS, MadeScenes, make_config, make_scenes, read_result, run_arguments
from openai_server import Body, Fault, OpenAiServer, Reply, read_pair, read_texts, refuse, serve
from stand_in_model import RAISES_COLOUR, answer_one

from model.interface import PromptKind
from model.remote.model import load_message_book
from pipeline.runs.run import OpenCluster, detect_changes

CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"], (3, 5): ["bottom-right"]}
KEY = "sk-very-secret-0123456789"
MUTE_COLOUR = (7, 250, 7)
QUICK = {"DELTAVLM_ENDPOINT_RETRIES": "1"}


def find_kind(body: Body) -> PromptKind:
    question = read_texts(body)[-1]
    forms = load_message_book().forms.items()
    return next(kind for kind, each in forms if question.endswith((each.form, each.json_form or each.form)))


def answer(body: Body) -> Reply | Fault:
    """Look at the images that came over the wire, as the stand-in does at pixels."""
    pair, kind = read_pair(body), find_kind(body)
    if tuple(pair[0, :, 0, 0].tolist()) == RAISES_COLOUR:
        return refuse(500, "tripped over a tile")
    if tuple(pair[0, :, 0, 0].tolist()) == MUTE_COLOUR and kind is PromptKind.COUNT:
        return Reply(text=None)
    text = answer_one(pair, kind=kind).text
    return Reply(text=text, tokens=[(text, 0.75, {})])


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAiServer]:
    with serve(answer, key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(
        tmp_path_factory.mktemp("scenes"),
        changed=CHANGED,
        marked={(2, 2): RAISES_COLOUR, (3, 0): MUTE_COLOUR},
    )


def test_a_run_over_http(server: OpenAiServer, scenes: MadeScenes, tmp_path: Path, run_command) -> None:
    cells = {f"r{row:04d}_c{col:04d}": "" for row in range(N_ROWS) for col in range(N_COLS)} | scenes.building_cells
    arguments = [*run_arguments(scenes, output=tmp_path / "run", n_workers=1), "--set", f"model.name={server.name}"]

    refused = run_command(*arguments, OPENAI_API_KEY="sk-wrong-9876543210", **QUICK)
    result = run_command(*arguments, OPENAI_API_KEY=KEY, **QUICK)

    assert refused.returncode == 2
    assert "refuses the key of OPENAI_API_KEY" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    assert result.returncode == 1, result.stderr
    tiles = gpd.read_parquet(tmp_path / "run" / "report" / "tiles.parquet").set_index("tile_id")
    failed, mute = tiles.loc["r0002_c0002"], tiles.loc["r0003_c0000"]
    assert failed["status"] == "failed"
    assert "answers 500 (tripped over a tile)" in failed["reason"]
    assert (mute["status"], mute["reason"], mute["is_changed"]) == ("unreadable", "count: (no words)", False)
    seen = tiles.drop(["r0002_c0002"])
    assert seen["building_cells"].to_dict() == {name: cells[name] for name in seen.index}
    assert set(tiles["model_id"]) == {f"stand-in@127.0.0.1:{server.server_port}"}
    for text in (refused.stdout, refused.stderr, result.stdout, result.stderr):
        assert "sk-" not in text
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or b"sk-" not in file.read_bytes(), file


def test_a_confidence_that_is_not_told_stays_empty(
    server: OpenAiServer, scenes: MadeScenes, tmp_path: Path, shared_cluster: OpenCluster
) -> None:
    def script(body: Body) -> Reply:
        return Reply(text=answer_one(read_pair(body), kind=find_kind(body)).text)

    with serve(script) as server:
        config = make_config(scenes, output=tmp_path / "run", assignments=(f"model.name={server.name}",))
        report = detect_changes(config, open_cluster=shared_cluster)

    assert report.is_complete
    tiles = gpd.read_parquet(tmp_path / "run" / "report" / "tiles.parquet")
    changes = gpd.read_parquet(tmp_path / "run" / "report" / "changes.parquet")
    for column in (tiles["change_confidence"], changes["confidence"]):
        assert len(column) > 0
        assert column.isna().all()
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "confidence not known" in page
    # What people read: neither scripts nor the bytes of pictures.
    words = re.sub(r"<script.*?</script>|<style>.*?</style>|data:[^\"]*", "", page, flags=re.DOTALL)
    assert "nan" not in words.lower()
    record = (tmp_path / "run" / "run.json").read_text()
    json.loads(record, parse_constant=pytest.fail)
    assert "the server tells no probabilities" in record


def test_tiles_that_are_called_unchanged_for_sure_cost_one_request(tmp_path: Path, shared_cluster: OpenCluster) -> None:
    def script(body: Body) -> Reply:
        kind = find_kind(body)
        text = answer_one(read_pair(body), kind=kind).text
        return Reply(text=text, tokens=[(text, 0.975, {})])

    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED)
    n_tiles, n_changed = N_ROWS * N_COLS, len(CHANGED)
    tables, counts = {}, {}
    for screening in ("off", "auto"):
        with serve(script) as server:
            settings = (f"model.name={server.name}", f"model.screening={screening}")
            config = make_config(scenes, output=tmp_path / screening, assignments=settings)
            detect_changes(config, open_cluster=shared_cluster)
            counts[screening] = len(server.bodies)
        tables[screening] = gpd.read_parquet(tmp_path / screening / "report" / "tiles.parquet").set_index("tile_id")

    n_prompts = len(config.prompts)
    # Each of the two workers makes sure once that the server answers.
    assert counts["off"] == 2 + n_tiles * n_prompts
    assert counts["auto"] == 2 + n_tiles + n_changed * (n_prompts - 1)
    told = ["status", "is_changed", "change_confidence", "building_count", "road_count", "building_cells", "road_cells"]
    assert tables["auto"][told].equals(tables["off"][told])
    is_spared = ~tables["auto"]["is_changed"].astype(bool)
    assert set(tables["auto"]["reason"][is_spared]) == {"not asked on: unchanged, 0.97"}
    assert tables["auto"]["description"][is_spared].isna().all()
    assert (
        tables["auto"][~is_spared]
        .drop(columns=["model_id", "run_id", "geometry"])
        .equals(tables["off"][~is_spared].drop(columns=["model_id", "run_id", "geometry"]))
    )


def test_starting_again_asks_only_about_what_failed(
    scenes: MadeScenes, tmp_path: Path, shared_cluster: OpenCluster
) -> None:
    is_broken = True

    def script(body: Body) -> Reply | Fault:
        reply = answer(body)
        return reply if is_broken or isinstance(reply, Reply) else Reply(text="No")

    with serve(script) as server:
        config = make_config(scenes, output=tmp_path / "run", assignments=(f"model.name={server.name}",))
        detect_changes(config, open_cluster=shared_cluster)
        is_broken, n_before = False, len(server.bodies)
        detect_changes(config, open_cluster=shared_cluster)
        asked = server.bodies[n_before:]

    # The other tiles of its batch had been asked in halves, and their parts are there.
    pixels = Counter(tuple(read_pair(body)[0, :, 0, 0].tolist()) for body in asked)
    assert pixels[RAISES_COLOUR] == 4
    # Each of the two workers makes sure once that the server answers.
    assert sum(pixels.values()) <= 4 * 4 + 2


def test_asking_over_http(server: OpenAiServer, scenes: MadeScenes, tmp_path: Path, run_command) -> None:
    for name in ("before", "after"):
        image = np.full((48, 48, 3), 40 if name == "before" else 200, np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    images = ["--before", str(tmp_path / "before.png"), "--after", str(tmp_path / "after.png")]

    result = run_command("ask", *images, "--model", server.name, "What is new?", OPENAI_API_KEY=KEY)

    assert result.returncode == 0, result.stderr
    assert read_result(result)["text"] == "9 by my eyes"
    nobody = run_command("ask", *images, "--model", "openai:http://127.0.0.1:9/v1#x", "What is new?", **QUICK)
    assert nobody.returncode == 2
    assert "cannot be reached" in " ".join(nobody.stderr.split())


def test_evaluating_over_http(server: OpenAiServer, tmp_path: Path, run_command) -> None:
    for folder in ("A", "B", "label"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        mask = np.zeros((48, 48), np.uint8)
        mask[:16, : 16 * number] = 255
        before = np.full((48, 48, 3), 50, np.uint8)
        after = np.where(mask[..., None] > 0, 200, before).astype(np.uint8)
        for folder, image in (("A", before), ("B", after), ("label", mask)):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)

    result = run_command("model", "evaluate", "--data", str(tmp_path), "--model", server.name, OPENAI_API_KEY=KEY)

    assert result.returncode == 0, result.stderr
    assert "stand-in@127.0.0.1" in json.loads(result.stdout.splitlines()[-1], parse_constant=pytest.fail)["model_id"]

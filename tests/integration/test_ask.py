"""Asking about one tile of a run that was really made, and the model that ships about two picture files."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import shutil
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from made_scenes import TILE_PX, command_environment, command_line, make_config, make_scenes, read_result
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult
from PIL import Image
from stand_in_model import MUMBLES_COLOUR, RAISES_COLOUR

from flows.cluster import open_cluster
from model.conversation import open_conversation
from model.errors import InputError
from model.interface import PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate
from model.prompts import load_prompt_book
from model.synthesis.pairs import synthesize_pair
from pipeline.config.cluster import ClusterConfig
from pipeline.runs.read import list_changed_tiles, open_tiles, read_tile_pair
from pipeline.runs.run import detect_changes

CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"]}
UNREADABLE, FAILED, NO_DATA, OUTSIDE = (1, 1), (2, 1), (2, 2), (3, 5)
QUESTIONS = {prompt.name: prompt.text for prompt in load_prompt_book().list_all()}


def name_tile(row: int, col: int) -> str:
    return f"r{row:04d}_c{col:04d}"


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, client: Any) -> Path:
    """A run with a tile of every status that a tile may be asked about, or not."""
    folder = tmp_path_factory.mktemp("ask")
    scenes = make_scenes(folder / "scenes", changed=CHANGED, marked={UNREADABLE: MUMBLES_COLOUR, FAILED: RAISES_COLOUR})
    with rasterio.open(scenes.before, "r+") as file:
        file.nodata = 0
        pixels = file.read()
        top, left = NO_DATA[0] * TILE_PX, NO_DATA[1] * TILE_PX
        pixels[:, top : top + TILE_PX, left : left + TILE_PX] = 0
        file.write(pixels)
    with rasterio.open(scenes.before) as file:
        west, south, east, north = file.bounds
    area = gpd.GeoSeries.from_wkt(
        [f"POLYGON(({west} {south}, {west} {north}, {east - 60} {north}, {east - 60} {south}, {west} {south}))"],
        crs="EPSG:32614",
    )
    area.to_file(folder / "area.geojson")
    config = make_config(scenes, output=folder / "run", assignments=(f"aoi={folder / 'area.geojson'}",))
    shared = partial(open_cluster, ClusterConfig(kind="address", address=client.scheduler.address))
    detect_changes(config, open_cluster=shared)
    return folder / "run"


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """The same run, to be spoilt."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def change_record(run: Path, **changes: dict[str, str]) -> None:
    record = json.loads((run / "run.json").read_text())
    for key, values in changes.items():
        record[key] |= values
    # As of an earlier version, which had no checksum.
    del record["sha256"]
    (run / "run.json").write_text(json.dumps(record))


def test_a_tile_has_the_pixels_of_the_store(finished_run: Path) -> None:
    pixels = open_tiles(str(finished_run)).pixels.to_numpy()

    for row, col in [*CHANGED, UNREADABLE, FAILED]:
        window = pixels[:, :, row * TILE_PX : (row + 1) * TILE_PX, col * TILE_PX : (col + 1) * TILE_PX]
        np.testing.assert_array_equal(read_tile_pair(str(finished_run), name_tile(row, col)), window)


def test_changed_tiles_are_listed_most_changed_first(finished_run: Path) -> None:
    assert list_changed_tiles(str(finished_run)) == ["r0000_c0000", "r0001_c0002"]


@pytest.mark.parametrize(
    ("tile_id", "found", "told"),
    [
        ("r0004_c0001", "is not in", "the nearest is r0003_c0001"),
        ("r0001_c0099", "is not in", "the nearest is r0001_c0005"),
        ("r1_c1", "is not in", "the nearest is r0001_c0001"),
        ("tile-7", "is no tile of", "r0000_c0000 to r0003_c0005"),
        ("", "is no tile of", "r0000_c0000 to r0003_c0005"),
        (name_tile(*NO_DATA), "has the status no_data", "analysed"),
        (name_tile(*OUTSIDE), "has the status outside", "analysed"),
    ],
)
def test_a_tile_that_cannot_be_asked_about_is_refused(finished_run: Path, tile_id: str, found: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as refusal:
        read_tile_pair(str(finished_run), tile_id)

    assert found in refusal.value.found


def test_a_spoilt_run_is_refused(copied_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        read_tile_pair(str(tmp_path / "nowhere"), "r0000_c0000")
    shutil.rmtree(copied_run / "tiles.zarr" / "pixels")
    with pytest.raises(InputError, match=r"r0000_c0000 of .* has no pixels .*deltavlm run"):
        read_tile_pair(str(copied_run), "r0000_c0000")
    (copied_run / "report" / "tiles.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"tiles\.parquet cannot be read .*deltavlm report"):
        read_tile_pair(str(copied_run), "r0000_c0000")
    (copied_run / "run.json").unlink()
    with pytest.raises(InputError, match=r"has no run\.json"):
        read_tile_pair(str(copied_run), "r0000_c0000")


def test_the_answer_is_that_of_the_report(finished_run: Path, run_command: Any) -> None:
    tiles = gpd.read_parquet(finished_run / "report" / "tiles.parquet").set_index("tile_id")

    result = run_command("ask", str(finished_run), "r0001_c0002", QUESTIONS["description"])

    answer = read_result(result)
    assert result.returncode == 0
    assert answer["text"] == tiles.loc["r0001_c0002", "description"] == "1 buildings appear."
    assert (answer["tile_id"], answer["run"], answer["model_id"]) == ("r0001_c0002", str(finished_run), "stand-in@1")
    assert answer["notes"] == []


def test_a_conversation_goes_from_tile_to_tile(finished_run: Path, run_command: Any) -> None:
    lines = "/count\nWhere?\n/tiles\n/tile r0009_c0009\n/tile r0000_c0000\nWhere?\n/count\n"

    result = run_command("ask", str(finished_run), name_tile(*UNREADABLE), stdin=lines)

    turns = read_result(result)["turns"]
    assert result.returncode == 0
    assert [turn["tile_id"] for turn in turns] == ["r0001_c0001", "r0001_c0001", "r0000_c0000", "r0000_c0000"]
    assert [turn["kind"] for turn in turns] == ["count", "dialogue", "ask", "count"]
    assert turns[0]["meaning"] is None
    assert turns[3]["meaning"] == {"building_count": 2, "road_count": 0}
    assert "its meaning is in doubt" in result.stderr
    assert "2 changed: r0000_c0000 r0001_c0002" in result.stderr
    assert "the nearest is r0003_c0005" in result.stderr


def test_other_weights_than_the_runs_are_noted(copied_run: Path, run_command: Any) -> None:
    change_record(copied_run, model={"weight_hash": "0" * 64, "model_id": "former@000000000000"})

    result = run_command("ask", str(copied_run), "r0000_c0000", QUESTIONS["changed"])

    (note,) = read_result(result)["notes"]
    assert result.returncode == 0
    assert "former@000000000000" in note
    assert note in result.stderr


def test_without_its_own_model_a_run_is_asked_with_the_one_that_ships(copied_run: Path, run_command: Any) -> None:
    record = json.loads((copied_run / "run.json").read_text())
    change_record(copied_run, config={"model": record["config"]["model"] | {"name": "/models/gone"}})

    result = run_command("ask", str(copied_run), "r0000_c0000", QUESTIONS["changed"])

    answer = read_result(result)
    assert result.returncode == 0
    assert answer["model_id"].startswith("deltavlm-tiny@")
    assert [("/models/gone" in note, "stand-in@1" in note) for note in answer["notes"]] == [
        (True, False),
        (False, True),
    ]


def test_a_run_without_a_tile_suggests_some(finished_run: Path, run_command: Any) -> None:
    result = run_command("ask", str(finished_run))

    assert result.returncode == 2
    assert result.stdout == ""
    assert "such as r0000_c0000, r0001_c0002" in result.stderr


def test_a_fault_of_the_model_is_no_wrong_input(finished_run: Path, run_command: Any) -> None:
    result = run_command("ask", str(finished_run), name_tile(*FAILED), "Why?")

    assert result.returncode == 3
    assert "the model tripped over a tile" in result.stderr


def test_an_assistant_lists_queries_looks_and_asks(finished_run: Path) -> None:
    """A client that is not ours, over stdin and stdout of the command in a process of its own."""
    command, *arguments = command_line("mcp", str(finished_run), "--query-s", "1")
    server = StdioServerParameters(command=command, args=arguments, env=command_environment())
    told: dict[str, CallToolResult] = {}

    async def converse() -> None:
        async with Client(server) as client:
            calls: dict[str, tuple[str, dict[str, Any]]] = {
                "list": ("list_sources", {}),
                "schema": ("describe_tables", {"source": "run"}),
                "count": ("query", {"sql": "SELECT status, count(*) FROM tiles GROUP BY ALL ORDER BY ALL"}),
                "file": ("query", {"sql": "SELECT * FROM read_text('/etc/passwd')"}),
                "write": ("query", {"sql": "COPY tiles TO '/tmp/tiles.csv'"}),
                # DuckDB looks for an interruption between functions, never within this one.
                "endless": ("query", {"sql": "SELECT levenshtein(repeat('a', 900000), repeat('b', 900000))"}),
                "after": ("query", {"sql": "SELECT max(building_count) FROM run.tiles"}),
                "tile": ("show_tile", {"source": "run", "tile_id": "r0001_c0002"}),
                "unseen": ("show_tile", {"source": "run", "tile_id": name_tile(*NO_DATA)}),
                "ask": (
                    "ask_tile",
                    {"source": "run", "tile_id": "r0001_c0002", "question": QUESTIONS["description"]},
                ),
            }
            for name, (tool, values) in calls.items():
                told[name] = await client.call_tool(tool, values)

    asyncio.run(converse())
    texts = {name: result.content[0].text for name, result in told.items()}
    (source,) = json.loads(texts["list"])
    assert source["coverage"]["tiles_per_status"] == dict(json.loads(texts["count"])["rows"])
    assert 0 < json.loads(texts["count"])["coverage"]["run"]["seen_fraction"] < 1
    assert set(json.loads(texts["schema"])) == {"run.tiles", "run.changes"}
    assert {name for name, result in told.items() if result.is_error} == {"file", "write", "endless", "unseen"}
    assert "was ended" in texts["endless"]
    assert json.loads(texts["after"])["rows"] == [[2]]
    pair = read_tile_pair(str(finished_run), "r0001_c0002")
    pictures = [part for part in told["tile"].content if part.type == "image"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part.data)))) for part in pictures]
    np.testing.assert_array_equal(np.stack(shown).transpose(0, 3, 1, 2), pair)
    answer = json.loads(texts["ask"])
    assert answer["answer"] == "1 buildings appear."
    assert "confidence" in answer
    assert answer["coverage"]["status"] == "analysed"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A made pair on which houses were built, as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    pairs = (synthesize_pair(seed, height_px=256, width_px=256, resolution_m=0.5) for seed in count(500_000))
    made = next(pair for pair in pairs if (pair.change_mask == 255).mean() > 0.1)
    for name in ("before", "after"):
        Image.fromarray(getattr(made, name)).save(folder / f"{name}.png")
    return folder / "before.png", folder / "after.png"


def test_the_shipped_model_talks_about_two_pictures(pictures: tuple[Path, Path]) -> None:
    conversation = open_conversation(*pictures, device="cpu")

    replies = {name: conversation.ask(QUESTIONS[name]) for name in ("changed", "count", "location", "description")}
    follow_up = conversation.ask("Where are the new houses?")

    assert replies["changed"].meaning == ParsedClassify(is_changed=True)
    assert isinstance(replies["count"].meaning, ParsedCount)
    assert (replies["count"].meaning.building_count or 0) > 0
    assert isinstance(replies["location"].meaning, ParsedLocate)
    assert all(0 < replies[name].confidence <= 1 for name in ("changed", "location", "description"))
    # How often counts are right was measured as an interval.
    assert math.isnan(replies["count"].confidence)
    low, high = replies["count"].bounds["building_count"]
    assert low <= replies["count"].meaning.building_count <= high
    # It is read from the cells, whose confidence says nothing of it.
    assert math.isnan(follow_up.confidence)
    assert follow_up.kind is PromptKind.DIALOGUE
    assert follow_up.prompt.n_history_turns == 4
    assert len(conversation.replies) == 5


def test_the_shipped_model_never_loses_the_question(pictures: tuple[Path, Path]) -> None:
    conversation = open_conversation(*pictures, device="cpu")
    for number in range(12):
        reply = conversation.ask(
            f"Question number {number}: what else was built in this place, and on which side of it?"
        )
        assert reply.prompt.text.endswith(reply.question)

    assert 0 < reply.prompt.n_history_turns < 11
    with pytest.raises(ValueError, match=r"tokens; expected at most \d+"):
        conversation.ask("what " * 1000)


def test_two_picture_files_are_enough(pictures: tuple[Path, Path], run_command: Any) -> None:
    before, after = map(str, pictures)

    result = run_command("ask", "--before", before, "--after", after, "--device", "cpu", QUESTIONS["changed"])

    answer = read_result(result)
    assert result.returncode == 0
    assert (answer["text"], answer["meaning"]) == ("Yes", {"is_changed": True})
    assert answer["model_id"].startswith("deltavlm-tiny@")
    assert answer["confidence"] > 0.5


@pytest.mark.parametrize(("option", "value"), [("--device", "cuda:99"), ("--model", "deltavlm-huge")])
def test_a_device_or_a_model_that_is_not_there_is_wrong_input(
    option: str, value: str, pictures: tuple[Path, Path], run_command: Any
) -> None:
    before, after = map(str, pictures)

    result = run_command("ask", "--before", before, "--after", after, option, value, QUESTIONS["changed"])

    assert (result.returncode, result.stdout) == (2, "")
    assert value in result.stderr
    assert "Expected: " in result.stderr
    assert "To do: " in result.stderr
    assert "Traceback" not in result.stderr

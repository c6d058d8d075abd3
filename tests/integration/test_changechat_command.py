"""The command from folders and scenes to files, in this process; what is wrong, it says in one message."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from made_pairs import make_mask, write_captions, write_pair
from PIL import Image

from flows.cli.main import main
from model.changechat.reading import read_changechat
from pipeline.training_data.scenes import write_synthetic_pair

RunMain = Callable[..., tuple[int, dict, str]]


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunMain:
    """Run ``deltavlm data changechat``; gives exit code, the last line's object and stderr."""

    def run(*arguments: object) -> tuple[int, dict, str]:
        monkeypatch.setattr(sys, "argv", ["deltavlm", "data", "changechat", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        return end.value.code or 0, json.loads(lines[-1]) if lines else {}, captured.err

    return run


def test_a_folder_becomes_a_set(tmp_path, run_main):
    source = tmp_path / "pairs"
    write_pair(source, "x_val", mask=make_mask(top_left=(2, 255), center_left=(1, 128)))
    write_pair(source, "y", mask=make_mask())
    write_captions(source / "captions.json", ("x_val.png", "val", 1, ("two houses .", "a road .")))

    code, result, shown = run_main(source, "--output", tmp_path / "set")

    assert (code, result["exit_code"], result["pairs"]) == (0, 0, {"train": 1, "val": 1})
    assert "Records" in shown
    (count,) = read_changechat(tmp_path / "set/changechat_val_count.json", images=source)
    assert count.answer == "1 road has changed, and 2 buildings has changed."
    assert count.before == source / "A/x_val.png"


def test_pairs_that_cannot_be_used_end_with_one(tmp_path, run_main):
    write_pair(tmp_path / "pairs", "x", mask=make_mask())
    write_pair(tmp_path / "pairs", "y", mask=None)

    code, result, shown = run_main(tmp_path / "pairs", "-o", tmp_path / "set")

    assert (code, result["exit_code"], result["skipped"]) == (1, 1, {"neither mask nor captions": 1})
    assert "skipped: 1 x neither mask nor captions" in shown
    summary = json.loads((tmp_path / "set/summary.json").read_text())
    assert [pair["id"] for pair in summary["skipped"]["pairs"]] == ["y"]


@pytest.mark.parametrize("options", [(), ("--road-masks",), ("--class-values", "building=255,road=128")])
def test_masks_of_buildings_tell_of_roads_only_if_one_says_so(tmp_path, run_main, options):
    write_pair(tmp_path / "pairs", "x", mask=make_mask(top_left=(1, 255)))

    run_main(tmp_path / "pairs", "-o", tmp_path / "set", *options)

    rows = pq.read_table(tmp_path / "set/changechat.parquet").to_pylist()
    assert {row["road_count"] for row in rows} == ({0} if options else {None})


def test_open_questions_are_put_among_the_rest(tmp_path, run_main):
    write_pair(tmp_path / "pairs", "x", mask=make_mask())
    turns = [{"from": "human", "value": "<image> <image> What is new?"}, {"from": "gpt", "value": "Nothing."}]
    asked = tmp_path / "open.json"
    asked.write_text(json.dumps([{"id": 0, "image": ["A/x.png", "B/x.png"], "conversations": turns}]))

    _, result, _ = run_main(tmp_path / "pairs", "-o", tmp_path / "set", "--open-questions", asked)

    assert result["records"]["train"]["ask"] == 1
    assert "changechat_train_open.json" in result["files"]


def test_a_synthetic_pair_gives_its_own_mask_back(tmp_path, run_main):
    files = write_synthetic_pair(tmp_path / "made", seed=7, size_px=512, change_level=1.0)

    code, result, _ = run_main(tmp_path / "made", "-o", tmp_path / "set", "--split", "test")

    assert (code, result["pairs"], result["layout"]) == (0, {"test": 4}, "levir-mci")
    with rasterio.open(files.change_mask) as dataset:
        expected = dataset.read(1)
    tiles = [Image.open(f) for f in sorted((tmp_path / "set/images/test/label").glob("*.png"))]
    drawn = np.block([[np.asarray(tiles[2 * row + col]) for col in range(2)] for row in range(2)])
    # Two ways of drawing a slanted edge differ by a pixel here and there.
    assert np.mean(drawn != expected) < 2e-3
    assert (expected > 0).any()
    rows = pq.read_table(tmp_path / "set/changechat.parquet").to_pylist()
    assert None not in {row["road_count"] for row in rows}


def test_cutting_again_leaves_no_tile_of_before(tmp_path, run_main):
    write_synthetic_pair(tmp_path / "made", seed=3, size_px=512)
    run_main(tmp_path / "made", "-o", tmp_path / "set", "--split", "test")

    _, result, _ = run_main(tmp_path / "made", "-o", tmp_path / "set", "--tile-size-px", "512")

    assert (result["pairs"], result["empty_splits"]) == ({"train": 1}, [])
    assert not list((tmp_path / "set").glob("changechat_test*"))


def test_real_scenes_in_two_crs_with_footprints(shared_data, tmp_path, run_main):
    joplin = shared_data / "data/fixtures/joplin_geo"

    code, result, _ = run_main(
        joplin / "input/pre/tile_337-9136.tif",
        *("--after", joplin / "input/post/tile_31500-5137.tif"),
        *("--truth", joplin / "misc/bldg_polys.gpkg"),
        *("-o", tmp_path / "set"),
    )

    assert code == 0
    rows = pq.read_table(tmp_path / "set/changechat.parquet").to_pylist()
    counts = {row["before_image"]: row["building_count"] for row in rows}
    # 77 footprints, of which some lie off the scenes and some are cut by a border of tiles.
    assert 40 <= sum(counts.values()) <= 110
    assert result["pairs"]["train"] == len(counts)


def write_odd_masks(folder: Path) -> list[object]:
    write_pair(folder / "pairs", "x", mask=make_mask(top_left=(1, 3), top_right=(1, 5)))
    return [folder / "pairs"]


def write_good(folder: Path, *more: object) -> list[object]:
    write_pair(folder / "pairs", "x", mask=make_mask())
    return [folder / "pairs", *more]


BAD_INPUTS: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "no folder": (lambda folder: [folder / "none"], "not a folder"),
    "no layout": (lambda folder: [folder], "laid out in no way"),
    "no pair of the split": (
        lambda folder: write_good(folder, "--split", "train", "--captions", folder / "c.json"),
        "c.json",
    ),
    "values of any meaning": (write_odd_masks, "masks of the values 3, 5"),
    "class values": (lambda folder: write_good(folder, "--class-values", "tree=1"), "class values 'tree=1'"),
    "roads without a value": (
        lambda folder: write_good(folder, "--road-masks", "--class-values", "building=255"),
        "masks that cover roads",
    ),
    "scenes without polygons": (lambda folder: write_good(folder, "--kind", "geotiff"), "no file for"),
    "output is a file": (lambda folder: write_good(folder, "-o", folder / "pairs/A/x.png"), "cannot be written"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_wrong_input_ends_with_one_message(tmp_path, run_main, case):
    make_arguments, found = BAD_INPUTS[case]
    arguments = make_arguments(tmp_path)

    code, _, shown = run_main(*arguments, *(() if "-o" in arguments else ("-o", tmp_path / "set")))

    assert code == 2
    assert found in shown
    assert "Traceback" not in shown
    assert "To do: " in shown

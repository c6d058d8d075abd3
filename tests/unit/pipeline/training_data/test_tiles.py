"""A folder of made tiles: images, masks and facts that say the same thing, and a contact sheet to look at."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from model.errors import InputError
from model.synthesis.pairs import TILES_PER_LANDSCAPE, synthesize_tiles
from pipeline.training_data.tiles import SyntheticTiles, draw_contact_sheet, write_synthetic_tiles

SETTINGS = {"size_px": 64, "resolution_m": 1.0, "change_level": 0.8}
SEED, N_TILES = 2, 12


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> SyntheticTiles:
    folder = tmp_path_factory.mktemp("tiles") / "new"
    return write_synthetic_tiles(folder, n_tiles=N_TILES, seed=SEED, **SETTINGS)


def test_files_hold_the_pixels_of_the_pairs(tiles: SyntheticTiles) -> None:
    first = SEED * TILES_PER_LANDSCAPE
    pairs = list(synthesize_tiles(range(first, first + N_TILES), **SETTINGS))
    names = sorted(path.name for path in (tiles.folder / "A").iterdir())
    assert names == [f"synthetic_{pair.seed:08d}.png" for pair in pairs]
    for name, pair in zip(names, pairs, strict=True):
        for part, expected in (("A", pair.before), ("B", pair.after), ("label", pair.change_mask)):
            np.testing.assert_array_equal(np.array(Image.open(tiles.folder / part / name)), expected)


def test_facts_agree_with_the_masks(tiles: SyntheticTiles) -> None:
    lines = [json.loads(line) for line in (tiles.folder / "facts.jsonl").read_text().splitlines()]
    assert len(lines) == tiles.n_tiles == N_TILES
    n_changed = 0
    for facts in lines:
        mask = np.array(Image.open(tiles.folder / "label" / f"{facts['name']}.png"))
        n_changed += bool(mask.any())
        assert bool((mask == 255).any()) == bool(facts["building"]["came"] + facts["building"]["went"])
        assert facts["is_removal"] in (False, True)
    assert tiles.n_changed == n_changed > 0


def test_nothing_else_is_left(tiles: SyntheticTiles) -> None:
    assert {path.name for path in tiles.folder.iterdir()} == {"A", "B", "label", "facts.jsonl", "contact_sheet.jpg"}


def test_the_contact_sheet_shows_each_pair_before_and_after() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]
    pictures = [
        (np.full((64, 64, 3), colour, np.uint8), np.full((32, 32, 3), colour[::-1], np.uint8)) for colour in colours
    ]
    sheet = draw_contact_sheet(pictures)
    assert sheet.shape == (2 * 262, 4 * 518, 3)
    for index, colour in enumerate(colours):
        top, left = index // 4 * 262, index % 4 * 518
        assert tuple(sheet[top + 128, left + 128]) == colour
        assert tuple(sheet[top + 128, left + 256 + 128]) == colour[::-1]
    assert (sheet[262 + 100, 518:] == 255).all()


def test_real_pairs_stand_below_the_made_ones(tmp_path: Path) -> None:
    for part, level in (("A", 10), ("B", 250)):
        (tmp_path / "real" / part).mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / "real" / part / "one.png")
    made = write_synthetic_tiles(tmp_path / "made", n_tiles=4, beside=tmp_path / "real", **SETTINGS)
    sheet = cv2.imread(str(made.contact_sheet))
    assert sheet.shape == (2 * 262, 4 * 518, 3)
    assert abs(int(sheet[262 + 128, 128, 0]) - 10) < 4
    assert abs(int(sheet[262 + 128, 256 + 128, 0]) - 250) < 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tiles": 0}, "0 tiles were asked for; expected 1 or more"),
        ({"size_px": 32}, "size_px is 32; expected 64 to 4096 pixels; pass another size"),
        ({"resolution_m": 9.0}, "resolution_m is 9.0; expected 0.2 to 2.0 metres"),
        ({"removal_level": 2.0}, "removal_level is 2.0; expected 0"),
        ({"beside": Path("nowhere")}, "no pairs in nowhere; expected images of equal names in its folders A and B"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_synthetic_tiles(tmp_path / "out", **{"n_tiles": 1, **arguments})
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for part in ("A", "B"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "torn.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"torn\.png cannot be read; expected a PNG or JPEG image"):
        write_synthetic_tiles(tmp_path / "out", n_tiles=1, beside=tmp_path, **SETTINGS)

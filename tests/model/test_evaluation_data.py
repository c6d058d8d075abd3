"""What is read of folders and files, what is true of it, and what is left out and why."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.changechat.masks import ClassValues
from model.errors import InputError
from model.evaluation.changechat import open_changechat
from model.evaluation.pair_folders import FolderSelection, find_scene, open_pair_folder
from model.interface import PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate
from model.prompts import load_prompt_book

PROMPTS = load_prompt_book().prompts
SIDE = 48


def write_image(file: Path, *, value: int = 90, side: int = SIDE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(file)


def write_pair(folder: Path, stem: str, *, mask: np.ndarray | None = None, side: int = SIDE) -> None:
    write_image(folder / "A" / f"{stem}.png", side=side)
    write_image(folder / "B" / f"{stem}.png", value=120, side=side)
    if mask is not None:
        (folder / "label").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "label" / f"{stem}.png")


def paint_mask(*boxes: tuple[int, int, int], value: int = 255) -> np.ndarray:
    """Squares given by row, column and side."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row, col, side in boxes:
        mask[row : row + side, col : col + side] = value
    return mask


def write_captions(folder: Path, **pairs: dict) -> None:
    entries = [
        {"filename": f"{stem}.png", "split": "val", "changeflag": 1, "captions": ["a house is built ."]} | facts
        for stem, facts in pairs.items()
    ]
    (folder / "captions.json").write_text(json.dumps({"pairs": entries}))


def read_all(folder: Path, **selection):
    opened = open_pair_folder(folder, selection=FolderSelection(**selection))
    return opened, {tile.name: tile for tile in opened.read_tiles(prompts=PROMPTS)}


def list_truths(tile) -> dict:
    return {case.prompt.kind: case.truth for case in tile.cases}


def test_masks_tell_what_is_right(tmp_path):
    write_pair(tmp_path, "a", mask=paint_mask((2, 2, 8), (34, 34, 12)))
    write_pair(tmp_path, "b", mask=paint_mask())
    _, tiles = read_all(tmp_path)
    assert list_truths(tiles["a"]) == {
        PromptKind.CLASSIFY: ParsedClassify(is_changed=True),
        PromptKind.COUNT: ParsedCount(building_count=2, road_count=None),
        PromptKind.LOCATE: ParsedLocate(building_cells=("top-left", "bottom-right"), road_cells=None),
    }
    assert list_truths(tiles["b"])[PromptKind.CLASSIFY] == ParsedClassify(is_changed=False)
    assert tiles["a"].pixels.shape == (2, 3, SIDE, SIDE)
    assert (tiles["a"].pixels[0] == 90).all()
    assert (tiles["a"].pixels[1] == 120).all()


def test_masks_of_two_classes_tell_of_roads_too(tmp_path):
    write_pair(tmp_path, "a", mask=paint_mask((2, 2, 8)))
    write_pair(tmp_path, "b", mask=paint_mask((2, 2, 8), value=128))
    _, tiles = read_all(tmp_path)
    assert list_truths(tiles["a"])[PromptKind.COUNT] == ParsedCount(building_count=1, road_count=0)
    assert list_truths(tiles["b"])[PromptKind.COUNT] == ParsedCount(building_count=0, road_count=1)
    _, tiles = read_all(tmp_path, class_values=ClassValues(building=(128,), road=(255,)))
    assert list_truths(tiles["a"])[PromptKind.COUNT] == ParsedCount(building_count=0, road_count=1)


def test_odd_mask_values_are_buildings_and_noted(tmp_path):
    write_pair(tmp_path, "a", mask=paint_mask((2, 2, 8), value=3) + paint_mask((20, 20, 8), value=7))
    opened, tiles = read_all(tmp_path)
    assert list_truths(tiles["a"])[PromptKind.COUNT] == ParsedCount(building_count=2, road_count=None)
    assert "any value but 0" in opened.notes[0]


def test_what_people_say_decides_whether_something_changed(tmp_path):
    write_pair(tmp_path, "val_000017", mask=paint_mask())
    write_captions(tmp_path, val_000017={"captions": ["a road is built .", "a new road ."]})
    _, tiles = read_all(tmp_path)
    tile = tiles["val_000017"]
    assert list_truths(tile)[PromptKind.CLASSIFY] == ParsedClassify(is_changed=True)
    (described,) = (case for case in tile.cases if case.prompt.kind is PromptKind.DESCRIBE)
    assert described.references == ("a road is built .", "a new road .")
    assert described.is_changed is True
    assert (tile.flag, tile.labelled.facts.is_changed) == (True, False)
    assert tile.scene == find_scene("val_000018") == "val_2"


def test_pairs_without_a_mask_are_judged_by_captions_alone(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b", mask=paint_mask())
    write_captions(tmp_path, a={}, b={"changeflag": 0})
    opened, tiles = read_all(tmp_path)
    assert set(list_truths(tiles["a"])) == {PromptKind.DESCRIBE, PromptKind.CLASSIFY}
    assert set(list_truths(tiles["b"])) == {case.kind for case in PROMPTS}
    assert opened.skipped == []
    assert any("1 of 2 pairs have no mask" in note for note in opened.notes)


def test_boxes_give_parts_of_panels_their_captions(tmp_path):
    write_pair(tmp_path, "panel", mask=paint_mask((2, 2, 8)))
    file = tmp_path / "boxes.json"
    boxes = [
        {"panel": "panel.png", "box_xyxy": [24, 0, 48, 24], "changeflag": 1, "captions": ["a road ."]},
        {"panel": "other.png", "box_xyxy": [0, 0, 24, 24], "changeflag": 1, "captions": ["a road ."]},
    ]
    file.write_text(json.dumps(boxes))
    opened, tiles = read_all(tmp_path, tile_size_px=24, captions=file)
    assert list(tiles) == ["panel_0_0", "panel_0_24", "panel_24_0", "panel_24_24"]
    told = tiles["panel_0_24"]
    assert {tile.scene for tile in tiles.values()} == {"panel"}
    assert list_truths(tiles["panel_0_0"])[PromptKind.CLASSIFY] == ParsedClassify(is_changed=True)
    # The boxes tell of some parts only: all parts are judged by the mask.
    assert list_truths(told)[PromptKind.CLASSIFY] == ParsedClassify(is_changed=False)
    assert told.flag is True
    assert [case.is_changed for case in told.cases if case.references] == [True]
    assert PromptKind.DESCRIBE not in list_truths(tiles["panel_0_0"])
    assert "1 of 2 boxes with captions are no tile" in opened.notes[-1]


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path):
    for stem in ("good", "corrupt", "small", "lonely", "bare"):
        write_pair(tmp_path, stem, mask=paint_mask())
    whole = (tmp_path / "B" / "good.png").read_bytes()
    (tmp_path / "B" / "corrupt.png").write_bytes(whole[: len(whole) // 2])
    write_image(tmp_path / "B" / "small.png", side=24)
    (tmp_path / "B" / "lonely.png").unlink()
    (tmp_path / "label" / "bare.png").unlink()
    opened, tiles = read_all(tmp_path)
    assert list(tiles) == ["good"]
    reasons = {one.name: one.reason for one in opened.skipped}
    assert set(reasons) == {"corrupt", "small", "lonely", "bare"}
    assert "cannot be read" in reasons["corrupt"]
    assert "48 x 48, 24 x 24, 48 x 48" in reasons["small"]
    assert "later date" in reasons["lonely"]
    assert "no mask" in reasons["bare"]


def test_splits_are_kept_apart_and_empty_ones_refused(tmp_path):
    for stem in ("train_000001", "val_000001"):
        write_pair(tmp_path, stem, mask=paint_mask())
    _, tiles = read_all(tmp_path, split="val")
    assert list(tiles) == ["val_000001"]
    with pytest.raises(InputError, match=r"no pair of the split test; expected .+; "):
        read_all(tmp_path, split="test")
    with pytest.raises(InputError, match=r"no pair 'x\*' .+; expected .+; correct"):
        read_all(tmp_path, pattern="x*")


def test_captions_without_words_are_noted_and_refused_where_there_are_no_others(tmp_path):
    for stem in ("a", "b"):
        write_pair(tmp_path, stem, mask=paint_mask())
    write_captions(tmp_path, a={"captions": ["", " . ", "a house ."]}, b={"captions": []})
    opened, tiles = read_all(tmp_path)
    assert [case.references for case in tiles["a"].cases if case.references] == [("a house .",)]
    assert "captions without words" in opened.notes[0]
    write_captions(tmp_path, a={"captions": ["", "."]}, b={"captions": ["?"]})
    with pytest.raises(ValueError, match=r"without a word in any .+; expected words .+; correct"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"panel": "p.png", "box_xyxy": [0, 0, 24], "captions": ["a"]}, "entry 1"),
        ({"panel": "p.png", "box_xyxy": [0, 0, 24, 24], "captions": "a house"}, "captions 'a house'"),
        ({"panel": "p.png", "box_xyxy": [0, 0, 24, 24], "captions": ["two"]}, "given twice"),
    ],
)
def test_boxes_of_another_form_are_named(entry, message, tmp_path):
    write_pair(tmp_path, "p", mask=paint_mask())
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps([{"panel": "p.png", "box_xyxy": [0, 0, 24, 24], "captions": ["one"]}, entry]))
    with pytest.raises(ValueError, match=rf"{message}.*; expected .+; "):
        open_pair_folder(tmp_path, selection=FolderSelection(captions=file))


def talk(*turns: tuple[str, str]) -> list[dict]:
    return [
        {"from": speaker, "value": words}
        for turn in turns
        for speaker, words in zip(("human", "gpt"), turn, strict=True)
    ]


CLASSIFY, COUNT, LOCATE = (next(p.text for p in PROMPTS if p.kind.value == k) for k in ("classify", "count", "locate"))


def test_a_changechat_file_gives_each_pair_its_questions(tmp_path):
    for name in ("x", "y"):
        write_image(tmp_path / "images" / "test" / "A" / f"{name}.png")
        write_image(tmp_path / "images" / "test" / "B" / f"{name}.png")
    x, y = ([f"test/A/{name}.png", f"test/B/{name}.png"] for name in "xy")
    records = [
        {"id": 1, "image": x, "changeflag": 1, "conversations": talk((f"<image>{CLASSIFY}", "Yes"))},
        {
            "id": 2,
            "image": x,
            "changeflag": 1,
            "conversations": talk((COUNT, "2 roads has changed, and 1 building ...")),
        },
        {"id": 3, "image": x, "changeflag": 1, "conversations": talk((LOCATE, "roads: []. buildings: ['top-left']."))},
        {"id": 4, "image": x, "changeflag": 1, "conversations": talk(("Any new trees?", "No, none."))},
        {"image_A": x[0], "image_B": x[1], "changeflag": 1, "captions": ["a house .", "one house ."]},
        {
            "id": 5,
            "image": y,
            "changeflag": 0,
            "conversations": talk((CLASSIFY, "No"), ("And the roads?", "The same.")),
        },
        {"id": 6, "image": y, "changeflag": 0, "conversations": talk((COUNT, "it is hard to say"))},
    ]
    file = tmp_path / "test.json"
    file.write_text(json.dumps(records))
    opened = open_changechat(file, images=tmp_path / "images")
    tiles = {tile.name: tile for tile in opened.read_tiles()}
    kinds = [case.prompt.kind.value for case in tiles["x"].cases]
    assert kinds == ["classify", "count", "locate", "ask", "describe"]
    truths = list_truths(tiles["x"])
    assert truths[PromptKind.COUNT] == ParsedCount(building_count=1, road_count=2)
    assert truths[PromptKind.LOCATE] == ParsedLocate(building_cells=("top-left",), road_cells=())
    assert tiles["x"].cases[-1].references == ("a house .", "one house .")
    assert tiles["x"].building_count == 1
    first, second = tiles["y"].cases
    assert first.is_in_dialogue
    assert second.is_in_dialogue
    assert second.prompt.text == f"q: {CLASSIFY} a: No  q: And the roads?"
    assert second.references == ("The same.",)
    assert [one.name for one in opened.skipped] == ["6"]
    with pytest.raises(ValueError, match=r"no instruction of split 'val' .+; expected some of the splits test; "):
        open_changechat(file, images=tmp_path / "images", split="val")


def test_images_that_are_not_there_are_listed(tmp_path):
    file = tmp_path / "test.json"
    file.write_text(json.dumps([{"image": ["A/x.png", "B/x.png"], "conversations": talk((CLASSIFY, "Yes"))}]))
    opened = open_changechat(file, images=tmp_path)
    assert list(opened.read_tiles()) == []
    assert [one.name for one in opened.skipped] == ["x"]
    assert "not there" in opened.skipped[0].reason

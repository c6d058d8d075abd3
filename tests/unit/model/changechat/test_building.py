"""Sources with known masks and captions must give the records that ChangeChat-105k's rules prescribe."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from made_pairs import SIZE_PX, make_mask, write_captions, write_pair
from PIL import Image
from rasterio.features import shapes

from model.changechat.building import build_set
from model.changechat.layouts import Layout, detect_layout, find_pairs
from model.changechat.masks import LEVIR_MCI_VALUES, ClassValues, infer_class_values, parse_class_values, read_mask
from model.errors import InputError
from model.interface import CELL_NAMES, PromptKind
from model.parsing import parse_answer

CAPTIONS = ("a house is built .", "a new house appears among the trees .", "one villa .")


def list_answers(records, kind: PromptKind) -> list[str]:
    return [turn.answer for record in records if record.kind is kind for turn in record.turns]


def test_a_pair_with_roads_gives_all_kinds(tmp_path):
    write_pair(tmp_path, "x", mask=make_mask(top_left=(3, 255), bottom_right=(1, 128)))
    write_pair(tmp_path, "y", mask=make_mask())
    write_captions(tmp_path / "captions.json", ("x.png", "train", 1, CAPTIONS))

    records = build_set(find_pairs(tmp_path)).records

    of_x, of_y = ([r for r in records if r.before_image == f"A/{name}.png"] for name in "xy")
    assert list_answers(of_x, PromptKind.DESCRIBE) == [
        "A house is built.",
        "A new house appears among the trees.",
        "One villa.",
    ]
    assert list_answers(of_x, PromptKind.CLASSIFY) == ["Yes"]
    assert list_answers(of_x, PromptKind.COUNT) == ["1 road has changed, and 3 buildings has changed."]
    assert list_answers(of_x, PromptKind.LOCATE) == ["roads: ['bottom-right']. buildings: ['top-left']."]
    assert list_answers(of_x, PromptKind.DIALOGUE) == [
        "Yes",
        "1 road has changed, and 3 buildings has changed.",
        "A new house appears among the trees.",
    ]
    assert list_answers(of_y, PromptKind.COUNT) == [
        "There are no changes in roads or buildings between the two images."
    ]
    assert list_answers(of_y, PromptKind.LOCATE) == ["roads: []. buildings: []."]
    assert list_answers(of_y, PromptKind.DIALOGUE)[:2] == [
        "No",
        "No roads has changed, and no buildings has changed.",
    ]
    assert [int(record.id) for record in records] == list(range(len(records)))


@pytest.mark.parametrize(
    ("squares", "flag", "yes_no", "count", "locate"),
    [
        ((2, 1), None, "Yes", "2 buildings has changed.", "buildings: ['top-left']."),
        ((0, 1), 1, "Yes", "0 buildings has changed.", "buildings: []."),
        ((1, 1), 0, "No", "1 building has changed.", "buildings: ['top-left']."),
        (
            (0, 1),
            0,
            "No",
            "There are no changes in roads or buildings between the two images.",
            "roads: []. buildings: [].",
        ),
    ],
)
def test_without_road_masks_nothing_is_said_of_roads(tmp_path, squares, flag, yes_no, count, locate):
    write_pair(tmp_path, "x", mask=make_mask(top_left=squares))
    if flag is not None:
        write_captions(tmp_path / "captions.json", ("x.png", "train", flag, ()))

    records = build_set(find_pairs(tmp_path)).records

    assert list_answers(records, PromptKind.CLASSIFY) == [yes_no]
    assert list_answers(records, PromptKind.COUNT) == [count]
    assert list_answers(records, PromptKind.LOCATE) == [locate]
    # A flag against the mask leaves nothing known that could be described.
    n_told = 1 if (yes_no == "Yes") == (squares[0] > 0) else 0
    assert len(list_answers(records, PromptKind.DESCRIBE)) == n_told
    assert len(list_answers(records, PromptKind.DIALOGUE)) == 2 + n_told


def test_every_answer_can_be_read_back(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(12):
        cells = rng.choice(CELL_NAMES, size=3, replace=False)
        squares = {c.replace("-", "_"): (int(rng.integers(0, 4)), int(rng.choice([128, 255]))) for c in cells}
        write_pair(tmp_path, f"x{index:02d}", mask=make_mask(**squares))
    built = build_set(find_pairs(tmp_path), class_values=parse_class_values("building=255,road=128"))

    facts = {pair.pair.before_image: pair.facts for pair in built.pairs}
    for record in built.records:
        expected = facts[record.before_image]
        for turn, kind in zip(record.turns, (record.kind, PromptKind.COUNT, PromptKind.DIALOGUE), strict=False):
            parsed = parse_answer(PromptKind.CLASSIFY if kind is PromptKind.DIALOGUE else kind, turn.answer)
            if kind is PromptKind.COUNT:
                assert (parsed.building_count, parsed.road_count) == (expected.building.count, expected.road.count)
            if kind is PromptKind.LOCATE:
                assert parsed.building_cells == tuple(expected.building.cells)
                assert parsed.road_cells == tuple(expected.road.cells)


def count_outlines(mask: np.ndarray) -> int:
    """Count what another library sees as outlines that lie in no hole of another one."""
    outlines = [shapely.geometry.shape(s) for s, v in shapes(mask.astype(np.uint8), connectivity=8) if v]
    filled = [shapely.make_valid(shapely.Polygon(outline.exterior)) for outline in outlines]
    points = [shapely.make_valid(outline).representative_point() for outline in outlines]
    return sum(
        not any(f.contains(point) and f.area > own.area for f in filled)
        for point, own in zip(points, filled, strict=True)
    )


def find_cells(mask: np.ndarray) -> list[str]:
    """List the cells that polygons cover to more than a twentieth."""
    pieces = [shapely.geometry.shape(s) for s, v in shapes(mask.astype(np.uint8), connectivity=4) if v]
    outline = shapely.union_all([shapely.make_valid(piece) for piece in pieces])
    height, width = mask.shape
    rows, cols = ([side * k // 3 for k in range(4)] for side in (height, width))
    boxes = [shapely.box(cols[j], rows[i], cols[j + 1], rows[i + 1]) for i in range(3) for j in range(3)]
    return [name for name, box in zip(CELL_NAMES, boxes, strict=True) if outline.intersection(box).area > box.area / 20]


def test_counts_and_cells_are_those_of_another_library(tmp_path):
    rng = np.random.default_rng(1)
    for index in range(20):
        coarse = rng.random((SIZE_PX // 4, SIZE_PX // 4)) < rng.uniform(0.02, 0.6)
        write_pair(tmp_path, f"x{index:02d}", mask=np.kron(coarse, np.ones((4, 4))).astype(np.uint8))

    pairs = build_set(find_pairs(tmp_path)).pairs

    for pair in pairs:
        mask = np.asarray(Image.open(pair.pair.mask)) > 0
        assert pair.facts.building.count == count_outlines(mask), pair.pair.id
        assert pair.facts.building.cells == find_cells(mask), pair.pair.id


def test_real_masks_measure_as_by_another_library(shared_data):
    built = build_set(find_pairs(shared_data / "data/fixtures/levir_cc"))

    assert {split: sum(pair.pair.split == split for pair in built.pairs) for split in ("train", "val")} == {
        "train": 36,
        "val": 17,
    }
    measured = [pair for pair in built.pairs if pair.facts is not None]
    assert len(measured) == 51
    for pair in measured:
        mask = np.asarray(Image.open(pair.pair.mask)) > 0
        assert pair.facts.building.count == count_outlines(mask), pair.pair.id
        assert pair.facts.building.cells == find_cells(mask), pair.pair.id


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (("images/train/A", "images/train/B"), Layout.LEVIR_CC),
        (("images/test/A", "images/test/B", "images/test/label"), Layout.LEVIR_MCI),
        (("val/A", "val/B", "val/label"), Layout.LEVIR_CD),
        (("A", "B"), Layout.FOLDER),
    ],
)
def test_layouts_are_told_by_their_folders(tmp_path, folders, layout):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert detect_layout(tmp_path) is layout


def test_a_folder_of_no_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="; expected A/ and B/"):
        detect_layout(tmp_path)
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    with pytest.raises(InputError, match="holds no pair; expected"):
        find_pairs(tmp_path)


def test_levir_cc_without_masks_is_described_and_classified(tmp_path):
    write_pair(tmp_path / "images/test", "test_000001", mask=None)
    write_captions(tmp_path / "LevirCCcaptions.json", ("test_000001.png", "test", 0, ("there is no difference .",)))

    built = build_set(find_pairs(tmp_path))

    assert [(r.kind.value, r.split, r.before_image) for r in built.records] == [
        ("describe", "test", "test/A/test_000001.png"),
        ("classify", "test", "test/A/test_000001.png"),
    ]
    assert [note.reason for note in built.notes] == ["no mask"]


def test_splits_are_kept_and_can_be_chosen(tmp_path):
    for split in ("train", "val", "test"):
        write_pair(tmp_path / split, f"{split}_1", mask=make_mask(center_center=(1, 255)))

    assert [pair.split for pair in find_pairs(tmp_path).pairs] == ["train", "val", "test"]
    assert [pair.split for pair in find_pairs(tmp_path, splits=["test"]).pairs] == ["test"]


def test_a_folder_tells_splits_by_names_or_not_at_all(tmp_path):
    for stem in ("512_val_000", "town"):
        write_pair(tmp_path, stem, mask=make_mask())

    assert {pair.id: pair.split for pair in find_pairs(tmp_path).pairs} == {"512_val_000": "val", "town": "train"}
    assert {pair.id: pair.split for pair in find_pairs(tmp_path, splits=["test"]).pairs} == {"town": "test"}


def test_bad_pairs_are_skipped_and_listed(tmp_path):
    write_pair(tmp_path, "good", mask=make_mask(top_left=(1, 255)))
    write_pair(tmp_path, "cut", mask=make_mask())
    file = tmp_path / "B/cut.png"
    file.write_bytes(file.read_bytes()[:60])
    write_pair(tmp_path, "mask_cut", mask=make_mask())
    (tmp_path / "label/mask_cut.png").write_bytes(b"no image")
    write_pair(tmp_path, "mask_small", mask=make_mask()[:64])
    write_pair(tmp_path, "after_large", mask=make_mask())
    Image.new("RGB", (128, 128)).save(tmp_path / "B/after_large.png")
    write_pair(tmp_path, "lonely", mask=make_mask())
    (tmp_path / "B/lonely.png").unlink()
    write_pair(tmp_path, "no_mask", mask=None)
    write_pair(tmp_path, "good", mask=make_mask(top_left=(1, 255)), suffix=".jpg")
    (tmp_path / "A/notes.txt").write_text("no image")

    built = build_set(find_pairs(tmp_path))

    assert {pair.pair.id for pair in built.pairs} == {"good"}
    assert sorted((problem.id, problem.reason) for problem in built.skipped) == [
        ("after_large", "sizes differ"),
        ("cut", "image of after cannot be used"),
        ("good", "id comes again"),
        ("lonely", "no image of the later date"),
        ("mask_cut", "mask cannot be used"),
        ("mask_small", "sizes differ"),
        ("no_mask", "neither mask nor captions"),
    ]
    details = {problem.id: problem.detail for problem in built.skipped}
    assert details["mask_small"] == "before 96 x 96, after 96 x 96, mask 96 x 64 pixels"


def test_a_source_of_bad_pairs_alone_is_refused(tmp_path):
    write_pair(tmp_path, "x", mask=None)
    with pytest.raises(ValueError, match=r"none of 1 pairs can be used \(1 x neither .*; expected .*; see"):
        build_set(find_pairs(tmp_path))


def test_empty_splits_and_captions_that_come_again_are_told(tmp_path):
    write_pair(tmp_path / "train", "x", mask=make_mask())
    (tmp_path / "test/A").mkdir(parents=True)
    entries = [("x.png", "train", 0, (text, " .")) for text in ("one", "two")]
    write_captions(tmp_path / "captions.json", *entries)

    source = find_pairs(tmp_path)

    assert source.empty_splits == ("test",)
    assert sorted(note.reason for note in source.notes) == ["captions come again", "captions without words"]
    assert source.pairs[0].captions == ("one",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0], ClassValues(building=None, road=None)),
        ([0, 7], ClassValues(building=None, road=None)),
        ([0, 128, 255], ClassValues(building=(255,), road=(128,))),
        ([0, 1, 2], None),
        ([0, 128, 254], None),
    ],
)
def test_mask_values_are_understood_or_asked_about(values, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"; expected .*; say what they mean: --class-values"):
            infer_class_values(values)
    else:
        assert infer_class_values(values) == expected


def test_values_that_fit_no_mask_are_refused(tmp_path):
    write_pair(tmp_path / "images/train", "x", mask=make_mask(top_left=(1, 1), top_right=(1, 2)))
    with pytest.raises(ValueError, match=r"masks of the values 1, 2; expected 128 or 255; say what they mean"):
        build_set(find_pairs(tmp_path), class_values=LEVIR_MCI_VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("building=255,road=128", ClassValues(building=(255,), road=(128,))),
        (" road = 1 , building = 2+3 ", ClassValues(building=(2, 3), road=(1,))),
        ("road=1", ClassValues(building=(), road=(1,))),
        ("building=0", None),
        ("house=1", None),
        ("building", None),
        ("building=1,building=2", None),
        ("building=1,road=1", None),
    ],
)
def test_class_values_are_parsed(text, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"; expected .*; "):
            parse_class_values(text)
    else:
        assert parse_class_values(text) == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_masks_of_any_mode_are_read(tmp_path, mode):
    expected = make_mask(top_left=(1, 255))
    image = Image.fromarray(expected)
    if mode == "P":
        expected = expected // 255
        image = Image.fromarray(expected)
        image.putpalette([0, 0, 0, 255, 0, 0])
    elif mode == "I;16":
        image = Image.fromarray(expected.astype(np.uint16))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "m.png")

    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), expected)


def test_a_mask_in_colour_is_refused(tmp_path):
    Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="expected whole numbers"):
        read_mask(tmp_path / "m.png")

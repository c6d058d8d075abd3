"""What is written must be what the original reads, what we read, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_pairs import make_mask, write_captions, write_pair

from model.changechat import writing
from model.changechat.building import add_records, build_set
from model.changechat.layouts import find_pairs
from model.changechat.reading import merge_captions, read_changechat, read_records
from model.changechat.schema import KIND_SUFFIXES, Record, Turn
from model.changechat.writing import write_set
from model.interface import PromptKind

CAPTIONS = ("a house is built .", "a new house appears among the trees .", "one villa .")


@pytest.fixture
def source_folder(tmp_path) -> Path:
    """A LEVIR-MCI with two splits."""
    folder = tmp_path / "levir_mci"
    for split, n_buildings in (("train", 3), ("test", 1)):
        mask = make_mask(top_left=(n_buildings, 255), bottom_right=(1, 128))
        write_pair(folder / "images" / split, f"{split}_000001", mask=mask)
    write_captions(
        folder / "LevirCCcaptions.json",
        ("train_000001.png", "train", 1, CAPTIONS),
        ("test_000001.png", "test", 1, ("a house .", "a villa .")),
    )
    return folder


def test_files_hold_what_the_original_reads(source_folder, tmp_path):
    summary = write_set(build_set(find_pairs(source_folder)), tmp_path / "set")

    train = json.loads((tmp_path / "set/changechat_train.json").read_text())
    assert [entry["id"] for entry in train] == list(range(7))
    for entry in train:
        # Its training pairs every message with the next one and opens both paths below one folder.
        assert len(entry["conversations"]) % 2 == 0
        assert {m["from"] for m in entry["conversations"][0::2]} == {"human"}
        assert {m["from"] for m in entry["conversations"][1::2]} == {"gpt"}
        assert entry["conversations"][0]["value"].startswith("<image> <image> Please ")
        assert all((source_folder / "images" / path).is_file() for path in entry["image"])
        assert entry["changeflag"] == 1
    (test,) = json.loads((tmp_path / "set/changechat_test_caption.json").read_text())
    assert test == {
        "id": 0,
        "image_A": "test/A/test_000001.png",
        "image_B": "test/B/test_000001.png",
        "captions": ["a house .", "a villa ."],
        "changeflag": 1,
    }
    assert summary["records"]["train"] == {
        "describe": 3, "classify": 1, "count": 1, "locate": 1, "ask": 0, "dialogue": 1,
    }  # fmt: skip
    assert summary == json.loads((tmp_path / "set/summary.json").read_text())


def test_what_is_written_is_read_back(source_folder, tmp_path):
    built = build_set(find_pairs(source_folder))
    write_set(built, tmp_path / "set")

    read = [
        record
        for split in ("train", "test")
        for suffix in KIND_SUFFIXES.values()
        if (file := tmp_path / "set" / f"changechat_{split}_{suffix}.json").is_file()
        for record in read_records(file)
    ]
    assert read == list(built.records)
    merged = merge_captions(read_changechat(tmp_path / "set/changechat_train.json", images=source_folder / "images"))
    assert [i.references for i in merged if i.kind is PromptKind.DESCRIBE] == [
        ("A house is built.", "A new house appears among the trees.", "One villa.")
    ]
    assert all(instruction.before.is_file() and instruction.after.is_file() for instruction in merged)


def test_the_table_holds_every_question_flat(source_folder, tmp_path):
    write_set(build_set(find_pairs(source_folder)), tmp_path / "set")

    rows = pq.read_table(tmp_path / "set/changechat.parquet").to_pylist()
    assert len(rows) == (3 + 3 + 3) + (2 + 3 + 3)
    assert len({(row["split"], row["id"]) for row in rows}) == len(rows)
    last = [row for row in rows if row["kind"] == "dialogue" and row["split"] == "train"][-1]
    assert last["history"].startswith("q: Please judge")
    assert last["history"].endswith("3 buildings has changed.")
    assert (last["building_count"], last["road_count"], last["is_changed"]) == (3, 1, True)
    assert (last["building_cells"], last["road_cells"]) == ("top-left", "bottom-right")
    assert {row["history"] for row in rows if row["kind"] != "dialogue"} == {""}


def test_equal_sources_give_equal_bytes_and_old_files_go(source_folder, tmp_path):
    built = build_set(find_pairs(source_folder))
    write_set(built, tmp_path / "one")
    write_set(built, tmp_path / "two")
    write_set(build_set(find_pairs(source_folder, splits=["test"])), tmp_path / "three")
    (tmp_path / "three/mine.txt").write_text("stays")
    write_set(built, tmp_path / "three")

    def read_all(folder: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    assert read_all(tmp_path / "one") == read_all(tmp_path / "two")
    assert read_all(tmp_path / "three").pop("mine.txt") == b"stays"
    write_set(build_set(find_pairs(source_folder, splits=["test"])), tmp_path / "three")
    assert not list((tmp_path / "three").glob("changechat_train*"))
    assert (tmp_path / "three/mine.txt").is_file()


def test_a_disk_that_fills_leaves_the_last_good_set(source_folder, tmp_path, monkeypatch):
    built = build_set(find_pairs(source_folder))
    write_set(built, tmp_path / "set")
    before = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_table", fail)
    with pytest.raises(ValueError, match="No space left on device"):
        write_set(build_set(find_pairs(source_folder, splits=["test"])), tmp_path / "set")

    assert {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()} == before


def test_open_questions_stand_beside_their_pair(source_folder):
    built = build_set(find_pairs(source_folder))
    question = Record(
        id="q1",
        split="",
        kind=PromptKind.ASK,
        before_image="train/A/train_000001.png",
        after_image="train/B/train_000001.png",
        is_changed=None,
        turns=(Turn(question="What is new?", answer="A house."),),
    )

    records = add_records(built, [question]).records

    assert [r.kind.value for r in records if r.split == "train"] == [
        "describe", "describe", "describe", "classify", "count", "locate", "ask", "dialogue",
    ]  # fmt: skip
    (added,) = [r for r in records if r.kind is PromptKind.ASK]
    assert (added.id, added.split, added.is_changed) == ("6", "train", True)
    with pytest.raises(ValueError, match=r"a record about x.png and .*; expected a pair of the set; "):
        add_records(built, [Record(**{**vars(question), "before_image": "x.png"})])

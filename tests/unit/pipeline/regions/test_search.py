"""Files of a folder as scenes: which are taken, what tells that one was made anew, and what a run is told of them."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from shapely.geometry import box

from model.errors import InputError
from pipeline.config.region import KeepConfig
from pipeline.config.region_sources import FolderSourceConfig, StacSourceConfig
from pipeline.config.stac import StacConfig
from pipeline.dates import Interval, parse_interval
from pipeline.regions.dates import DatedScene, group_scenes
from pipeline.regions.pair_records import PairRecord, PairState, PairStatus
from pipeline.regions.pairs import name_pair
from pipeline.regions.retention import find_too_old
from pipeline.regions.search import list_pieces, make_scene_config

AREA = box(0, 0, 1, 1)
EVER = Interval(start=None, end=None)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_folder_gives_the_files_that_have_a_date_in_the_window(tmp_path: Path) -> None:
    for name in ("a/s_20240601.tif", "s_20240601_east.tif", "s_20240601_west.tif", "s_20241301.tif", "notes_2024.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "s_20230101.tif").write_bytes(b"x")
    source = FolderSourceConfig(kind="folder", folder=str(tmp_path), files="s_%Y%m%d*.tif")
    windows = [Interval(start=at("2024-01-01"), end=None), Interval(start=at("2030-01-01"), end=at("2029-01-01"))]

    pieces, left_out = list_pieces(source, area=AREA, windows=windows)
    scenes, _ = group_scenes(pieces, area=AREA)

    assert [piece.piece_id for piece in pieces] == ["s_20240601_east.tif", "s_20240601_west.tif"]
    assert [(each.name, "has no date" in each.reason) for each in left_out] == [("s_20241301.tif", True)]
    config = make_scene_config(scenes[0], source=source)
    assert config.uri == (f"{tmp_path}/s_20240601_east.tif", f"{tmp_path}/s_20240601_west.tif")
    assert config.datetime == at("2024-06-01")


def test_file_that_was_written_anew_is_another_version(tmp_path: Path) -> None:
    source = FolderSourceConfig(kind="folder", folder=str(tmp_path))
    (tmp_path / "s20240601.tif").write_bytes(b"one")
    (before,), _ = list_pieces(source, area=AREA, windows=[EVER])

    (tmp_path / "s20240601.tif").write_bytes(b"other")
    (after,), _ = list_pieces(source, area=AREA, windows=[EVER])

    assert (before.piece_id, before.version != after.version) == (after.piece_id, True)


def list_names(folder: Path, files: str = "**/*%Y%m%d*.tif") -> tuple[list[str], list[tuple[str, str]]]:
    source = FolderSourceConfig(kind="folder", folder=str(folder), files=files)
    pieces, left_out = list_pieces(source, area=AREA, windows=[EVER])
    return [piece.piece_id for piece in pieces], [(each.name, each.reason) for each in left_out]


def test_what_is_hidden_or_thrown_away_is_no_scene(tmp_path: Path) -> None:
    hidden = ("._s_20240601.tif", ".Trash-1000/files/s_20240602.tif", "$RECYCLE.BIN/S-1/s_20240603.tif")
    for name in (
        *hidden,
        "__MACOSX/._s_20240604.tif",
        "a/@eaDir/s_20240605.tif",
        "a/lost+found/s_20240606.tif",
        "a/s_20240607.tif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    assert list_names(tmp_path) == (["a/s_20240607.tif"], [])


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "scenes"
    disk.mkdir()
    folder.mkdir()
    (disk / "s_20240601.tif").write_bytes(b"x")
    (folder / "s_20240602.tif").write_bytes(b"x")
    (folder / "linked").symlink_to(disk)
    # Round and round: back to where it is, and to the folder above the other one.
    (folder / "again").symlink_to(folder)
    (disk / "back").symlink_to(folder)

    assert list_names(folder) == (["linked/s_20240601.tif", "s_20240602.tif"], [])


def test_names_in_capitals_with_an_id_or_in_no_utf_8_are_found_or_told(tmp_path: Path) -> None:
    for name in (b"A_20240601.TIF", b"12345678_20240602.tif", b"99991231_20240603_x.tif", b"caf\xe9_20240604.tif"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")

    names, left_out = list_names(tmp_path, "*%Y%m%d*.tif")

    assert names == ["12345678_20240602.tif", "99991231_20240603_x.tif", "A_20240601.TIF"]
    assert left_out == [("caf\\udce9_20240604.tif", "its name is not in UTF-8")]


def test_folder_that_is_not_there_is_named() -> None:
    source = FolderSourceConfig(kind="folder", folder="nowhere")

    with pytest.raises(InputError, match=r"source\.folder nowhere is no folder"):
        list_pieces(source, area=AREA, windows=[EVER])


def test_run_is_told_of_items_by_their_ids_and_their_day() -> None:
    search = StacConfig(href="https://host/v1", collections=("a", "b"), max_cloud_percent=10)
    scene = DatedScene(
        scene_id="x and 1 more", start=at("2024-06-01"), piece_ids=("x", "y"), version="1", collection="a"
    )

    config = make_scene_config(scene, source=StacSourceConfig(search=search))

    assert config.stac is not None
    assert (config.stac.ids, config.stac.collections, config.stac.max_cloud_percent) == (("x", "y"), ("a",), None)
    # One id may stand for a place on every date.
    day = parse_interval(config.stac.datetime or "")
    assert day.touches(at("2024-06-01"), at("2024-06-01"))
    assert not day.touches(at("2024-06-03"), at("2024-06-03"))


def make_state(day: str) -> PairState:
    before, after = (DatedScene(scene_id=d, start=at(d), piece_ids=(d,), version="") for d in ("2020-01-01", day))
    record = PairRecord(
        pair=name_pair(before, after, cell="", settings=""), cell="", settings="", planned_at="2026-01-01"
    )
    return PairState(record=record, status=PairStatus.DONE, reason=None, figures={}, has_folder=True)


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (KeepConfig(), []),
        (KeepConfig(newest=2), [1, 2]),
        (KeepConfig(newest=9), []),
        (KeepConfig(days=40), [1, 2]),
        # A pair stays as long as either rule keeps it; the newest always does.
        (KeepConfig(newest=1, days=80), [1]),
        (KeepConfig(days=1), [1, 2, 3]),
    ],
)
def test_retention(keep: KeepConfig, gone: list[int]) -> None:
    states = [make_state(f"2026-0{month}-01") for month in (1, 2, 3, 4)]

    found = find_too_old(states, keep=keep, now=at("2026-04-05"))

    assert [state.record.pair.after.start.month for state in found] == gone

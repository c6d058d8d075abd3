from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import open_run_folder


def test_what_was_put_is_read(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))

    assert folder.put("answers/a.parquet", b"first") == 5
    folder.put("answers/a.parquet", b"second")

    assert folder.read("answers/a.parquet") == b"second"
    assert (tmp_path / "run" / "answers" / "a.parquet").read_bytes() == b"second"


def test_names_are_listed_sorted_and_below_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    for name in ("b/2", "b/1", "a/1", "top"):
        folder.put(name, b"")

    assert folder.list_names("b") == ["b/1", "b/2"]
    assert folder.list_names() == ["a/1", "b/1", "b/2", "top"]
    assert folder.list_names("nothing") == []


def test_half_written_object_is_not_listed(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put("answers/whole", b"")
    # What the store leaves behind when its process is killed before the rename.
    (tmp_path / "answers" / "torn#1").write_bytes(b"to")

    assert folder.list_names("answers") == ["answers/whole"]


def test_missing_object_is_told(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))

    assert not folder.has("none")
    with pytest.raises(FileNotFoundError):
        folder.read("none")


def test_deleted_objects_are_gone(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put("a", b"")
    folder.put("b", b"")

    folder.delete(["a"])
    folder.delete([])

    assert folder.list_names() == ["b"]


def test_pickled_folder_finds_the_same_files(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put("a", b"content")

    assert pickle.loads(pickle.dumps(folder)).read("a") == b"content"  # noqa: S301


def test_folder_is_made_and_taken_up_again(tmp_path: Path) -> None:
    first = open_run_folder(str(tmp_path / "new" / "run"))
    first.put("marks/a.json", b"{}")

    assert open_run_folder(str(tmp_path / "new" / "run")).list_names() == ["marks/a.json"]


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")

    with pytest.raises(InputError, match=r"thesis\.doc"):
        open_run_folder(str(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="cannot be written to"):
        open_run_folder(str(tmp_path / "file" / "run"))

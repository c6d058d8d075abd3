"""A run's folder that holds what no run has put there: links, pipes, folders for files, and files of others."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import FolderError
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock
from pipeline.storage.names import LOCK_NAME, STORE_NAME
from pipeline.storage.opening import open_run_folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of somebody's, which nothing may change."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("ten years")
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = open_run_folder(str(tmp_path / "run"))
    folder.put("answers/a.parquet", b"answers")
    return folder


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, home: path.symlink_to(home / "thesis.txt"),
    "dangling link": lambda path, home: path.symlink_to(home / "nowhere"),
    "pipe": lambda path, _: os.mkfifo(path),
    "socket": lambda path, _: make_socket(path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_neither_read_nor_removed_nor_waited_for(
    kind: str, folder: RunFolder, home: Path
) -> None:
    path = Path(folder.join("answers/b.parquet"))
    KINDS[kind](path, home)

    for look in (
        lambda: folder.read("answers/b.parquet"),
        lambda: folder.find_size("answers/b.parquet"),
        lambda: folder.open_file("answers/b.parquet"),
        lambda: folder.list_names("answers"),
        lambda: folder.delete(["answers/b.parquet"]),
    ):
        with pytest.raises(FolderError, match=r"link, or something else .*answers.*remove it"):
            look()
    assert os.path.lexists(path)

    folder.put("answers/b.parquet", b"ours")

    assert folder.read("answers/b.parquet") == b"ours"
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]
    assert (home / "thesis.txt").read_text() == "ten years"


@pytest.mark.parametrize("name", ["marks", "report", STORE_NAME, "answers"])
def test_link_in_place_of_a_folder_is_not_followed(name: str, folder: RunFolder, home: Path) -> None:
    shutil.rmtree(folder.join(name), ignore_errors=True)
    Path(folder.join(name)).symlink_to(home)

    for work in (
        lambda: folder.put(f"{name}/new.json", b""),
        lambda: folder.read(f"{name}/thesis.txt"),
        lambda: folder.list_names(name),
        lambda: folder.delete([f"{name}/thesis.txt"]),
        lambda: folder.open_zarr_store(name),
        lambda: folder.check_plain(name),
        lambda: folder.prune(name),
    ):
        with pytest.raises(FolderError, match=f"holds a link.*{name}"):
            work()

    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["../home/thesis.txt", "answers/../../home/thesis.txt", "/etc/passwd", "answers//a"])
def test_name_that_leads_out_is_refused(name: str, folder: RunFolder, home: Path) -> None:
    for work in (folder.read, folder.find_size, lambda name: folder.put(name, b""), lambda name: folder.delete([name])):
        with pytest.raises(FolderError, match="holds a link"):
            work(name)

    assert (home / "thesis.txt").read_text() == "ten years"


def test_folder_in_place_of_a_file_is_no_file(folder: RunFolder) -> None:
    Path(folder.join("run.json")).mkdir()

    assert not folder.has("run.json")
    with pytest.raises(FileNotFoundError):
        folder.read("run.json")
    with pytest.raises(FolderError, match="cannot be written"):
        folder.put("run.json", b"{}")
    assert folder.list_names() == ["answers/a.parquet"]


def test_hard_link_is_left_as_it_is_where_its_name_is_written(folder: RunFolder, home: Path) -> None:
    for name in ("run.json", LOCK_NAME):
        os.link(home / "thesis.txt", folder.join(name))

    folder.put("run.json", b"{}")
    with hold_lock(folder) as lock:
        lock.check()

    assert (home / "thesis.txt").read_text() == "ten years"


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_lock_that_is_no_file_is_refused(kind: str, folder: RunFolder, home: Path) -> None:
    path = Path(folder.join(LOCK_NAME))
    (KINDS | {"folder": lambda path, _: path.mkdir()})[kind](path, home)

    with pytest.raises(FolderError, match=rf"{LOCK_NAME} is a link.*remove it"), hold_lock(folder):
        pass

    assert [each.read_text() for each in home.iterdir()] == ["ten years"]


def test_folder_that_is_gone_is_not_made_again(folder: RunFolder) -> None:
    of_worker: RunFolder = pickle.loads(pickle.dumps(RunFolder(folder.uri)))  # noqa: S301 - as Dask does
    shutil.rmtree(folder.uri)

    for each in (folder, of_worker):
        with pytest.raises(FolderError, match=r"is gone.*run again"):
            each.put("answers/late.parquet", b"")

    assert not Path(folder.uri).exists()
    open_run_folder(folder.uri).put("answers/b.parquet", b"")


def test_what_was_left_of_a_removed_run_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "late.parquet").write_bytes(b"")

    open_run_folder(str(tmp_path)).put("run.json", b"{}")

    assert (tmp_path / "run.json").read_bytes() == b"{}"


def test_file_that_was_begun_under_a_known_name_is_not_written_through(folder: RunFolder, home: Path) -> None:
    for name in ("run.json#1", "run.json.part", ".run.json.part"):
        Path(folder.join(name)).symlink_to(home / "thesis.txt")

    folder.put("run.json", b"{}")

    assert (home / "thesis.txt").read_text() == "ten years"


def test_pruning_removes_empty_folders_and_what_was_never_finished(folder: RunFolder) -> None:
    folder.put("tiles.zarr/pixels/c/0", b"")
    Path(folder.join("tiles.zarr/pixels/c/1#0123456789abcdef")).write_bytes(b"half")
    Path(folder.join("marks")).mkdir()
    Path(folder.join("marks/notes.txt")).write_text("mine")
    folder.delete(["tiles.zarr/pixels/c/0"])

    folder.prune("tiles.zarr")
    folder.prune("marks")

    assert sorted(folder.list_top()) == ["answers", "marks"]
    assert folder.read("marks/notes.txt") == b"mine"

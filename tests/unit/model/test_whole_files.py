"""Files are written whole, and through no link that somebody has laid under a name that can be known before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.changechat.reply_cache import ReplyCache
from model.errors import InputError
from model.images import write_mask
from model.interface import ChangeMasks
from model.whole_files import write_whole
from pipeline.training_data.truth_tiles import write_png


def write_bytes(file: Path) -> None:
    write_whole(file, b"new")


def write_copy(file: Path) -> None:
    source = file.with_name("source")
    source.write_bytes(b"new")
    write_whole(file, source)


def write_change_mask(file: Path) -> None:
    write_mask(ChangeMasks(labels=("building",), probabilities=np.ones((1, 1, 4, 4), np.float32)), file)


def write_truth(file: Path) -> None:
    write_png(np.zeros((4, 4), np.uint8), file)


@pytest.mark.parametrize("write", [write_bytes, write_copy, write_change_mask, write_truth])
def test_a_link_is_replaced_and_not_followed(write: Callable[[Path], None], tmp_path: Path) -> None:
    (precious := tmp_path / "precious").write_bytes(b"mine")
    folder = tmp_path / "out"
    folder.mkdir()
    file = folder / "a.png"
    guesses = [".part", ".partial", ".tmp", ".new", f".{os.getpid()}.part"]
    for name in ["a.png", *(f"a{guess}" for guess in guesses), *(f"a.png{guess}" for guess in guesses)]:
        (folder / name).symlink_to(precious)

    write(file)

    assert precious.read_bytes() == b"mine"
    assert not file.is_symlink()
    assert file.stat().st_size > 0
    assert [each.name for each in folder.iterdir() if "#" in each.name] == []


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", b"new")

    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_others_may_read_it_as_the_mask_of_the_process_says(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"new")
    finally:
        os.umask(former)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_replies_go_into_no_file_behind_a_link(tmp_path: Path) -> None:
    (precious := tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "replies.jsonl").symlink_to(precious)

    with pytest.raises(InputError, match=r"replies\.jsonl cannot be written"):
        ReplyCache(tmp_path / "replies.jsonl")

    assert precious.read_bytes() == b"mine"

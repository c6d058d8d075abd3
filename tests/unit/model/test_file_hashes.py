"""A kept hash is believed for the very file it was made of, and from nobody but the user."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model import file_hashes
from model.file_hashes import CACHE_VARIABLE, find_cache_folder, hash_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "MIN_KEPT_BYTES", 1)
    # The second time of change cannot be set to the past.
    monkeypatch.setattr(file_hashes, "SETTLED_NS", -(10**9))
    return tmp_path / "cache" / "hashes"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed, in their order."""
    names: list[str] = []
    digest = hashlib.file_digest

    def count(stream: Any, name: str) -> Any:
        names.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return names


def write(path: Path, content: bytes = b"weights") -> Path:
    path.write_bytes(content)
    return path


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def forge(entry: Path, **changes: Any) -> None:
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": "00" * 32} | changes))


def test_file_is_hashed_once_per_change(tmp_path: Path, reads: list[str]) -> None:
    file = write(tmp_path / "model.safetensors")

    assert [hash_file(file), hash_file(file)] == [sha256(b"weights")] * 2
    assert len(reads) == 1

    status = file.stat()
    write(file, b"WEIGHTS")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert hash_file(file) == sha256(b"WEIGHTS")
    assert len(reads) == 2


def put_other_in_place(file: Path) -> None:
    status = file.stat()
    other = write(file.with_name("other"), b"WEIGHTS")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.write_text("{"),
        lambda entry: entry.write_text("[]"),
        lambda entry: entry.write_bytes(b"\xff"),
        lambda entry: forge(entry, sha256=5),
        lambda entry: forge(entry, sha256="zz"),
        lambda entry: forge(entry, st_ino=1),
        lambda entry: entry.write_text("[" * 9000),
    ],
)
def test_damaged_entries_count_for_nothing(tmp_path: Path, cache: Path, damage: Callable[[Path], object]) -> None:
    file = write(tmp_path / "model.safetensors")
    hash_file(file)
    [entry] = cache.iterdir()

    damage(entry)

    assert hash_file(file) == sha256(b"weights")


def test_another_file_in_its_place_is_hashed(tmp_path: Path) -> None:
    file = write(tmp_path / "model.safetensors")
    hash_file(file)

    put_other_in_place(file)

    assert hash_file(file) == sha256(b"WEIGHTS")


def link_elsewhere(entry: Path) -> None:
    entry.rename(entry.parent.parent / "elsewhere")
    entry.symlink_to(entry.parent.parent / "elsewhere")


def make_pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


@pytest.mark.parametrize(
    "spoil", [link_elsewhere, make_pipe, lambda entry: entry.chmod(0o666), lambda entry: entry.parent.chmod(0o777)]
)
def test_entries_that_others_may_have_written_are_not_believed(
    tmp_path: Path, cache: Path, spoil: Callable[[Path], object]
) -> None:
    file = write(tmp_path / "model.safetensors")
    hash_file(file)
    [entry] = cache.iterdir()
    forge(entry)
    assert hash_file(file) == bytes(32)

    spoil(entry)

    assert hash_file(file) == sha256(b"weights")


def test_entries_of_another_user_are_not_believed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "model.safetensors")
    hash_file(file)
    forge(next(cache.iterdir()))

    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    assert hash_file(file) == sha256(b"weights")


def test_file_that_has_just_changed_is_neither_believed_nor_kept(
    tmp_path: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED_NS", 3600 * 10**9)
    file = write(tmp_path / "model.safetensors")

    hash_file(file)
    hash_file(file)

    assert len(reads) == 2
    assert not cache.exists()


def test_small_files_are_hashed_each_time(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "MIN_KEPT_BYTES", 100)

    assert hash_file(write(tmp_path / "config.json")) == sha256(b"weights")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({CACHE_VARIABLE: "/var/own", "XDG_CACHE_HOME": "/xdg"}, Path("/var/own")),
        ({CACHE_VARIABLE: ""}, None),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/deltavlm")),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/ada"}, Path("/home/ada/.cache/deltavlm")),
    ],
)
def test_cache_is_where_the_user_or_the_standard_says(
    environment: dict[str, str], expected: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert find_cache_folder() == expected


def test_nothing_is_kept_where_the_folder_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(write(tmp_path / "file") / "cache"))

    assert hash_file(write(tmp_path / "model.safetensors")) == sha256(b"weights")

"""The command that makes scenes or tiles: what it writes, and what its last line says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import synthesize as synthesize_command
from flows.cli.main import main
from model.synthesis.pairs import DEFAULT_CHANGE_LEVEL, DEFAULT_REMOVAL_LEVEL
from pipeline.training_data import synthetic_archives
from pipeline.training_data.synthetic_archives import SyntheticArchive

RunMain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunMain:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltavlm", "data", "synthesize", *words])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_defaults_are_those_of_the_generator() -> None:
    assert synthesize_command.CHANGE_LEVEL == DEFAULT_CHANGE_LEVEL
    assert synthesize_command.TILE_REMOVAL_LEVEL == DEFAULT_REMOVAL_LEVEL


def test_tiles_are_written_and_counted(tmp_path: Path, run_main: RunMain) -> None:
    folder = tmp_path / "tiles"
    code, out, _ = run_main(str(folder), "--n-tiles", "3", "--size-px", "64", "--seed", "1")
    assert code == 0
    result = json.loads(out.splitlines()[-1])
    assert result == {
        "folder": str(folder),
        "contact_sheet": str(folder / "contact_sheet.jpg"),
        "n_tiles": 3,
        "n_changed": result["n_changed"],
    }
    assert [len(list((folder / part).iterdir())) for part in ("A", "B", "label")] == [3, 3, 3]


def test_archive_is_written_with_dates_of_its_own(
    tmp_path: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def write(folder: Path, **values: Any) -> SyntheticArchive:
        asked.update(values)
        return SyntheticArchive(catalog=folder / "c", area=folder / "a", truth=folder / "t")

    monkeypatch.setattr(synthetic_archives, "write_synthetic_archive", write)
    code, out, _ = run_main(str(tmp_path), "--archive", "--seed", "2")
    assert (code, json.loads(out)) == (0, {name: str(tmp_path / name[0]) for name in ("catalog", "area", "truth")})
    assert (asked["seed"], asked["size_px"], len(asked["dates"])) == (2, synthesize_command.ARCHIVE_SIZE_PX, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--archive", "--n-tiles", "2"), "give one of the two"),
        (("--archive", "--dates", "2026-13-01"), "write days as"),
        (("--n-tiles", "2", "--resolution-m", "9"), "resolution_m is 9.0"),
        (("--size-px", "64", "--removal-level", "7"), "the removal level is 7.0"),
        (("--n-tiles", "2", "--beside", "nowhere"), "no pairs in nowhere"),
    ],
)
def test_wrong_words_end_with_a_message_and_nothing_written(
    tmp_path: Path, run_main: RunMain, words: tuple[str, ...], message: str
) -> None:
    code, out, err = run_main(str(tmp_path / "out"), *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()

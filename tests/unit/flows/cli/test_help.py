"""What ``--help`` shows in a wide and in a narrow terminal, and where the line of JSON goes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli.console import print_result
from flows.cli.main import app, main


def list_commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """List what can be typed: the command and all below it."""
    yield words
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from list_commands(below, (*words, name))


COMMANDS = list(list_commands(get_command(app)))
GROUPS = [(), ("data",), ("model",)]


def run(
    *options: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run ``deltavlm`` in this process; gives exit code and stdout."""
    monkeypatch.setattr("sys.argv", ["deltavlm", *words, *options])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), capsys.readouterr().out


@pytest.mark.parametrize("n_columns", [50, 80])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_the_terminal_and_is_whole(
    words: tuple[str, ...], n_columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(n_columns))

    code, shown = run("--help", words=words, monkeypatch=monkeypatch, capsys=capsys)

    assert code == 0
    assert max(map(len, shown.splitlines())) <= n_columns
    for noise in ("…", "<str", "<bool", "<path", "{", "[["):
        assert noise not in shown
    assert ("Example:\n  deltavlm " in shown) is (words not in GROUPS)


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_a_command_that_only_has_others_shows_its_help(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run(words=words, monkeypatch=monkeypatch, capsys=capsys)

    assert alone == run("--help", words=words, monkeypatch=monkeypatch, capsys=capsys)
    assert alone[0] == 0


class Terminal(io.StringIO):
    """A stdout that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdout", "is_json", "is_printed"),
    [(io.StringIO(), False, True), (io.StringIO(), True, True), (Terminal(), False, False), (Terminal(), True, True)],
)
def test_json_is_for_programs(
    stdout: io.StringIO, is_json: bool, is_printed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", stdout)

    print_result({"n_changes": 3}, is_json=is_json)

    assert [json.loads(line) for line in stdout.getvalue().splitlines()] == [{"n_changes": 3}] * is_printed

"""What a terminal is sent: no answer, name or reason makes it do anything."""

from __future__ import annotations

import sys

import pytest

from flows.cli.console import make_console, make_table, print_result, show_facts, show_problem
from model.errors import InputError
from pipeline.runs.check import Facts

HOSTILE = "\x1b]0;pwned\x07\x1b[2Jsafe\u202efdp.exe\x9b31m [red]not red[/red] :warning:"


def test_nothing_that_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    table = make_table("name")
    table.add_row("\x1b[5mcell")
    facts = Facts(figures={f"n_tiles_unreadable: {HOSTILE}": HOSTILE}, problems=[HOSTILE])

    console.print(HOSTILE, markup=False)
    console.print(table)
    show_facts(console, facts)
    show_problem(console, InputError(HOSTILE, expected=HOSTILE, remedy=HOSTILE))

    printed = capsys.readouterr().err
    assert not set(printed) & set("\x1b\x07\x9b\u202e")
    assert "safefdp.exe [red]not red[/red] :warning:" in printed
    assert printed.replace("\n", "").count("pwned") == 0


def test_what_json_has_no_number_for_is_a_fault_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)

    with pytest.raises(ValueError, match="JSON"):
        print_result({"seen": float("nan")}, is_json=True)

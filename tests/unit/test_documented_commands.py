"""What the pages for people tell them to type is there: commands with their arguments and options, targets of make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def list_blocks(page: Path, program: str) -> Iterator[list[str]]:
    """List the words of each call of a program in blocks of code, whose long lines end with a backslash."""
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        code = re.sub(r"\s# .*", "", line) if line.startswith("    ") else ""
        calls = (shlex.split(part) for part in code.split("&&"))
        yield from (words[1:] for words in calls if words[:1] == [program])


def list_mentions(page: Path, program: str) -> Iterator[list[str]]:
    """List the words of each call within a sentence, which may leave out what it is not about."""
    for code in re.findall(rf"`{program} ([^`]+)`", page.read_text(encoding="utf-8")):
        yield [word for word in code.split() if word != "..."]


COMMAND: Any = get_command(app)


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Give the command that words begin with, and the words after it."""
    command = COMMAND
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_blocks_and_mentions_are_found() -> None:
    assert ["model", "info", "models/deltavlm-7b"] in list_blocks(ROOT / "docs" / "full-size.md", "deltavlm")
    assert sum(len(list(list_blocks(page, "deltavlm"))) for page in PAGES) > 50
    assert sum(len(list(list_mentions(page, "deltavlm"))) for page in PAGES) > 30


@each_page
def test_a_block_is_what_its_command_takes(page: Path) -> None:
    for words in list_blocks(page, "deltavlm"):
        command, rest = find_command(words)

        assert not isinstance(command, TyperGroup), words
        # It says of each word that it does not know, and of what is missing; nothing is run.
        command.make_context(command.name, rest)


@each_page
def test_a_mention_names_a_command_and_options_that_are_there(page: Path) -> None:
    for words in list_mentions(page, "deltavlm"):
        command, rest = find_command(words)
        assert not isinstance(command, TyperGroup) or not rest or rest[0].startswith("-"), words

        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= {*options, "--help"}, words


@each_page
def test_a_target_of_make_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = [words[0] for calls in (list_blocks, list_mentions) for words in calls(page, "make")]
    assert set(named) <= targets

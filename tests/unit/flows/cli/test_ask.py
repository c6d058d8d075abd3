"""The words of ``deltavlm ask``, what a conversation does with each line, and the one line of JSON at the end."""

from __future__ import annotations

import builtins
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_scenes import CELL_PX, TILE_PX
from PIL import Image
from rich.console import Console
from stand_in_model import StandInModel

from flows.cli.ask import AskRequest, choose_model, compare_models, read_request
from flows.cli.ask_session import Session
from flows.cli.main import main
from model import registry
from model.errors import InputError
from model.interface import ChangeMasks
from model.prompts import load_prompt_book

QUESTIONS = {prompt.name: prompt.text for prompt in load_prompt_book().list_all()}


def make_changed_pair() -> np.ndarray:
    """Give uint8 (date, band, y, x) whose upper left cell changes."""
    pair = np.full((2, 3, TILE_PX, TILE_PX), 40, np.uint8)
    pair[1, :, :CELL_PX, :CELL_PX] = 220
    return pair


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """The options that name two image files."""
    arguments = []
    for name, pixels in zip(("before", "after"), make_changed_pair(), strict=True):
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(tmp_path / f"{name}.png")
        arguments += [f"--{name}", str(tmp_path / f"{name}.png")]
    return arguments


RunAsk = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunAsk:
    """Run ``deltavlm ask`` in this process; gives exit code, stdout and stderr."""

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltavlm", "ask", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def session() -> Session:
    """A conversation about a pair of no run; `session.console.file` holds what is shown."""
    return Session(StandInModel(), make_changed_pair(), console=Console(file=io.StringIO(), width=200))


def read_shown(session: Session) -> str:
    assert isinstance(session.console.file, io.StringIO)
    return session.console.file.getvalue()


@pytest.mark.parametrize(
    ("words", "before", "after", "expected"),
    [
        (["run", "r0000_c0000"], None, None, AskRequest(run="run", tile_id="r0000_c0000")),
        (["run", "r0000_c0000", "Why?"], None, None, AskRequest(run="run", tile_id="r0000_c0000", question="Why?")),
        ([], "a.png", "b.png", AskRequest(before="a.png", after="b.png")),
        (["Why?"], "a.png", "b.png", AskRequest(before="a.png", after="b.png", question="Why?")),
        (["run", "r0000_c0000", ""], None, None, AskRequest(run="run", tile_id="r0000_c0000", question="")),
    ],
)
def test_words_are_sorted(words, before, after, expected) -> None:
    assert read_request(words, before=before, after=after) == expected


@pytest.mark.parametrize(
    ("words", "before", "after", "found"),
    [
        ([], None, None, "neither a run nor two images"),
        (
            ["run", "r0000_c0000", "What", "changed?"],
            None,
            None,
            "4 of RUN TILE QUESTION: run r0000_c0000 What changed?",
        ),
        ([], "a.png", None, "no --after"),
        ([], None, "b.png", "no --before"),
        (["What", "changed?"], "a.png", "b.png", "2 words beside two images"),
        (["nowhere"], None, None, "nowhere is no folder"),
    ],
)
def test_words_that_make_no_sense_get_the_usage(words, before, after, found) -> None:
    with pytest.raises(InputError) as refusal:
        read_request(words, before=before, after=after)

    assert refusal.value.found.startswith(found)


def make_record(*, name: str, weight_hash: str = "1" * 64) -> SimpleNamespace:
    return SimpleNamespace(
        config={"model": {"name": name}}, model={"weight_hash": weight_hash, "model_id": "former@111111111111"}
    )


def test_the_model_is_the_runs_own_unless_another_is_named() -> None:
    assert choose_model(None, record=None) == ("deltavlm-tiny", [])
    assert choose_model(None, record=make_record(name="stand-in")) == ("stand-in", [])
    assert choose_model("other", record=make_record(name="stand-in")) == ("other", [])


def test_a_model_that_is_gone_is_noted() -> None:
    name, notes = choose_model(None, record=make_record(name="/models/gone"))

    assert name == "deltavlm-tiny"
    assert len(notes) == 1
    assert "/models/gone" in notes[0]


def test_other_weights_are_noted() -> None:
    model = StandInModel()

    notes = compare_models(model, record=make_record(name="stand-in"))

    assert len(notes) == 1
    assert "stand-in@1" in notes[0]
    assert "former@111111111111" in notes[0]
    assert compare_models(model, record=make_record(name="x", weight_hash=model.identity.weight_hash)) == []
    assert compare_models(model, record=None) == []


@pytest.mark.parametrize(
    ("name", "kind", "text", "meaning"),
    [
        ("description", "describe", "1 buildings appear.", {"text": "1 buildings appear."}),
        ("changed", "classify", "Yes", {"is_changed": True}),
        (
            "count",
            "count",
            "1 buildings have changed, and 0 roads have changed.",
            {"building_count": 1, "road_count": 0},
        ),
        (
            "location",
            "locate",
            "roads: []. buildings: ['top-left'].",
            {"building_cells": ["top-left"], "road_cells": []},
        ),
        ("objects", "ask", "1 by my eyes", {"text": "1 by my eyes"}),
        ("describe_in_detail", "dialogue", "1, as I said", {"text": "1, as I said"}),
    ],
)
def test_each_kind_of_question_is_answered_in_one_line_of_json(name, kind, text, meaning, images, run_ask) -> None:
    code, out, err = run_ask(*images, "--model", "stand-in", QUESTIONS[name])

    assert code == 0
    assert len(out.splitlines()) == 1
    assert json.loads(out) == {
        "before": images[1],
        "after": images[3],
        "model_id": "stand-in@1",
        "masks": [],
        "notes": [],
        "tile_id": None,
        "question": QUESTIONS[name],
        "kind": kind,
        "text": text,
        "confidence": 0.75,
        "meaning": meaning,
        "n_history_turns": 0,
    }
    assert text in err
    assert "confidence 0.75" in err


def test_piped_lines_are_a_conversation(images, run_ask) -> None:
    lines = "What was built?\n\nAnd [bold]where[/bold]?\n/count\n/nonsense\n/quit\nNot read any more\n"

    code, out, err = run_ask(*images, "--model", "stand-in", stdin=lines.encode())

    result = json.loads(out.splitlines()[-1])
    assert code == 0
    assert [turn["question"] for turn in result["turns"]] == [
        "What was built?",
        "And [bold]where[/bold]?",
        QUESTIONS["count"],
    ]
    assert [turn["kind"] for turn in result["turns"]] == ["ask", "dialogue", "count"]
    assert [turn["n_history_turns"] for turn in result["turns"]] == [0, 1, 0]
    assert "> And [bold]where[/bold]?" in err
    assert "no command /nonsense" in err


def test_a_conversation_ends_with_its_input(images, run_ask) -> None:
    code, out, _ = run_ask(*images, "--model", "stand-in", stdin=b"\xff was built?")

    assert code == 0
    assert json.loads(out)["turns"][0]["question"] == "\N{REPLACEMENT CHARACTER} was built?"
    code, out, _ = run_ask(*images, "--model", "stand-in")
    assert (code, json.loads(out)["turns"]) == (0, [])


def test_an_interrupt_ends_a_conversation_with_what_was_said(images, run_ask, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["What was built?"])

    def type_line(_: str = "") -> str:
        for line in lines:
            return line
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", type_line)

    code, out, _ = run_ask(*images, "--model", "stand-in")

    assert code == 0
    assert [turn["text"] for turn in json.loads(out)["turns"]] == ["1 by my eyes"]


def test_an_interrupted_answer_keeps_the_turns_before(images, run_ask, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = StandInModel.answer_prompts

    def answer_first(self, pairs, *, prompts):
        if prompts[0].text.startswith("q:"):
            raise KeyboardInterrupt
        return answer(self, pairs, prompts=prompts)

    monkeypatch.setattr(StandInModel, "answer_prompts", answer_first)

    code, out, _ = run_ask(*images, "--model", "stand-in", stdin=b"What was built?\nWhere?\n")

    assert code == 0
    assert [turn["text"] for turn in json.loads(out)["turns"]] == ["1 by my eyes"]


def test_a_line_may_be_a_command(session: Session) -> None:
    goes_on = [
        session.handle(line) for line in ("/prompts", "/help", "/reset", "/history", "/tiles", "/tile x", "/mask")
    ]

    shown = read_shown(session)
    assert all(goes_on)
    assert session.turns == []
    assert all(text in shown for text in ("/location", "/dialogue", "Nothing was asked", "deltavlm ask RUN TILE"))
    assert "/mask without a file" in shown
    assert [session.handle(line) for line in ("/quit", "/EXIT", " /q ")] == [False] * 3


def test_the_dialogue_is_three_turns(session: Session) -> None:
    session.handle("What was built?")
    session.handle("/dialogue")
    session.handle("/history")

    assert [turn["kind"] for turn in session.turns] == ["ask", "classify", "count", "dialogue"]
    assert [turn["n_history_turns"] for turn in session.turns] == [0, 0, 1, 2]
    assert f"q: {QUESTIONS['count_separately']}" in read_shown(session)
    assert "q: What was built?" not in read_shown(session)


def test_a_question_that_cannot_be_put_is_a_turn_with_its_error(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInModel, "max_prompt_tokens", 3, raising=False)
    monkeypatch.setattr(StandInModel, "count_tokens", lambda self, text: len(text.split()), raising=False)

    assert session.handle("one two three four")

    (turn,) = session.turns
    assert turn["question"] == "one two three four"
    assert turn["error"].startswith("the question has 4 tokens; expected at most 3")
    assert "Error: the question has 4 tokens" in read_shown(session)


class OutliningModel(StandInModel):
    mask_labels = ("road", "building")

    def predict_masks(self, pairs: np.ndarray, *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        is_changed = np.abs(pairs[:, 1].astype(int) - pairs[:, 0]).mean(axis=1) > 100
        probabilities = np.stack([np.zeros(is_changed.shape), is_changed], axis=1).astype(np.float32)
        return ChangeMasks(labels=self.mask_labels, probabilities=probabilities)


def test_the_mask_goes_into_a_file(images, run_ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load_model", lambda name, **_: OutliningModel())

    code, out, _ = run_ask(*images, "--mask", str(tmp_path / "mask.png"), "Why?")

    expected = np.zeros((TILE_PX, TILE_PX), np.uint8)
    expected[:CELL_PX, :CELL_PX] = 255
    assert code == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)
    (mask,) = json.loads(out)["masks"]
    assert mask == {
        "tile_id": None,
        "file": str(tmp_path / "mask.png"),
        "changed_fraction": {"road": 0.0, "building": round(1 / 9, 6)},
    }


BAD_INPUTS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "nothing": (lambda images: [], "neither a run nor two images"),
    "no such image": (lambda images: [*images[:3], "none.png", "Why?"], "none.png is not there"),
    "no image": (lambda images: [*images[:3], __file__, "Why?"], "test_ask.py cannot be read"),
    "half a pair": (lambda images: images[:2], "no --after"),
    "empty question": (lambda images: [*images, " "], "the question is empty"),
    "model without masks": (lambda images: [*images, "--mask", "mask.png", "Why?"], "has no mask branch"),
    "mask of another kind": (lambda images: [*images, "--mask", "mask.tif", "Why?"], "mask.tif"),
    "mask nowhere": (lambda images: [*images, "--mask", "nowhere/mask.png", "Why?"], "nowhere/mask.png"),
    "no such run": (lambda images: ["nowhere", "r0000_c0000", "Why?"], "nowhere is no folder"),
    "run and images": (lambda images: ["nowhere", "r0000_c0000", *images], "2 words beside two images"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_named_with_a_remedy(
    case: str, images, run_ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_arguments, words = BAD_INPUTS[case]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "300")
    arguments = make_arguments(images)
    model = [] if "--model" in arguments else ["--model", "stand-in"]

    code, out, err = run_ask(*arguments, *model)

    assert code == 2
    assert out == ""
    assert words in err
    assert "Expected: " in err
    assert "To do: " in err
    assert "Traceback" not in err
    assert list((tmp_path / "here").iterdir()) == []

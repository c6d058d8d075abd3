"""``deltavlm data open-questions`` over HTTP: what is asked, kept and paid, and every way in which it goes wrong."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
from made_scenes import command_environment, command_line, read_result
from openai_server import Body, Fault, OpenAiServer, Reply, Script, read_texts, refuse, serve
from patience import PATIENCE_S
from rich.console import Console

from flows.cli.open_questions import AssistantOptions, ask_for_questions
from model.changechat.asking import NotedPair, OpenQuestions, write_open_questions
from model.changechat.assistant import MAX_FAILURES_IN_A_ROW, Assistant
from model.changechat.building import add_records, build_set
from model.changechat.layouts import find_pairs
from model.changechat.pair_notes import note_pair
from model.changechat.reading import read_changechat, read_records
from model.changechat.reply_cache import ReplyCache
from model.errors import InputError
from model.interface import PromptKind
from model.remote.endpoint import Endpoint, EndpointAddress, EndpointSettings
from model.remote.replies import EndpointError

N_PAIRS = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of which number N has N changed buildings, one a column."""
    folder = tmp_path_factory.mktemp("source")
    entries = []
    for name in ("A", "B", "label"):
        (folder / name).mkdir()
    for number in range(N_PAIRS):
        mask = np.zeros((96, 96), np.uint8)
        for column in range(number):
            mask[10:20, 16 * column : 16 * column + 10] = 255
        for name, image in (("A", mask * 0 + 50), ("B", mask // 2 + 50), ("label", mask)):
            stacked = image if name == "label" else np.repeat(image[..., None], 3, axis=2)
            cv2.imwrite(str(folder / name / f"place_{number}.png"), stacked)
        captions = [f"caption of place {number} ."] * 5
        entries.append(
            {"filename": f"place_{number}.png", "split": "train", "captions": captions, "changeflag": number > 0}
        )
    (folder / "captions.json").write_text(json.dumps({"pairs": entries}))
    return folder


def name_place(body: Body) -> str:
    """Find the place that a request is about: its notes stand in the fifth message."""
    lines = body["messages"][4]["content"].splitlines()
    return (
        next(line for line in lines if line.startswith("- caption of")).removeprefix("- caption of ").removesuffix(" .")
    )


def make_items(place: str, *, count: int = 2) -> list[dict[str, str]]:
    return [
        {"question": f"What is number {index} of {place}?", "answer": f"It is thing {index} of {place}."}
        for index in range(count)
    ]


def write_items(body: Body) -> Reply:
    return Reply(text=json.dumps(make_items(name_place(body))))


def note_all(source: Path) -> list[NotedPair]:
    built = build_set(find_pairs(source))
    return [NotedPair(measured=pair, notes=note_pair(pair, class_values=built.class_values)) for pair in built.pairs]


def make_assistant(server: OpenAiServer, cache: Path, *, max_retries: int = 2, **settings: object) -> Assistant:
    endpoint = Endpoint(
        EndpointAddress.parse(server.name), settings=EndpointSettings(timeout_s=PATIENCE_S, max_retries=max_retries)
    )
    return Assistant(endpoint=endpoint, cache=ReplyCache(cache), n_questions=2, **settings)  # type: ignore[arg-type]


def ask(source: Path, script: Script, cache: Path, **settings: object) -> tuple[OpenQuestions, OpenAiServer]:
    with serve(script) as server:
        return write_open_questions(note_all(source), assistant=make_assistant(server, cache, **settings)), server


def list_turns(result: OpenQuestions) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for record in result.records for turn in record.turns]


EXPECTED = [(item["question"], item["answer"]) for number in range(N_PAIRS) for item in make_items(f"place {number}")]


def test_the_command_writes_questions_that_the_set_takes(source: Path, tmp_path: Path, run_command) -> None:
    file = tmp_path / "open.json"
    arguments = ["data", "open-questions", str(source), "--output", str(file), "--questions", "2"]
    arguments += ["--max-requests", "12"]
    with serve(write_items) as server:
        result = run_command(*arguments, "--assistant", server.name)

    assert result.returncode == 0, result.stderr
    assert "6 of 6 pairs to ask about" in result.stderr
    assert len(server.bodies) == N_PAIRS
    told = read_result(result)
    assert (told["questions"], told["pairs_with_questions"], told["failed"], told["rejected"]) == (12, 6, 0, {})
    # The server counts 100 and 10 tokens for every request.
    assert told["used"] == {"requests": 6, "prompt_tokens": 600, "reply_tokens": 60}
    read = read_changechat(file, images=source)
    assert [(one.question, one.answer) for one in read] == EXPECTED
    assert {one.kind for one in read} == {PromptKind.ASK}
    built = build_set(find_pairs(source))
    kinds = Counter(record.kind for record in add_records(built, read_records(file)).records)
    assert kinds[PromptKind.ASK] == 2 * kinds[PromptKind.CLASSIFY] == 12


def test_nothing_is_sent_that_nobody_agreed_to(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    built, console = build_set(find_pairs(source)), Console(file=io.StringIO())
    with serve(write_items) as server:
        options = AssistantOptions(name=server.name, cache=tmp_path / "cache")
        with pytest.raises(InputError, match="nobody agreed to this; expected --yes, or --max-requests; "):
            ask_for_questions(built, options=options, console=console)
        assert server.bodies == []
        agreed, _ = ask_for_questions(built, options=replace(options, is_agreed=True), console=console)
        # Nothing is left to ask for, so nobody need agree to anything.
        again, told = ask_for_questions(built, options=options, console=console)

    assert [record.turns for record in agreed] == [record.turns for record in again]
    assert (told["used"]["requests"], told["exit_code"]) == (0, 0)
    assert len(server.bodies) == N_PAIRS


def test_no_image_is_sent_and_the_temperature_is_changechats(source: Path, tmp_path: Path) -> None:
    _, server = ask(source, write_items, tmp_path / "cache")
    for body in server.bodies:
        assert all(isinstance(message["content"], str) for message in body["messages"])
        assert body["temperature"] == 0.3


def test_what_the_model_is_told_is_what_the_mask_says(source: Path, tmp_path: Path) -> None:
    _, server = ask(source, write_items, tmp_path / "cache")
    body = next(body for body in server.bodies if name_place(body) == "place 2")
    assert read_texts(body)[-1].splitlines() == [
        "The two dates differ.",
        "Captions:",
        "- caption of place 2 .",
        "Changed buildings: 2, in the cells top-left.",
        "Boxes of buildings: [0, 10, 11, 21], [16, 10, 28, 21]",
    ]


@pytest.mark.parametrize(
    "fault",
    [
        refuse(429, "slow down"),
        refuse(500, "oops"),
        Fault(is_reset=True),
        Fault(text='{"choices": ['),
        Fault(text="<html>hello</html>", content_type="text/html"),
    ],
    ids=["429", "500", "reset", "half a json", "html"],
)
def test_what_goes_wrong_once_changes_nothing(fault: Fault, source: Path, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def script(body: Body) -> Reply | Fault:
        seen[name_place(body)] += 1
        return fault if seen[name_place(body)] == 1 else write_items(body)

    result, _ = ask(source, script, tmp_path / "cache")

    assert list_turns(result) == EXPECTED
    assert result.failed == {}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("I cannot help with that.", "no JSON list of questions and answers"),
        ('[{"question": "What is', "no JSON list of questions and answers"),
        (
            json.dumps([{"question": "How many houses were built?", "answer": "99 houses were built."}]),
            "another count",
        ),
    ],
    ids=["no list", "cut off", "another count"],
)
def test_what_cannot_be_used_is_asked_for_once_more_with_the_reason(
    bad: str, reason: str, source: Path, tmp_path: Path
) -> None:
    def script(body: Body) -> Reply:
        is_first = len(body["messages"]) == 5
        return Reply(text=bad) if is_first and name_place(body) == "place 3" else write_items(body)

    result, server = ask(source, script, tmp_path / "cache")

    assert list_turns(result) == EXPECTED
    assert result.rejected == {reason: 1}
    (second,) = [body for body in server.bodies if len(body["messages"]) > 5]
    assert second["messages"][5] == {"role": "assistant", "content": bad}
    assert f"{reason}." in second["messages"][6]["content"]
    assert "Write 2 other questions" in second["messages"][6]["content"]


def test_nonsense_for_ever_is_counted_and_not_paid_for_again(source: Path, tmp_path: Path) -> None:
    def script(body: Body) -> Reply:
        return Reply(text="No." if name_place(body) != "place 0" else json.dumps(make_items("place 0")))

    first, server = ask(source, script, tmp_path / "cache")
    n_first = len(server.bodies)

    assert first.rejected == {"no JSON list of questions and answers": 2 * (N_PAIRS - 1)}
    assert list_turns(first) == EXPECTED[:2]
    assert n_first == 1 + 2 * (N_PAIRS - 1)


def test_a_pair_that_always_fails_is_told_and_tried_again_another_time(source: Path, tmp_path: Path) -> None:
    is_broken = True

    def script(body: Body) -> Reply | Fault:
        return refuse(500, "oops") if is_broken and name_place(body) == "place 1" else write_items(body)

    with serve(script) as server:
        pairs, assistant = note_all(source), make_assistant(server, tmp_path / "cache", max_retries=1)
        first = write_open_questions(pairs, assistant=assistant)
        is_broken, n_first = False, len(server.bodies)
        second = write_open_questions(pairs, assistant=make_assistant(server, tmp_path / "cache"))
        asked = [name_place(body) for body in server.bodies[n_first:]]

    ((image, why),) = first.failed.items()
    assert ("place_1" in image, "answers 500 (oops)" in why) == (True, True)
    assert list_turns(first) == [turn for turn in EXPECTED if "place 1" not in turn[0]]
    assert asked == ["place 1"]
    assert list_turns(second) == EXPECTED


def test_a_server_that_gives_up_ends_it_and_loses_nothing(source: Path, tmp_path: Path) -> None:
    def script(body: Body) -> Reply | Fault:
        return write_items(body) if name_place(body) == "place 0" else refuse(401, "no more")

    with serve(script) as server, pytest.raises(EndpointError, match="refuses a request without a key"):
        write_open_questions(note_all(source), assistant=make_assistant(server, tmp_path / "cache"))
    assert len((tmp_path / "cache").read_text().splitlines()) == 1
    assert len(server.bodies) <= N_PAIRS


def test_a_server_that_fails_at_every_pair_ends_it(source: Path, tmp_path: Path) -> None:
    many = [replace(one, notes=replace(one.notes, captions=(str(n),))) for n in range(9) for one in note_all(source)]
    with serve(lambda _: refuse(503, "down")) as server, pytest.raises(EndpointError, match="answers 503"):
        write_open_questions(many, assistant=make_assistant(server, tmp_path / "cache", max_retries=0))
    assert MAX_FAILURES_IN_A_ROW <= len(server.bodies) <= MAX_FAILURES_IN_A_ROW + 4


def test_it_sends_as_many_requests_as_it_may(source: Path, tmp_path: Path) -> None:
    with serve(write_items) as server:
        pairs, cache = note_all(source), tmp_path / "cache"
        result = write_open_questions(pairs, assistant=make_assistant(server, cache, max_requests=2))
        n_first = len(server.bodies)
        rest = write_open_questions(pairs, assistant=make_assistant(server, cache))

    assert (n_first, result.n_pairs, result.n_not_asked) == (2, 2, N_PAIRS - 2)
    assert (len(server.bodies), list_turns(rest)) == (N_PAIRS, EXPECTED)


def test_a_killed_call_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    file, is_killed, has_some = tmp_path / "open.json", Event(), Event()
    answered: Counter[str] = Counter()

    def script(body: Body) -> Reply | Fault:
        if not is_killed.is_set() and len(answered) >= 3:
            has_some.set()
            is_killed.wait(timeout=PATIENCE_S)
            return refuse(400, "nobody is there any more")
        answered[name_place(body)] += 1
        return write_items(body)

    with serve(script) as server:
        arguments = ["data", "open-questions", str(source), "-o", str(file), "--questions", "2", "--yes"]
        command = command_line(*arguments, "--assistant", server.name)
        environment = command_environment(DELTAVLM_ENDPOINT_CONCURRENCY="1")
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert has_some.wait(timeout=PATIENCE_S)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=PATIENCE_S)
        is_killed.set()
        assert not file.exists()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert done.returncode == 0, done.stderr
    assert [(one.question, one.answer) for one in read_changechat(file, images=source)] == EXPECTED
    assert answered == {f"place {number}": 1 for number in range(N_PAIRS)}

"""``deltavlm explore`` over HTTP: a report as it lies there, a model to ask, and nobody let in from elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import obstore
import pytest
from dispositions import HANGUPS, IN_THE_BACKGROUND
from explore_server import ExploreServer, start_explore
from made_scenes import TILE_PX, make_config, make_scenes
from patience import PATIENCE_S
from s3_server import BUCKET, start_s3_server
from stand_in_model import RAISES_COLOUR

from flows.cluster import open_cluster
from flows.explore.requests import MAX_BODY_BYTES, MAX_WAITING
from model.prompts import load_prompt_book
from pipeline.config.cluster import ClusterConfig
from pipeline.runs.run import detect_changes

CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"]}
FAILED, NO_DATA = (2, 1), (2, 2)
QUESTIONS = {prompt.name: prompt.text for prompt in load_prompt_book().list_all()}
HOSTILE = "<script>alert(1)</script> \u202e \x00 ?"


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, client: Any) -> Path:
    import rasterio

    folder = tmp_path_factory.mktemp("explore")
    scenes = make_scenes(folder / "scenes", changed=CHANGED, marked={FAILED: RAISES_COLOUR})
    with rasterio.open(scenes.before, "r+") as file:
        file.nodata = 0
        pixels = file.read()
        top, left = NO_DATA[0] * TILE_PX, NO_DATA[1] * TILE_PX
        pixels[:, top : top + TILE_PX, left : left + TILE_PX] = 0
        file.write(pixels)
    shared = partial(open_cluster, ClusterConfig(kind="address", address=client.scheduler.address))
    detect_changes(make_config(scenes, output=folder / "run"), open_cluster=shared)
    return folder / "run"


@pytest.fixture(scope="module")
def server(finished_run: Path) -> Iterator[ExploreServer]:
    with start_explore(finished_run) as server:
        yield server


get = partial(httpx.get, timeout=PATIENCE_S)


def ask(server: ExploreServer, **changes: Any) -> httpx.Response:
    body = {"tile_id": "r0000_c0000", "question": QUESTIONS["count"]} | changes
    return httpx.post(f"{server.url}/api/chat", json=body, timeout=PATIENCE_S)


def test_the_session_tells_who_answers(server: ExploreServer, finished_run: Path) -> None:
    session = get(f"{server.url}/api/session").json()

    record = json.loads((finished_run / "run.json").read_text())
    assert (session["model_id"], session["run_id"]) == ("stand-in@1", record["run_id"])
    assert session["notes"] == []
    assert {example["kind"] for example in session["examples"]} == {
        "describe",
        "classify",
        "count",
        "locate",
        "ask",
        "dialogue",
    }
    assert server.first_line["run_id"] == record["run_id"]


def test_an_answer_is_that_of_the_report(server: ExploreServer, finished_run: Path) -> None:
    tiles = gpd.read_parquet(finished_run / "report" / "tiles.parquet").set_index("tile_id")

    answer = ask(server, tile_id="r0001_c0002", question=QUESTIONS["description"]).json()

    assert answer["answer"] == tiles.loc["r0001_c0002", "description"] == "1 buildings appear."
    assert (answer["kind"], answer["confidence"], answer["n_history_turns"]) == ("describe", 0.75, 0)


def test_a_later_question_is_asked_with_the_turns_before(server: ExploreServer) -> None:
    history = [{"question": QUESTIONS["count"], "answer": "2 buildings"}]

    answer = ask(server, question="And where?", history=history).json()

    assert (answer["kind"], answer["answer"], answer["n_history_turns"]) == ("dialogue", "2, as I said", 1)


@pytest.mark.parametrize(
    ("tile_id", "found", "expected"),
    [
        ("r0002_c0002", "has the status no_data", "a tile that the run looked at"),
        ("r0099_c0000", "is not in", "one of the tiles"),
        ("../../etc", "is no tile of", "one of the tiles"),
    ],
)
def test_a_tile_that_was_not_seen_says_so(server: ExploreServer, tile_id: str, found: str, expected: str) -> None:
    response = ask(server, tile_id=tile_id)

    problem = response.json()
    assert response.status_code == 422
    assert found in problem["found"]
    assert expected in problem["expected"]
    assert problem["remedy"]


def test_what_cannot_be_put_is_told_and_the_server_goes_on(server: ExploreServer) -> None:
    empty, fault = ask(server, question="  "), ask(server, tile_id="r0002_c0001", question="Why?")

    assert (empty.status_code, fault.status_code) == (422, 500)
    assert "the question is empty" in empty.json()["found"]
    assert "the model tripped over a tile" in fault.json()["found"]
    assert "Traceback" not in fault.text
    assert ask(server, question=HOSTILE).json()["question"] == " ".join(HOSTILE.split())


def test_a_body_is_limited_whatever_its_claims(server: ExploreServer) -> None:
    def send() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    response = httpx.post(
        f"{server.url}/api/chat", content=send(), headers={"Content-Type": "application/json"}, timeout=PATIENCE_S
    )

    assert response.status_code == 413
    assert str(MAX_BODY_BYTES) in response.json()["expected"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_nobody_elses_page_may_ask(server: ExploreServer, headers: dict[str, str], status: int) -> None:
    body = json.dumps({"tile_id": "r0000_c0000", "question": "Where?"})

    response = httpx.post(
        f"{server.url}/api/chat",
        content=body,
        headers={"Content-Type": "application/json"} | headers,
        timeout=PATIENCE_S,
    )

    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_the_page_is_shown_under_its_widened_policy(server: ExploreServer) -> None:
    page = get(f"{server.url}/")

    policy = page.headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert page.text.count("explore/chat.js") == 1
    assert "http-equiv" not in page.text
    script = get(f"{server.url}/explore/chat.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert get(f"{server.url}/").headers["content-security-policy"] != policy
    for response in (page, script):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_files_of_the_report_come_whole_and_in_parts(server: ExploreServer, finished_run: Path) -> None:
    tiles = (finished_run / "report" / "tiles.parquet").read_bytes()

    whole = get(f"{server.url}/tiles.parquet")
    tail = get(f"{server.url}/tiles.parquet", headers={"Range": "bytes=-8"})
    beyond = get(f"{server.url}/tiles.parquet", headers={"Range": f"bytes={len(tiles)}-"})

    assert whole.content == tiles
    assert (tail.status_code, tail.content) == (206, tiles[-8:])
    assert tail.headers["content-range"] == f"bytes {len(tiles) - 8}-{len(tiles) - 1}/{len(tiles)}"
    assert beyond.status_code == 416
    assert get(f"{server.url}/plots/coverage.png").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path", ["../run.json", "%2e%2e/run.json", "..%2frun.json", "plots/..%2f../run.json", "plots", "no"]
)
def test_no_path_leads_out_of_the_report(server: ExploreServer, path: str) -> None:
    target = httpx.URL(f"{server.url}/").copy_with(raw_path=f"/{path}".encode())

    response = get(target)

    assert response.status_code == 404
    assert response.json()["expected"] == "a file of the report"


def test_questions_wait_for_each_other_and_too_many_are_turned_away(finished_run: Path, tmp_path: Path) -> None:
    gate, n_turned_away = tmp_path / "gate", 5
    with (
        ThreadPoolExecutor(MAX_WAITING + 1 + n_turned_away) as people,
        start_explore(finished_run, STAND_IN_WAITS_FOR=str(gate)) as server,
    ):
        asked = [people.submit(ask, server) for _ in range(MAX_WAITING + 1 + n_turned_away)]

        # One is being answered and others wait: while that lasts, only who is turned away hears anything.
        refused = [one.result().status_code for one in islice(as_completed(asked), n_turned_away)]
        gate.touch()
        responses = [one.result() for one in asked]

        assert refused == [503] * n_turned_away
        answers = [response.json()["answer"] for response in responses if response.status_code == 200]
        assert answers == ["2 buildings have changed, and 0 roads have changed."] * (MAX_WAITING + 1)
        assert ask(server).status_code == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(finished_run: Path, number: signal.Signals, code: int) -> None:
    with start_explore(finished_run) as server:
        ask(server)
        server.process.send_signal(number)

        assert server.process.wait(timeout=PATIENCE_S) == code
        with pytest.raises(httpx.ConnectError):
            get(f"{server.url}/")


def test_in_the_background_it_outlives_its_terminal(finished_run: Path) -> None:
    with start_explore(finished_run, wrapper=IN_THE_BACKGROUND) as server:
        for number in HANGUPS:
            server.process.send_signal(number)
            assert ask(server).status_code == 200
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(timeout=PATIENCE_S) == 143


def test_a_run_in_a_bucket_is_shown_alike(finished_run: Path) -> None:
    with start_s3_server() as s3:
        store = s3.open_store("weekly/one")
        for path in finished_run.rglob("*"):
            if path.is_file():
                obstore.put(store, str(path.relative_to(finished_run)), path)
        with start_explore(f"s3://{BUCKET}/weekly/one", **s3.environment) as server:
            tiles = (finished_run / "report" / "tiles.parquet").read_bytes()
            whole = get(f"{server.url}/tiles.parquet", headers={"Range": "bytes=4-11"})

            # Out of a bucket no parts are given, and a server need not give any.
            assert (whole.status_code, whole.content) == (200, tiles)
            assert whole.headers["content-length"] == str(len(tiles))
            assert "explore/chat.js" in get(f"{server.url}/").text
            assert ask(server).json()["answer"] == "2 buildings have changed, and 0 roads have changed."
            assert get(f"{server.url}/nothing").status_code == 404


def test_wrong_input_ends_it_at_once(tmp_path: Path, finished_run: Path, run_command: Any) -> None:
    nowhere = run_command("explore", str(tmp_path / "nowhere"), "--no-browser")
    port = run_command("explore", str(finished_run), "--no-browser", "--host", "203.0.113.7")

    assert (nowhere.returncode, port.returncode) == (2, 2)
    assert "is no folder" in nowhere.stderr
    assert "cannot listen at 203.0.113.7" in port.stderr


def test_help_says_what_it_does(run_command: Any) -> None:
    result: subprocess.CompletedProcess[str] = run_command("explore", "--help")

    assert result.returncode == 0
    assert "--no-browser" in result.stdout

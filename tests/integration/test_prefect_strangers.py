"""Prefect's server as docs/deploy.md sets it up, and a web page that would like to have runs started on it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_scenes import command_line, make_scenes
from prefect_processes import PrefectServer, open_request

pytestmark = pytest.mark.timeout(600)

PAGE = "http://page.example"
PASSWORD = "operator:made-for-this-test"


def ask(
    server: PrefectServer, method: str, path: str, *, headers: dict[str, str] | None = None, body: Any = None
) -> tuple[int, str | None, Any]:
    """Ask as a page of another site may; give the status, who may read the answer, and the answer."""
    request = urllib.request.Request(
        f"{server.url}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Origin": PAGE,
            **({"Content-Type": "application/json"} if body is not None else {}),
            **(headers or {}),
        },
    )
    try:
        with open_request(request) as answer:
            text = answer.read()
            readers = answer.headers.get("Access-Control-Allow-Origin")
            return answer.status, readers, json.loads(text) if text[:1] in b"[{" else None
    except urllib.error.HTTPError as problem:
        return problem.code, problem.headers.get("Access-Control-Allow-Origin"), None


def make_run(folder: Path, **cluster: Any) -> dict[str, Any]:
    scenes = make_scenes(folder / "scenes", changed={})
    return {
        "before": {"uri": str(scenes.before)},
        "after": {"uri": str(scenes.after)},
        "output": str(folder / "run"),
        "cluster": cluster,
    }


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(folder=tmp_path_factory.mktemp("prefect"))
    with server.run():
        yield server


def test_server_without_a_password_is_warned_of_and_its_forms_run_no_code(
    open_server: PrefectServer, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    preload = f"from pathlib import Path; Path({str(mark)!r}).touch()\n"
    cluster = {
        "kind": "class",
        "class_path": "distributed.LocalCluster",
        "arguments": {"n_workers": 1, "preload": [preload]},
    }
    with open_server.work(*command_line("serve"), log="serve.log"):
        deployment = open_server.wait_for(lambda: open_server.find_deployment("detect-changes"), what="deployment")
        run = open_server.wait_for_state(open_server.start_run(deployment, config=make_run(tmp_path, **cluster)))

    assert run["state_type"] == "FAILED"
    assert "before: " in run["state"]["message"]
    assert "--allow" in run["state"]["message"]
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert "asks for no password" in (open_server.folder / "serve.log").read_text()


def test_documented_server_takes_nothing_from_strangers(tmp_path: Path) -> None:
    settings = {
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PREFECT_API_AUTH_STRING": PASSWORD,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    }
    server = PrefectServer(folder=tmp_path, settings=settings)
    settings["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = server.url
    with server.run(), server.work(*command_line("serve"), log="serve.log"):
        known = {"Authorization": f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"}
        find = "deployments/name/detect-changes/detect-changes"
        deployment = server.wait_for(lambda: ask(server, "GET", find, headers=known)[2], what="deployment")
        start = f"deployments/{deployment['id']}/create_flow_run"
        preflight = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }

        refused = [
            ask(server, "GET", find),
            ask(server, "OPTIONS", start, headers=preflight),
            ask(server, "POST", start, body={"parameters": {}}),
            ask(server, "PATCH", f"deployments/{deployment['id']}", body={"entrypoint": "os.system"}),
            # Who knows the password needs the token as well, and no page of another site may ask for one.
            ask(server, "POST", start, headers=known, body={"parameters": {}}),
        ]

    assert [status for status, _, _ in refused] == [401, 400, 403, 403, 403]
    assert not {readers for _, readers, _ in refused} & {"*", PAGE}
    assert "password" not in (tmp_path / "serve.log").read_text()

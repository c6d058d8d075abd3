"""Prefect's server as docs/deploy.md sets it up, and a web page that would like to have runs started on it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from made_scenes import command_line
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


def test_documented_server_takes_nothing_from_strangers(tmp_path: Path, prefect_home: Path) -> None:
    settings = {
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PREFECT_API_AUTH_STRING": PASSWORD,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    }
    server = PrefectServer(folder=tmp_path, first_home=prefect_home, settings=settings)
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

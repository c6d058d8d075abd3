"""Real deployments, served and worked for by real processes.

Their schedules fire, exclude each other, and tell; their forms run no code.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client
from fork_server import set_environment
from made_scenes import SETTINGS, command_line, give_address, make_scenes
from prefect_processes import PrefectServer

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig

pytestmark = pytest.mark.timeout(600)

CHANGED = {(0, 0): ["top-left"], (1, 2): ["center-right"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[PrefectServer]:
    server = PrefectServer(folder=tmp_path_factory.mktemp("prefect"), first_home=prefect_home)
    with server.run():
        yield server


def write_region(folder: Path, *, name: str, address: str, cron: str | None = None, **more: Any) -> Path:
    scenes = make_scenes(folder / "made", changed=CHANGED)
    (folder / "scenes").mkdir()
    scenes.before.rename(folder / "scenes" / "city_20200601.tif")
    scenes.after.rename(folder / "scenes" / "city_20240601.tif")
    area = {"type": "Polygon", "coordinates": [[[-98, 30], [-97, 30], [-97, 31], [-98, 31], [-98, 30]]]}
    (folder / "area.geojson").write_text(json.dumps(area))
    region: dict[str, Any] = {
        "name": name,
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "folder", "folder": str(folder / "scenes")},
        "pairing": {"kind": "series", "since": "2019-01-01"},
        "output": str(folder / "region"),
        **more,
    }
    for setting in (*SETTINGS, *give_address(address)):
        key, _, value = setting.partition("=")
        group, _, field = key.partition(".")
        region.setdefault(group, {})[field] = yaml.safe_load(value)
    # The made scenes begin half-way in a tile of the lattice.
    region["grid"]["anchor"] = "overlap"
    if cron is not None:
        region["schedule"] = {"cron": cron, "timezone": "Europe/Berlin"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(region))
    return path


@pytest.fixture
def messages() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on this machine, and what it was told."""
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Hook) as hook:
        thread = threading.Thread(target=hook.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{hook.server_port}/", told
        hook.shutdown()
        thread.join()


def make_webhook(server: PrefectServer, *, name: str, url: str) -> None:
    """Make the block by Prefect's own API, as its pages would."""
    kind = server.wait_for(lambda: server.get("block_types/slug/custom-webhook"), what="block type")
    schema = server.post("block_schemas/filter", block_schemas={"block_type_id": {"any_": [kind["id"]]}})[0]
    server.post(
        "block_documents/",
        name=name,
        block_type_id=kind["id"],
        block_schema_id=schema["id"],
        data={"name": name, "url": url, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}},
    )


def test_a_cron_schedule_fires_and_tells_people_what_is_new(
    server: PrefectServer, tmp_path: Path, client: Client, messages: tuple[str, list[dict[str, Any]]]
) -> None:
    url, told = messages
    make_webhook(server, name="ops", url=url)
    notify = [{"block": "custom-webhook/ops"}]
    region = write_region(tmp_path, name="city", address=client.scheduler.address, cron="* * * * *", notify=notify)

    with server.work(*command_line("serve", str(region)), log="serve.log"):
        deployment = server.wait_for(lambda: server.find_deployment("city"), what="deployment")
        run = server.wait_for(
            lambda: next((each for each in server.list_runs("city") if each["state_type"] == "COMPLETED"), None),
            what="scheduled run that is done",
        )

    assert run["auto_scheduled"]
    assert run["name"].startswith("city: pass of ")
    assert deployment["tags"] == ["deltavlm", "region:city"]
    assert deployment["description"].startswith("Find new scenes of a region")
    assert deployment["schedules"][0]["schedule"] == {"cron": "* * * * *", "timezone": "Europe/Berlin", "day_or": True}
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert "Region city: 2 new changes" in server.read_artifacts(run["id"])["pass"]["data"]
    assert told[0]["subject"] == "Region city: 2 new changes"
    assert json.loads((tmp_path / "region" / "region.json").read_text())
    # Nothing is new to the passes that come after it, and so they tell nobody.
    assert len(told) == 1
    names = [each["name"] for each in server.post("automations/filter")]
    assert "deltavlm: mark dead runs as crashed" in names
    assert [name for name in names if name.startswith("deltavlm: tell of failures in city")]


def test_a_schedule_that_is_left_out_is_gone_and_of_two_runs_at_once_the_later_is_cancelled(
    server: PrefectServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    # As the server knows it from when the region's file had a schedule.
    flow = server.post("flows/", name="monitor-region")
    schedule = {"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, "active": True}
    former = server.post("deployments/", name="busy", flow_id=flow["id"], schedules=[schedule])
    assert len(former["schedules"]) == 1
    with ExitStack() as stack:
        stack.enter_context(set_environment(STAND_IN_WAITS_FOR=str(gate)))
        waiting = stack.enter_context(open_cluster(ClusterConfig(n_workers=1, allow_unencrypted=True)))
        region = write_region(tmp_path, name="busy", address=waiting.scheduler.address)
        stack.enter_context(server.work(*command_line("serve", str(region), "--limit", "2")))
        deployment = server.wait_for(
            lambda: found if (found := server.find_deployment("busy")) and not found["schedules"] else None,
            what="deployment without its former schedule",
        )
        assert deployment["id"] == former["id"]
        first = server.start_run(deployment)
        server.wait_for_state(first, "RUNNING")
        second = server.start_run(deployment)
        refused = server.wait_for_state(second)
        gate.touch()
        done = server.wait_for_state(first)

    assert refused["state_type"] == "CANCELLED"
    assert "concurrency limit" in refused["state"]["message"].lower()
    assert done["state_type"] == "COMPLETED"


def make_run(folder: Path, **cluster: Any) -> dict[str, Any]:
    scenes = make_scenes(folder / "scenes", changed={})
    return {
        "before": {"uri": str(scenes.before)},
        "after": {"uri": str(scenes.after)},
        "output": str(folder / "run"),
        "cluster": cluster,
    }


def test_server_without_a_password_is_warned_of_and_its_forms_run_no_code(
    server: PrefectServer, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    preload = f"from pathlib import Path; Path({str(mark)!r}).touch()\n"
    cluster = {
        "kind": "class",
        "class_path": "distributed.LocalCluster",
        "arguments": {"n_workers": 1, "preload": [preload]},
    }
    with server.work(*command_line("serve"), log="open.log"):
        deployment = server.wait_for(lambda: server.find_deployment("detect-changes"), what="deployment")
        run = server.wait_for_state(server.start_run(deployment, config=make_run(tmp_path, **cluster)))

    assert run["state_type"] == "FAILED"
    assert "before: " in run["state"]["message"]
    assert "--allow" in run["state"]["message"]
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert "asks for no password" in (server.folder / "open.log").read_text()

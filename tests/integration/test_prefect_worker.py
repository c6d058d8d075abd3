"""Deployments of prefect.yaml on a work pool with a real worker, and what becomes of runs on bad days."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from distributed import Client
from fork_server import set_environment
from made_scenes import SETTINGS, command_line, give_address, make_scenes
from patience import PATIENCE_S
from prefect_processes import PREFECT, PrefectServer, kill_group

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig

pytestmark = pytest.mark.timeout(600)

POOL = "deltavlm"
SILENCE_S = 10
"""The shortest that Prefect takes."""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, client: Client, prefect_home: Path
) -> Iterator[PrefectServer]:
    """A server that has been told of prefect.yaml, and what works for it takes runs in the tests' own folders."""
    allowed = {"inputs": [str(tmp_path_factory.getbasetemp())], "outputs": [str(tmp_path_factory.getbasetemp())]}
    clusters = [{"kind": "address", "address": client.scheduler.address}]
    allow = json.dumps({**allowed, "models": ["stand-in"], "clusters": clusters})
    folder, settings = tmp_path_factory.mktemp("prefect"), {"DELTAVLM_ALLOW": allow}
    server = PrefectServer(folder=folder, first_home=prefect_home, settings=settings)
    with server.run():
        server.post("work_pools/", name=POOL, type="process")
        server.call("deploy", "--all", cwd=repository)
        yield server


@contextmanager
def start_worker(server: PrefectServer, **environment: str) -> Iterator[Any]:
    settings = [f"{name}={value}" for name, value in environment.items()]
    with server.work("env", *settings, *PREFECT, "worker", "start", "--pool", POOL, "--type", "process") as worker:
        yield worker


def describe_run(folder: Path, *cluster: str) -> dict[str, Any]:
    """Give what a person would fill into the form."""
    scenes = make_scenes(folder / "scenes", changed={(0, 0): ["top-left"]})
    config: dict[str, Any] = {
        "before": {"uri": str(scenes.before)},
        "after": {"uri": str(scenes.after)},
        "output": str(folder / "run"),
    }
    for setting in (*SETTINGS, *cluster):
        key, _, value = setting.partition("=")
        group, _, field = key.partition(".")
        config.setdefault(group, {})[field] = yaml.safe_load(value)
    return config


def test_the_server_knows_what_prefect_yaml_says(server: PrefectServer, repository: Path) -> None:
    found = {each["name"]: each for each in server.post("deployments/filter")}

    written = yaml.safe_load((repository / "prefect.yaml").read_text())["deployments"]
    assert set(found) == {each["name"] for each in written}
    for each in written:
        deployment = found[each["name"]]
        assert deployment["entrypoint"] == each["entrypoint"]
        assert deployment["tags"] == each["tags"]
        assert deployment["work_pool_name"] == POOL
        assert list_times(deployment) == [tuple(time.values()) for time in each.get("schedules", [])]
    run, region = found["detect-changes"], found["travis-county"]
    assert run["description"].startswith("Turn a before and an after scene into a change report")
    assert region["description"].startswith("Find new scenes of a region")
    assert region["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert region["global_concurrency_limit"]["limit"] == 1
    assert region["parameters"]["region"]["source"]["search"]["collections"] == ["sentinel-2-l2a"]
    # A form asks for what has no default.
    assert run["parameter_openapi_schema"]["required"] == ["config"]
    forms = {name: run["parameter_openapi_schema"]["definitions"][name] for name in ("RunConfig", "SceneConfig")}
    assert set(forms["RunConfig"]["required"]) == {"before", "after", "output"}
    assert forms["RunConfig"]["properties"]["output"]["description"]
    assert region["parameter_openapi_schema"]["properties"]["region"]["$ref"].endswith("/RegionConfig")
    assert {"name", "aoi", "source"} <= set(
        region["parameter_openapi_schema"]["definitions"]["RegionConfig"]["required"]
    )


def list_times(deployment: dict[str, Any]) -> list[tuple[str, str, bool]]:
    schedules = deployment["schedules"]
    return [(each["schedule"]["cron"], each["schedule"]["timezone"], each["active"]) for each in schedules]


def test_a_worker_runs_what_prefect_yaml_deploys(server: PrefectServer, tmp_path: Path, client: Client) -> None:
    deployment = server.find_deployment("detect-changes")
    assert deployment is not None
    config = describe_run(tmp_path, *give_address(client.scheduler.address))
    with start_worker(server):
        run = server.wait_for_state(server.start_run(deployment, config=config))

    assert run["state_type"] == "COMPLETED", server.read_log(run["id"])
    assert "1 of 24 tiles changed" in server.read_artifacts(run["id"])["summary"]["data"]


def test_a_run_that_dies_with_its_machine_is_marked_as_crashed(server: PrefectServer, tmp_path: Path) -> None:
    automate = command_line("serve", "--automations-only", "--silence-s", str(SILENCE_S))
    for _ in range(2):
        with server.work(*automate, log="automations.log") as setting_up:
            assert setting_up.wait(PATIENCE_S) == 0
    deployment = server.find_deployment("detect-changes")
    assert deployment is not None
    with start_worker(server, STAND_IN_SECONDS_PER_TILE="2") as worker:
        run_id = server.start_run(deployment, config=describe_run(tmp_path, "cluster.n_workers=1"))
        server.wait_for(lambda: "Select tiles" in server.read_log(run_id), what="run that asks the model")
        family = psutil.Process(worker.pid).children(recursive=True)
        kill_group(worker)
        for process in family:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        run = server.wait_for_state(run_id)

    assert run["state_type"] == "CRASHED"
    assert run["state"]["message"].startswith(f"No sign of life for {SILENCE_S} s.")
    # Made twice, there once.
    assert len(server.post("automations/filter")) == 1


RUN_FLOW = """
import json, sys

from flows.detect_changes import detect_changes_flow
from flows.retries import PatienceConfig
from pipeline.config.run import RunConfig

config = RunConfig.model_validate(json.loads(sys.argv[1]))
detect_changes_flow(config, patience=PatienceConfig(retries=6, retry_delay_s=1))
"""


@pytest.fixture
def slow_address() -> Iterator[str]:
    """Where a worker is found that lets a server be stopped meanwhile."""
    workers = ClusterConfig(n_workers=1, allow_unencrypted=True)
    with set_environment(STAND_IN_SECONDS_PER_TILE="0.1"), open_cluster(workers) as client:
        yield client.scheduler.address


def test_results_do_not_depend_on_the_server(tmp_path: Path, slow_address: str) -> None:
    server = PrefectServer(folder=tmp_path)
    (tmp_path / "restarted").mkdir()
    (tmp_path / "gone").mkdir()

    def start(name: str, *, n_retries: int) -> AbstractContextManager[Any]:
        config = json.dumps(describe_run(tmp_path / name, *give_address(slow_address)))
        settings = ("env", f"PREFECT_CLIENT_MAX_RETRIES={n_retries}")
        return server.work(*settings, sys.executable, "-c", RUN_FLOW, config, log=f"{name}.log")

    def find_run(n_before: int) -> str | None:
        runs = server.post("flow_runs/filter", sort="START_TIME_DESC")
        is_asking = len(runs) > n_before and "Select tiles" in server.read_log(runs[0]["id"])
        return runs[0]["id"] if is_asking else None

    with server.run() as first, start("restarted", n_retries=5) as run:
        restarted = server.wait_for(lambda: find_run(0), what="run that asks the model")
        kill_group(first)
        with server.run() as second:
            assert run.wait(PATIENCE_S) == 0
            assert server.wait_for_state(restarted)["state_type"] == "COMPLETED"
            with start("gone", n_retries=0):
                gone = server.wait_for(lambda: find_run(1), what="run that asks the model")
                kill_group(second)
                # Prefect itself goes on for another minute, event by event, to tell the server.
                server.wait_for(lambda: (tmp_path / "gone" / "run" / "run.json").exists() or None, what="record")
    with closing(sqlite3.connect(tmp_path / "home" / "prefect.db")) as database:
        [(state,)] = database.execute("select state_type from flow_run where id = ?", (gone,)).fetchall()

    records = [json.loads((tmp_path / name / "run" / "run.json").read_text()) for name in ("restarted", "gone")]
    assert records[0]["run_id"] == records[1]["run_id"]
    # Nobody could tell the server; where heartbeats are watched, it is marked as crashed.
    assert state == "RUNNING"

"""The Prefect flow against a real Prefect server: same report, and artifacts that say what happened."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from made_scenes import make_config, make_scenes
from prefect_processes import PrefectServer
from stand_in_model import RAISES_COLOUR

from flows.retries import PatienceConfig
from model.errors import InputError
from pipeline.runs.run import OpenCluster, detect_changes

pytestmark = [
    # Prefect's own: its server and client leave sockets and loops to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CHANGED = {(0, 0): ["top-left"], (1, 2): ["center-right"], (1, 3): ["center-left"]}


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[None]:
    """A server for the flows of this process."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = PrefectServer(folder=tmp_path_factory.mktemp("prefect"), first_home=prefect_home)
    with server.run(), temporary_settings({PREFECT_API_URL: f"{server.url}/api"}):
        yield
        # What has yet to be told would wait for a server that is gone.
        APILogHandler().flush()
        EventsWorker.drain_all()


def address_of(client: Client) -> tuple[str, str]:
    return "cluster.kind=address", f"cluster.address={client.scheduler.address}"


def read_log(flow_run_id: Any) -> str:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    with get_client(sync_client=True) as prefect:
        logs = prefect.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
    return "\n".join(log.message for log in logs)


def read_artifacts() -> dict[str, Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as prefect:
        return {artifact.key: artifact for artifact in prefect.read_artifacts()}


def read_task_names(flow_run_id: object) -> list[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as prefect:
        runs = prefect.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return [run.name.rpartition("-")[0] for run in sorted(runs, key=lambda run: run.start_time)]


@pytest.mark.timeout(600)
def test_flow_makes_the_same_report_and_tells_of_it(
    tmp_path: Path, prefect_server: None, client: Client, shared_cluster: OpenCluster
) -> None:
    from prefect.client.orchestration import get_client

    from flows.detect_changes import detect_changes_flow

    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED, marked={(2, 2): RAISES_COLOUR})
    detect_changes(make_config(scenes, output=tmp_path / "plain"), open_cluster=shared_cluster)
    config = make_config(scenes, output=tmp_path / "run", assignments=address_of(client))

    state = detect_changes_flow(config, return_state=True)

    result = state.result()
    table = (tmp_path / "run" / "report" / "tiles.parquet").read_bytes()
    assert table == (tmp_path / "plain" / "report" / "tiles.parquet").read_bytes()
    assert result["status_counts"]["failed"] == 1
    assert result["run_id"] == json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]
    assert read_task_names(state.state_details.flow_run_id) == [
        "find-pair",
        "write-tiles",
        "select-tiles",
        "collect-answers",
        "extract-findings",
        "write-report",
    ]
    artifacts = read_artifacts()
    coverage = {row["status"]: row["tiles"] for row in json.loads(artifacts["coverage"].data)}
    assert coverage["analysed"] == 23
    assert coverage["failed"] == 1
    assert artifacts["progress-collect-answers"].data == 100.0
    summary = artifacts["summary"].data
    assert result["run_id"] in summary
    # The largest change is the one that two tiles share: two cells of 16 by 16 m.
    assert re.findall(r"\*\*\d\.\*\* building, (\d+) m²", summary) == ["512", "256"]
    assert (tmp_path / "run" / "report" / "index.html").as_uri() in artifacts["report"].data
    with get_client(sync_client=True) as prefect:
        name = prefect.read_flow_run(state.state_details.flow_run_id).name
    assert name == "run: before to after"
    words = read_log(state.state_details.flow_run_id)
    assert "Collect answers: 23 of 24 tiles done, 1 failed, in" in words
    assert "Partly failed: the report says which tiles" in words


@pytest.mark.timeout(600)
def test_prefect_learns_no_secret_of_a_uri(tmp_path: Path, prefect_server: None, client: Client) -> None:
    from flows.detect_changes import detect_changes_flow

    config = make_config(
        make_scenes(tmp_path / "scenes"),
        output=tmp_path / "run",
        assignments=(*address_of(client), "before=http://me:pa55w0rd@127.0.0.1:1/b.tif?sig=s1gnature"),
    )

    state = detect_changes_flow(config, patience=PatienceConfig(retries=1, retry_delay_s=0), return_state=True)

    assert state.is_failed()
    told = read_all_that_prefect_knows(state.state_details.flow_run_id)
    assert told.count("http://***@127.0.0.1:1/b.tif") > 2
    assert "pa55w0rd" not in told
    assert "s1gnature" not in told
    # Who knows whether a server that does not answer is down for good.
    assert told.count("Retry 1/1 will start") == 1


def read_all_that_prefect_knows(flow_run_id: Any) -> str:
    from prefect.client.orchestration import get_client

    words = read_log(flow_run_id)
    with get_client(sync_client=True) as prefect:
        run = prefect.read_flow_run(flow_run_id)
    assert run.parameters["config"]["before"]["uri"]
    assert words
    return run.model_dump_json() + words


@pytest.mark.timeout(600)
def test_flow_with_wrong_input_fails_with_its_message(tmp_path: Path, prefect_server: None, client: Client) -> None:
    from flows.detect_changes import detect_changes_flow

    scenes = make_scenes(tmp_path / "scenes")
    scenes.after.unlink()
    config = make_config(scenes, output=tmp_path / "run", assignments=address_of(client))

    state = detect_changes_flow(config, return_state=True)

    assert state.is_failed()
    with pytest.raises(InputError, match=r"after\.tif"):
        state.result()
    assert not (tmp_path / "run").exists()

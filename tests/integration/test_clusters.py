"""Clusters of every kind that can be had on one machine, with TLS, and workers that are refused before work starts."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
import trustme
from dask_processes import run_scheduler, run_worker
from distributed import Client, Scheduler, SchedulerPlugin, Status, Worker
from distributed.security import Security
from made_scenes import MadeScenes, command_environment, make_config, make_scenes
from patience import PATIENCE_S, wait_for

from flows.cluster import open_cluster
from model.errors import InputError
from model.registry import find_model_folder, identify_model, resolve_dtype
from pipeline.config.cluster import ClusterConfig
from pipeline.config.model import ModelConfig
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.storage.folder import RunFolder
from pipeline.summary import StageSummary
from pipeline.workers import checks
from pipeline.workers.checks import check_workers, list_versions
from pipeline.workers.models import list_held_models, register_model

CHANGED = {(0, 0): ["top-left"], (3, 5): ["bottom-right"]}
SPEC = {
    "scheduler": {"cls": "distributed.Scheduler", "options": {"host": "127.0.0.1", "dashboard": False}},
    "worker": {"cls": "distributed.Nanny", "options": {"host": "127.0.0.1", "nthreads": 1}},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> MadeScenes:
    return make_scenes(tmp_path_factory.mktemp("clusters") / "scenes", changed=CHANGED)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scenes: MadeScenes, shared_cluster: OpenCluster) -> bytes:
    """Give the table of a run on the shared workers."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    detect_changes(make_config(scenes, output=run), open_cluster=shared_cluster)
    return read_table(run)


def read_table(run: Path) -> bytes:
    return (run / "report" / "tiles.parquet").read_bytes()


def make_class_config(class_path: str, **settings: Any) -> ClusterConfig:
    return ClusterConfig(
        kind="class", class_path=class_path, allow_unencrypted=True, no_workers_timeout_s=PATIENCE_S, **settings
    )


@pytest.mark.parametrize(
    ("class_path", "settings", "n_workers"),
    [
        ("distributed.LocalCluster", {"arguments": {"n_workers": 1, "threads_per_worker": 1}}, 1),
        ("distributed.SpecCluster", {"arguments": SPEC, "n_workers": 2}, 2),
        ("distributed.SpecCluster", {"arguments": SPEC, "adaptive": {"minimum": 1, "maximum": 2}}, 1),
    ],
)
def test_run_on_a_cluster_class_gives_the_same_table(
    class_path: str,
    settings: dict[str, Any],
    n_workers: int,
    tmp_path: Path,
    scenes: MadeScenes,
    undisturbed: bytes,
) -> None:
    with open_cluster(make_class_config(class_path, **settings)) as client:
        client.wait_for_workers(n_workers, timeout=PATIENCE_S)
        address = client.scheduler.address

        def connect() -> Any:
            return open_cluster(ClusterConfig(kind="address", address=address))

        detect_changes(make_config(scenes, output=tmp_path / "run"), open_cluster=connect)

    assert address.startswith("tcp://127.0.0.1:")
    assert read_table(tmp_path / "run") == undisturbed


def test_arguments_that_a_class_does_not_take_are_told() -> None:
    config = make_class_config("distributed.SpecCluster", arguments={"wrokers": {}})

    with pytest.raises(InputError, match=r"distributed\.SpecCluster cannot be started.*wrokers"), open_cluster(config):
        pass


def test_cluster_whose_workers_do_not_come_is_not_waited_for_for_ever() -> None:
    config = make_class_config("distributed.SpecCluster", arguments=SPEC).model_copy(
        update={"no_workers_timeout_s": 0.2}
    )

    with pytest.raises(InputError, match=r"cluster of kind class: no worker in 0\.2 s"), open_cluster(config):
        pass


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Files of one authority, and of a certificate by it, as the keys of `security`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"tls_ca_file": str(tmp_path / "ca.pem")}
    for role in ("client", "scheduler", "worker"):
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{role}.pem")
        files[f"tls_{role}_cert"] = str(tmp_path / f"{role}.pem")
    return files


def test_tls_keeps_others_out(tmp_path: Path, certificates: dict[str, str]) -> None:
    files = [f"--tls-ca-file={certificates['tls_ca_file']}"]
    stranger = trustme.CA().issue_cert("127.0.0.1")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    with ExitStack() as stack:
        arguments = (*files, f"--tls-cert={certificates['tls_scheduler_cert']}", "--protocol", "tls")
        _, address = stack.enter_context(run_scheduler(tmp_path, arguments=arguments))
        arguments = (*files, f"--tls-cert={certificates['tls_worker_cert']}")
        stack.enter_context(run_worker(address, arguments=arguments))
        keys = {"tls_ca_file", "tls_client_cert"}
        security = {key: certificates[key] for key in keys}

        with open_cluster(ClusterConfig(kind="address", address=address, security=security)) as client:
            assert client.submit(sum, [1, 2]).result(timeout=PATIENCE_S) == 3
        assert address.startswith("tls://")
        for other in (None, security | {"tls_client_cert": str(tmp_path / "stranger.pem")}):
            config = ClusterConfig(kind="address", address=address, security=other)
            with pytest.raises(InputError, match=r"no scheduler answers.*cluster\.security"), open_cluster(config):
                pass


@pytest.mark.parametrize(
    "config",
    [ClusterConfig(n_workers=1), ClusterConfig(kind="class", class_path="distributed.LocalCluster", n_workers=1)],
)
def test_workers_of_this_machine_take_nobody_without_their_certificate(config: ClusterConfig) -> None:
    with open_cluster(config) as client:
        address = client.scheduler.address
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE_S) == 3
        assert address.startswith("tls://127.0.0.1:")
        (worker,) = client.scheduler_info()["workers"]
        for place in (address, worker):
            for stranger in (None, Security.temporary()):
                with pytest.raises((OSError, ValueError, TypeError)):
                    Client(place.replace("tls", "tcp" if stranger is None else "tls"), security=stranger, timeout="2 s")


def test_what_dask_puts_among_the_places_of_modules_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "dask-scratch-space").mkdir()
    (tmp_path / "dask-scratch-space").chmod(0o777)

    # Where other tests' workers keep their files is no matter here.
    with dask.config.set({"temporary-directory": None}), open_cluster(ClusterConfig(n_workers=1)) as client:
        (of_worker,) = client.run(lambda: list(sys.path)).values()
        added = {path for path in [*of_worker, *sys.path] if Path(path).is_relative_to(tmp_path)}
        roots = {tmp_path / Path(path).relative_to(tmp_path).parts[0] for path in added}
        assert [stat.S_IMODE(root.stat().st_mode) for root in roots] == [0o700]

    assert not [path for path in sys.path if Path(path).is_relative_to(tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["dask-scratch-space"]


def test_cluster_ends_beside_a_worker_that_has_just_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nanny is about to start another, and distributed then takes it amiss to be closed."""
    with open_cluster(ClusterConfig(n_workers=2)) as client:
        workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        scheduler = client.cluster.scheduler
        nanny = next(iter(client.cluster.workers.values()))

        async def close(*_: object, **__: object) -> None:
            nanny.status = Status.closing
            raise AssertionError("can only join a started process")

        monkeypatch.setattr(nanny, "close", close)

    assert scheduler.status == Status.closed
    assert psutil.wait_procs(workers, timeout=PATIENCE_S)[1] == []


def test_pages_of_schedulers_and_workers_show_nothing_unless_a_dashboard_is_asked_for() -> None:
    with open_cluster(ClusterConfig(n_workers=1)) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        ports = [client.scheduler_info()["services"]["dashboard"], worker["services"]["dashboard"]]

        for port in ports:
            for page in ("info/main/workers.html", "json/counts.json", "metrics", "health", "statics/css/base.css"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=PATIENCE_S)


FORKED = """
import json, os, psutil
from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig

def look():
    server = psutil.Process(os.getppid())
    return [server.pid, server.num_threads(), os.environ.get("SET_SINCE"), os.environ.get("OMP_NUM_THREADS")]

seen = []
for n_workers in (1, 2):
    with open_cluster(ClusterConfig(n_workers=n_workers), has_weights=True) as client:
        seen.append(list(client.run(look).values()))
    os.environ["SET_SINCE"] = "yes"
print(json.dumps(seen))
"""


def test_workers_are_forked_from_a_process_without_threads_and_know_the_clients_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    [first], later = json.loads(done.stdout)

    assert first[1:] == [1, None, "1"]
    assert later == [[first[0], 1, "yes", "1"]] * 2


def test_cluster_class_without_tls_is_refused_unless_the_config_says_so() -> None:
    config = make_class_config("distributed.SpecCluster", arguments=SPEC)

    with (
        pytest.raises(InputError, match=r"cluster of kind class.*without TLS.*allow_unencrypted: true"),
        open_cluster(config.model_copy(update={"allow_unencrypted": False})),
    ):
        pass


def test_local_workers_talk_tls_where_it_is_configured(certificates: dict[str, str]) -> None:
    with open_cluster(ClusterConfig(n_workers=1, security=certificates)) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE_S) == 3


@pytest.mark.parametrize(
    ("content", "expected"), [(None, r"cluster\.security\.tls_client_cert: no file"), ("no PEM", "cannot be used")]
)
def test_certificate_that_is_none_is_named(
    content: str | None, expected: str, tmp_path: Path, certificates: dict[str, str]
) -> None:
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    security = certificates | {"tls_client_cert": str(path)}

    with pytest.raises(InputError, match=expected), open_cluster(ClusterConfig(n_workers=1, security=security)):
        pass


def test_content_of_a_key_has_no_place_in_a_config() -> None:
    with pytest.raises(ValueError, match="path of a PEM file, not its content"):
        ClusterConfig(security={"tls_ca_file": "ca.pem", "tls_client_cert": "-----BEGIN\nsecret"})


def test_fit_workers_leave_nothing_in_the_folder(client: Client, tmp_path: Path, scenes: MadeScenes) -> None:
    (tmp_path / "run").mkdir()

    check_workers(client, folder=RunFolder(str(tmp_path / "run")), scenes=[str(scenes.before)])

    assert list((tmp_path / "run").iterdir()) == []


@pytest.fixture
def other_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process, and not the workers, take itself for one with an older torch."""
    monkeypatch.setattr(checks, "version", lambda name: "2.6.0" if name == "torch" else version(name))
    list_versions.cache_clear()
    yield
    list_versions.cache_clear()


def test_worker_with_another_package_is_refused(client: Client, tmp_path: Path, other_torch: None) -> None:
    theirs = version("torch").replace("+", r"\+")

    with pytest.raises(InputError, match=rf"worker tcp://\S+ has torch {theirs}; expected as here, torch 2\.6\.0"):
        check_workers(client, folder=RunFolder(str(tmp_path)), scenes=[])


def test_worker_without_this_package_is_refused(tmp_path: Path) -> None:
    def forget_package() -> None:
        import sys

        class Refuser:
            def find_spec(self, name: str, path: object = None, target: object = None) -> None:
                if name.partition(".")[0] == "pipeline":
                    raise ModuleNotFoundError(f"No module named {name!r}")

        sys.meta_path.insert(0, Refuser())

    with ExitStack() as stack:
        _, address = stack.enter_context(run_scheduler(tmp_path))
        stack.enter_context(run_worker(address))
        client = stack.enter_context(open_cluster(ClusterConfig(kind="address", address=address)))
        client.run(forget_package)

        with pytest.raises(InputError, match=r"worker tcp://\S+ cannot run this package.*No module named 'pipeline"):
            check_workers(client, folder=RunFolder(str(tmp_path)), scenes=[])


def test_workers_that_see_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # This path leads every process into its own working directory, as an equal path does on another machine.
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    (here / "run").mkdir()
    (here / "scene.tif").write_bytes(b"pixels")
    own = "/proc/self/cwd"
    with ExitStack() as stack:
        _, address = stack.enter_context(run_scheduler(tmp_path))
        stack.enter_context(run_worker(address, cwd=there))
        client = stack.enter_context(open_cluster(ClusterConfig(kind="address", address=address)))

        with pytest.raises(InputError, match=r"worker tcp://\S+ does not see the run's folder /proc/self/cwd/run"):
            check_workers(client, folder=RunFolder(f"{own}/run"), scenes=[])
        assert not (there / "run").exists()
        with pytest.raises(InputError, match=r"does not see the scene /proc/self/cwd/scene\.tif"):
            check_workers(client, folder=RunFolder(str(here / "run")), scenes=[f"{own}/scene.tif"])
        (here / "scene.zip").write_bytes(b"archive")
        with pytest.raises(InputError, match=r"does not see the scene /proc/self/cwd/scene\.zip"):
            check_workers(client, folder=RunFolder(str(here / "run")), scenes=[f"zip://{own}/scene.zip!a.tif"])
        (there / "scene.tif").write_bytes(b"others")
        check_workers(client, folder=RunFolder(str(here / "run")), scenes=[f"{own}/scene.tif"])
        (there / "scene.tif").write_bytes(b"more pixels")
        with pytest.raises(InputError, match=r"sees another scene /proc/self/cwd/scene\.tif, of 11 bytes, not 6"):
            check_workers(client, folder=RunFolder(str(here / "run")), scenes=[f"{own}/scene.tif"])
    assert list((here / "run").iterdir()) == []


def test_weights_neither_pause_nor_end_a_worker_that_has_room_for_them() -> None:
    def hold_weights(dask_worker: Worker) -> tuple[str, float]:
        import psutil

        # Nothing that Dask would know of, as a model's weights are not.
        dask_worker.weights = bytearray(b"w") * int(0.9 * 1024**3 - psutil.Process().memory_info().rss)
        return dask_worker.address, psutil.Process().memory_info().rss / 1024**3

    def tell_status(dask_worker: Worker) -> tuple[str, str]:
        return dask_worker.address, dask_worker.status.name

    def memory_monitor_ran_again(dask_worker: Worker) -> None:
        for _ in range(3):
            dask_worker.loop.add_callback(dask_worker.memory_manager.memory_monitor, dask_worker)

    with open_cluster(ClusterConfig(n_workers=1, memory_limit="1GiB")) as client:
        [(address, held_gib)] = client.run(hold_weights).values()
        client.run(memory_monitor_ran_again)

        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE_S) == 3
        assert list(client.run(tell_status).values()) == [(address, "running")]

    assert held_gib > 0.85


def test_precision_that_the_workers_took_is_recorded_and_names_the_answers(
    tmp_path: Path, scenes: MadeScenes, shared_cluster: OpenCluster
) -> None:
    run = tmp_path / "run"
    stages: dict[str, StageSummary] = {}

    def add(part: StageSummary) -> None:
        stages[part.stage] = stages[part.stage] + part if part.stage in stages else part

    def run_with(dtype: str) -> tuple[RunRecord, int]:
        stages.clear()
        settings = (
            "model.name=deltavlm-tiny",
            "model.outside=warn",
            f"model.dtype={dtype}",
            "tiles.shard_size_tiles=8",
            "prompts=[{name: changed, kind: classify, text: Have these two images changed}]",
        )
        config = make_config(scenes, output=run, assignments=(*settings, "grid.tile_size_px=192"))
        report = detect_changes(config, open_cluster=shared_cluster, on_progress=add)
        return read_record(report.folder), stages["collect_answers"].done

    chosen = resolve_dtype("deltavlm-tiny", device="auto", dtype="auto")
    other = "float32" if chosen == "bfloat16" else "bfloat16"

    first, n_first = run_with("auto")
    again, n_again = run_with("auto")
    named, n_named = run_with(chosen)
    others, n_others = run_with(other)
    adopted, n_adopted = run_with("auto")

    assert first.config["model"]["dtype"] == chosen
    assert (first.run_id, first.run_id) == (again.run_id, named.run_id)
    assert n_first > 0
    assert (n_again, n_named) == (0, 0)
    assert others.run_id != first.run_id
    assert n_others == n_first
    # What is left open is what the folder's finished run had, be it on this machine or another.
    assert (adopted.run_id, n_adopted) == (others.run_id, 0)


class Comings(SchedulerPlugin):
    """Who joined a scheduler of this process, and who left it."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.left: list[str] = []

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self.joined.append(worker)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        self.left.append(worker)


def test_worker_that_joins_late_without_the_model_leaves_again(tmp_path: Path) -> None:
    def list_models(dask_worker: Worker) -> int:
        return len(list_held_models())

    copy = tmp_path / "model"
    shutil.copytree(find_model_folder("deltavlm-tiny"), copy)
    model, identity = ModelConfig(name=str(copy)), identify_model(str(copy))
    with open_cluster(ClusterConfig(n_workers=1)) as client:
        [first] = client.scheduler_info()["workers"]
        register_model(client, model=model, identity=identity)
        (copy / "model.safetensors").unlink()
        comings = Comings()
        client.cluster.scheduler.add_plugin(comings)

        client.cluster.scale(2)

        wait_for(lambda: comings.left, what="leave of the second worker")
        assert comings.left == comings.joined
        assert set(client.nthreads()) == {first}
        assert client.run(list_models) == {first: 1}

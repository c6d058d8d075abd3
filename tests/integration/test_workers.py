"""Tasks on real workers: few at once, none forgotten, and a clear word when the cluster is gone."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from patience import PATIENCE_S, wait_for
from stand_in_model import StandInModel

from flows.cluster import open_cluster
from model.errors import InputError
from model.interface import ModelIdentity
from model.registry import find_model_folder, identify_model
from pipeline.config.cluster import ClusterConfig
from pipeline.config.model import ModelConfig
from pipeline.workers import tasks
from pipeline.workers.models import ModelPlugin, hold_model, list_held_models, register_model, unregister_model
from pipeline.workers.tasks import Call, choose_max_in_flight, run_bounded

# Functions of a test module reach the workers by value: that module cannot be imported there.


def square(number: int) -> int:
    if number == 3:
        raise ValueError("three is not squared")
    return number**2


def take(calls: Iterable[tuple[str, tuple[Any, ...]]]) -> Callable[[], Call | None]:
    """Give one call after the other, and None when there are no more."""
    waiting = (Call(*call) for call in calls)
    return lambda: next(waiting, None)


def count_tasks(client: Client, prefix: str) -> int:
    """Count the tasks of one kind: the workers are shared, and so others may be there."""
    return int(
        client.run_on_scheduler(lambda dask_scheduler: sum(key.startswith(prefix) for key in dask_scheduler.tasks))
    )


def test_results_and_errors_come_back_once_each(client: Client) -> None:
    expected: dict[str, Any] = {f"square-{number}": number**2 for number in range(12) if number != 3}

    outcomes = list(run_bounded(client, square, take((f"square-{n}", (n,)) for n in range(12)), max_in_flight=3))

    errors = {key: str(outcome) for key, outcome in outcomes if isinstance(outcome, BaseException)}
    assert {key: outcome for key, outcome in outcomes if key not in errors} == expected
    assert errors == {"square-3": "ValueError: three is not squared"}
    assert len(outcomes) == 12


def test_scheduler_never_knows_more_than_the_window(client: Client) -> None:
    counts = [
        count_tasks(client, "window-")
        for _ in run_bounded(client, square, take((f"window-{n}", (100 + n,)) for n in range(20)), max_in_flight=4)
    ]

    assert len(counts) == 20
    # One more while the word of the last one's release is on its way.
    assert max(counts) <= 4 + 1


def test_arguments_are_taken_as_they_are_needed(client: Client) -> None:
    taken = []

    def arguments():
        for number in range(100, 150):
            taken.append(number)
            yield f"lazy-{number}", (number,)

    first = next(run_bounded(client, square, take(arguments()), max_in_flight=2))

    assert first[1] in {100**2, 101**2}
    assert len(taken) <= 3


def test_stopping_early_leaves_nothing_behind(client: Client) -> None:
    outcomes = run_bounded(client, square, take((f"early-{n}", (100 + n,)) for n in range(20)), max_in_flight=4)
    next(outcomes)

    outcomes.close()

    wait_for(lambda: count_tasks(client, "early-") == 0, what="end of the tasks")


def name_held_model(model: ModelConfig, identity: ModelIdentity) -> tuple[str, int]:
    with hold_model(model, identity=identity) as held:
        return held.identity.model_id, id(held)


def test_model_is_loaded_once_per_worker(client: Client) -> None:
    config = ModelConfig(name="stand-in")
    for _ in range(2):
        register_model(client, model=config, identity=StandInModel.identity)
        seen = client.run(get_models_of_worker, StandInModel.identity)
        assert len(seen) == 2
        assert {model_id for model_id, _ in seen.values()} == {"stand-in@1"}
        calls = ((f"name-{n}", (config, StandInModel.identity)) for n in range(8))
        # Whatever worker a task ran on, it met a model that was there before.
        assert {outcome for _, outcome in run_bounded(client, name_held_model, take(calls), max_in_flight=4)} <= set(
            seen.values()
        )
    unregister_model(client, model=config, identity=StandInModel.identity)


def test_model_goes_with_the_last_run_that_uses_it(client: Client) -> None:
    config, identity = ModelConfig(name="stand-in", batch_size_tiles=7), StandInModel.identity
    with Client(client.scheduler.address, set_as_default=False) as other:
        register_model(client, model=config, identity=identity)
        first = set(client.run(get_models_of_worker, identity).values())
        register_model(other, model=config, identity=identity)
        assert set(client.run(get_models_of_worker, identity).values()) == first

        unregister_model(client, model=config, identity=identity)
        calls = take([("after-the-first", (config, identity))])
        assert next(outcome for _, outcome in run_bounded(other, name_held_model, calls, max_in_flight=1)) in first

        unregister_model(other, model=config, identity=identity)
    assert all(held == [] for held in client.run(list_held_keys).values())


def test_model_of_a_client_that_is_gone_is_let_go(client: Client) -> None:
    model, identity = ModelConfig(name="stand-in", batch_size_tiles=3), StandInModel.identity
    with Client(client.scheduler.address, set_as_default=False) as other:
        register_model(other, model=model, identity=identity)
        gone = other.id
    wait_for(lambda: gone not in list_clients(client), what="end of the other client")

    register_model(client, model=ModelConfig(name="stand-in"), identity=identity)

    assert all(len(held) == 1 for held in client.run(list_held_keys).values())
    unregister_model(client, model=ModelConfig(name="stand-in"), identity=identity)


def list_held_keys() -> list[str]:
    return sorted(list_held_models())


def list_clients(client: Client) -> list[str]:
    return list(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients)))


def get_models_of_worker(identity: ModelIdentity) -> tuple[str, int]:
    [model] = [model for key, model in list_held_models().items() if key.startswith(identity.weight_hash)]
    return model.identity.model_id, id(model)


def test_other_weights_on_a_worker_are_refused(client: Client) -> None:
    elsewhere = ModelIdentity(model_id="stand-in@2", weight_hash="other", path="")

    with pytest.raises(InputError, match=r"holds stand-in@1.*expected stand-in@2"):
        client.register_plugin(ModelPlugin(model=ModelConfig(name="stand-in"), identity=elsewhere))


def test_model_that_workers_do_not_have_is_named(client: Client, tmp_path: Path) -> None:
    identity = ModelIdentity(model_id="mine@1", weight_hash="1", path="")

    with pytest.raises(InputError, match=r"expected the files of mine@1 on every worker's machine"):
        client.register_plugin(ModelPlugin(model=ModelConfig(name=str(tmp_path)), identity=identity))


def test_model_that_could_not_be_loaded_is_tried_again(client: Client, tmp_path: Path) -> None:
    folder = Path(find_model_folder("deltavlm-tiny"))
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    model, identity = ModelConfig(name=str(copy)), identify_model(str(copy))
    (copy / "model.safetensors").rename(copy / "hidden")
    with pytest.raises(InputError, match="cannot load model"):
        register_model(client, model=model, identity=identity)
    (copy / "hidden").rename(copy / "model.safetensors")

    register_model(client, model=model, identity=identity)

    loaded = client.run(get_models_of_worker, identity)
    assert {model_id for model_id, _ in loaded.values()} == {identity.model_id}
    unregister_model(client, model=model, identity=identity)


def test_scheduler_that_goes_away_is_told() -> None:
    with open_cluster(ClusterConfig(n_workers=1)) as client:
        outcomes = run_bounded(client, square, take((f"gone-{n}", (100 + n,)) for n in range(1000)), max_in_flight=2)
        next(outcomes)
        client.cluster.close()

        with pytest.raises(InputError, match="went away"):
            list(outcomes)


def test_address_without_a_scheduler_is_told() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        config = ClusterConfig(kind="address", address=address)

        with pytest.raises(InputError, match=rf"cluster\.address {address}"), open_cluster(config):
            pass


@pytest.mark.parametrize(("n_workers", "asked", "expected"), [(2, None, 6), (0, None, 3), (2, 1, 1), (100, 5, 5)])
def test_window_is_what_is_asked_for_or_a_few_per_worker(n_workers: int, asked: int | None, expected: int) -> None:
    assert choose_max_in_flight(n_workers, asked=asked) == expected


def test_window_grows_with_the_cluster(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SECONDS_BETWEEN_COUNTS", 0.01)
    taken: list[int] = []

    def arguments() -> Iterator[tuple[str, tuple[int]]]:
        for number in range(100, 200):
            taken.append(number)
            yield f"grow-{number}", (number,)

    with open_cluster(ClusterConfig(n_workers=1)) as small:
        outcomes = run_bounded(small, square, take(arguments()), max_in_flight=None)
        next(outcomes)
        n_at_first = len(taken)
        small.cluster.scale(2)
        small.wait_for_workers(2, timeout=PATIENCE_S)
        n_before = len(taken)
        for _ in range(3):
            next(outcomes)
        outcomes.close()

    assert n_at_first == 3
    # Each of the three makes room for one more, and the second worker for three.
    assert len(taken) - n_before >= 3 + 2


def test_cluster_without_workers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SECONDS_BETWEEN_COUNTS", 0.05)
    with open_cluster(ClusterConfig(n_workers=1, no_workers_timeout_s=0.3)) as client:
        outcomes = run_bounded(client, time.sleep, take((f"slow-{n}", (60,)) for n in range(3)), max_in_flight=None)
        client.cluster.scale(0)

        with pytest.raises(InputError, match=r"no worker has been there for 0\.3 s"):
            list(outcomes)


def test_cluster_listens_on_the_loopback_only(client: Client) -> None:
    import psutil

    children = psutil.Process().children(recursive=True)
    listening = [
        connection.laddr.ip
        for process in [psutil.Process(), *children]
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert set(listening) <= {"127.0.0.1", "::1"}

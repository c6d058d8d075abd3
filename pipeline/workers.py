"""What runs on Dask workers: one model per worker, and a bounded number of tasks in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from distributed import Client, Future, Worker, WorkerPlugin, as_completed, get_worker

from model.interface import ChangeModel, ModelIdentity, load_model
from pipeline.config import ModelConfig
from pipeline.errors import InputError

TASKS_PER_WORKER = 3
"""Tasks handed out per worker: one at work, one waiting with it, one on its way."""


class ModelPlugin(WorkerPlugin):
    """Loads the model once on every worker, also on those that start later or start again.

    The plugin's name tells the weights and how they are held, so that registering it a second time on a
    cluster that lives on loads nothing, and two runs with two models do not disturb each other.
    """

    idempotent = True

    def __init__(self, *, model: ModelConfig, identity: ModelIdentity) -> None:
        self.name = _name_plugin(model, identity=identity)
        self.config = model
        self.identity = identity
        self.model: ChangeModel | None = None

    async def setup(self, worker: Worker) -> None:
        """Load the model beside the worker's event loop, which goes on sending heartbeats meanwhile.

        Raises:
            InputError: the worker's machine has no model of this name, or other weights under it.
        """
        problem = ""
        try:
            loaded = await asyncio.to_thread(
                load_model,
                self.config.name,
                device=self.config.device,
                dtype=self.config.dtype,
                batch_size_tiles=self.config.batch_size_tiles,
            )
        except Exception as failure:
            # Whatever it is, no worker will do better; and some errors cannot be pickled, so the words go home alone.
            problem = f"{type(failure).__name__}: {failure}"
        if problem:
            raise InputError(
                f"worker {worker.address} cannot load model {self.config.name!r} ({problem[:500]})",
                expected=f"the files of {self.identity.model_id} on every worker's machine, and device "
                f"{self.config.device!r} there",
                remedy="install or copy the model there, or correct model.name and model.device",
            )
        if loaded.identity.weight_hash != self.identity.weight_hash:
            raise InputError(
                f"worker {worker.address} holds {loaded.identity.model_id} as model {self.config.name!r}",
                expected=self.identity.model_id,
                remedy="put the same model files on every worker's machine",
            )
        self.model = loaded


def _name_plugin(model: ModelConfig, *, identity: ModelIdentity) -> str:
    return f"model-{identity.weight_hash}-{model.device}-{model.dtype}-{model.batch_size_tiles}"


def register_model(client: Client, *, model: ModelConfig, identity: ModelIdentity) -> None:
    """Have every worker load the model, unless it holds it already.

    Raises:
        InputError: a worker cannot load it; the cluster then forgets about it, so that a later try loads again.
    """
    plugin = ModelPlugin(model=model, identity=identity)
    try:
        client.register_plugin(plugin)
    except Exception:
        client.unregister_worker_plugin(plugin.name)
        raise


def get_worker_model(model: ModelConfig, *, identity: ModelIdentity) -> ChangeModel:
    """Give the model that `ModelPlugin` loaded on the worker this is called on.

    Raises:
        RuntimeError: the plugin was not registered with the cluster, or has not finished loading.
    """
    plugin = get_worker().plugins.get(_name_plugin(model, identity=identity))
    if not isinstance(plugin, ModelPlugin) or plugin.model is None:
        raise RuntimeError(f"this worker holds no model {identity.model_id}; register ModelPlugin first")
    return plugin.model


def choose_max_in_flight(client: Client, *, asked: int | None) -> int:
    """Give how many tasks to hand to the scheduler at once: what was asked for, or a few per worker."""
    return asked if asked is not None else TASKS_PER_WORKER * max(1, len(client.nthreads()))


def run_bounded(
    client: Client,
    function: Callable[..., Any],
    arguments: Iterable[tuple[str, tuple[Any, ...]]],
    *,
    max_in_flight: int,
    resources: Mapping[str, float] | None = None,
) -> Iterator[tuple[str, Any | BaseException]]:
    """Run a function on the workers for each of many arguments, never more than a few at once.

    A scheduler spends memory on every task it knows of, and a future holds its result on a worker until it is
    released; so tasks are handed over one by one as others finish, and each is released before it is yielded.

    Args:
        client: The cluster.
        function: A top-level function; it may run more than once for one argument, as workers may die.
        arguments: Unique task key and positional arguments of each call, taken from lazily.
        max_in_flight: Most tasks that the scheduler knows of at any time.
        resources: Worker resources that each task takes up.

    Yields:
        Task key and the call's result, or the exception that ended it, in the order in which they finish. A
        call that killed its worker again and again ends in `distributed.KilledWorker`.

    Raises:
        InputError: the scheduler went away.
    """
    waiting = iter(arguments)
    running: dict[Future[Any], str] = {}
    address = str(client.scheduler.address) if client.scheduler else "(closed)"

    def submit_next(count: int) -> list[Future[Any]]:
        futures = []
        for key, values in islice(waiting, count):
            future = client.submit(function, *values, key=key, pure=False, resources=resources)
            running[future] = key
            futures.append(future)
        return futures

    try:
        finished = as_completed(submit_next(max_in_flight), loop=client.loop)
        while running:
            future = next(finished)
            key = running.pop(future)
            outcome = _take_outcome(future, address=address)
            future.release()
            finished.update(submit_next(max_in_flight - len(running)))
            yield key, outcome
    finally:
        # What is still running when the caller stops early is of no use to anyone: releasing it cancels it.
        for future in running:
            future.release()


def _take_outcome(future: Future[Any], *, address: str) -> Any | BaseException:
    if future.status == "error":
        return future.exception()
    if future.status == "finished":
        with suppress(asyncio.CancelledError):
            return future.result()
    raise InputError(
        f"scheduler {address} went away in the middle of the work",
        expected="a scheduler that stays until the run has ended",
        remedy="start the scheduler and then the run again: it does only what is missing",
    )

"""The models that workers hold: loaded once per worker, used by one batch at a time, let go when no run needs them."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from distributed import Client, Scheduler, Worker, WorkerPlugin, secede

from model.errors import InputError
from model.interface import ChangeModel, ModelIdentity
from model.redaction import redact_text
from model.registry import load_model, resolve_dtype
from pipeline.config.limits import DEFAULT_LIMITS
from pipeline.config.model import ModelConfig
from pipeline.workers.checks import list_versions, refuse_mismatch
from pipeline.workers.outcomes import describe_fault
from pipeline.workers.tasks import ask_workers

_PREFIX = "deltavlm-model"
_TRIES = 5


@dataclass(kw_only=True)
class _HeldModel:
    model: ChangeModel
    n_holders: int = 0
    """Plugins, and so runs, that need it."""


_held: dict[str, _HeldModel] = {}
"""What this worker's process holds, by the key of the model."""
_loading = threading.Lock()
_computing = threading.Lock()


class ModelPlugin(WorkerPlugin):
    """Loads the model once on every worker, also on those that start later or start again.

    The plugin's name tells the weights, how they are held and for whom. Runs on one scheduler that use one model
    share it on each worker, and it goes when the last of them has ended.
    """

    idempotent = True

    def __init__(
        self,
        *,
        model: ModelConfig,
        identity: ModelIdentity,
        holder: str = "",
        limit_s: float = DEFAULT_LIMITS.model_load_s,
    ) -> None:
        self.config = model
        self.identity = identity
        self.limit_s = limit_s
        self.versions = list_versions()
        self.key = _name_model(model, identity=identity)
        self.name = f"{_PREFIX}-{self.key}-{holder}"
        self._has_model = False

    async def setup(self, worker: Worker) -> None:
        """Load the model beside the worker's event loop, which goes on sending heartbeats meanwhile.

        Raises:
            InputError: the worker's machine has other packages, no model of this name, or other weights under it.
        """
        try:
            refuse_mismatch(list_versions(), expected=self.versions, source=f"worker {worker.address}")
            loading = asyncio.to_thread(take_model, self.key, lambda: self._load(worker.address))
            await asyncio.wait_for(loading, timeout=self.limit_s)
        except Exception as problem:
            if not worker.periodic_callbacks["heartbeat"].is_running():
                # ^ It is only just joining, so nobody hears of its error; it would fail one batch after the other.
                worker.loop.add_callback(worker.close, reason="deltavlm-unfit")
            if isinstance(problem, TimeoutError):
                raise InputError(
                    f"worker {worker.address} has not loaded model {self.config.name!r} within {self.limit_s:g} s",
                    expected="a model that is there in time",
                    remedy="raise limits.model_load_s, or take another model",
                ) from None
            raise
        self._has_model = True

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask passes it by name
        """Let the model go, unless another run on this worker uses it."""
        if self._has_model:
            self._has_model = False
            return_model(self.key)

    def _load(self, address: str) -> ChangeModel:
        try:
            loaded = load_model(
                self.config.name,
                device=self.config.device,
                dtype=self.config.precision,
                batch_size_tiles=self.config.batch_size_tiles,
            )
        except InputError as problem:
            raise InputError(
                f"worker {address} cannot load model {self.config.name!r} ({problem.found})",
                expected=f"the files of {self.identity.model_id} on every worker's machine, and device "
                f"{self.config.device!r} there",
                remedy="install or copy the model there, or correct model.name and model.device",
            ) from None
        except BaseException as fault:
            # Some errors cannot be pickled, and some end a process, so the words of the fault go home alone.
            told = describe_fault(fault)
            words = f"worker {address} failed to load model {self.config.name!r}: {told}\n{traceback.format_exc()}"
            raise RuntimeError(redact_text(words)) from None
        if loaded.identity.weight_hash != self.identity.weight_hash:
            raise InputError(
                f"worker {address} holds {loaded.identity.model_id} as model {self.config.name!r}",
                expected=self.identity.model_id,
                remedy="put the same model files on every worker's machine",
            )
        return loaded


def _name_model(model: ModelConfig, *, identity: ModelIdentity) -> str:
    return f"{identity.weight_hash}-{model.device}-{model.precision}-{model.batch_size_tiles}"


def list_held_models() -> dict[str, ChangeModel]:
    """Give the models that this process holds by their keys, which begin with the hash of the weights."""
    with _loading:
        return {key: held.model for key, held in _held.items()}


def take_model(key: str, load: Callable[[], ChangeModel]) -> None:
    """Hold a model for one more run; it is loaded if it is not there yet."""
    with _loading:
        if key not in _held:
            _held[key] = _HeldModel(model=load())
        _held[key].n_holders += 1


def return_model(key: str) -> None:
    """Let go of a model on behalf of one run; with the last of them it goes."""
    with _loading:
        _held[key].n_holders -= 1
        if not _held[key].n_holders:
            del _held[key]
    # Modules of torch refer to each other in circles.
    gc.collect()


@dataclass(kw_only=True)
class _Keeper:
    """Who has workers keep the models of several runs."""

    client: Client
    registering: threading.Lock = field(default_factory=threading.Lock)
    # ^ What has been registered is believed to be loaded, so the second run waits for the first one's registration.
    kept: dict[str, None] = field(default_factory=dict)
    """Names of plugins."""


_keeper: ContextVar[_Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def keep_models(client: Client) -> Iterator[None]:
    """Have workers keep what the runs in the context load, for the runs after them, until it ends.

    Args:
        client: One to the cluster of these runs; theirs come and go.
    """
    keeper = _Keeper(client=client)
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)
        for name in keeper.kept:
            _unregister(client, name)


def _find_keeper(client: Client) -> _Keeper | None:
    keeper = _keeper.get()
    if keeper is None or keeper.client.scheduler is None or client.scheduler is None:
        return None
    return keeper if keeper.client.scheduler.address == client.scheduler.address else None


def register_model(
    client: Client, *, model: ModelConfig, identity: ModelIdentity, limit_s: float = DEFAULT_LIMITS.model_load_s
) -> None:
    """Have every worker load the model, unless it holds it already; inside `keep_models` it stays with them.

    Args:
        client: The cluster.
        model: How the model is held.
        identity: Which weights.
        limit_s: How long a worker may take, in seconds.

    Raises:
        InputError: a worker cannot load it; the cluster then forgets about it, so that a later try loads again.
    """
    with suppress(Exception):
        # What clients that died have left there. A scheduler may run without this package, and need not know it.
        client.run_on_scheduler(_drop_orphans)
    keeper = _find_keeper(client)
    if keeper is None:
        _register(client, ModelPlugin(model=model, identity=identity, holder=client.id, limit_s=limit_s))
        return
    plugin = ModelPlugin(model=model, identity=identity, holder=keeper.client.id, limit_s=limit_s)
    with keeper.registering:
        _register(keeper.client, plugin)
        keeper.kept[plugin.name] = None


def _register(client: Client, plugin: ModelPlugin) -> None:
    for n_tries_left in reversed(range(_TRIES)):
        try:
            client.register_plugin(plugin)
            return
        except Exception as problem:
            _unregister(client, plugin.name)
            # A worker that dies just then takes the word about all others with it; what comes in its place loads too.
            if not isinstance(problem, OSError) or not n_tries_left:
                raise


def unregister_model(client: Client, *, model: ModelConfig, identity: ModelIdentity) -> None:
    """Have the workers let go of the model, as far as this client's runs are concerned; it may not be there.

    Inside `keep_models` nothing happens yet.
    """
    if client.status == "running" and _find_keeper(client) is None:
        _unregister(client, ModelPlugin(model=model, identity=identity, holder=client.id).name)


def _unregister(client: Client, name: str) -> None:
    if client.status != "running":
        # Its scheduler is gone, and would be waited for.
        return
    with suppress(Exception):
        client.unregister_worker_plugin(name)


async def _drop_orphans(dask_scheduler: Scheduler) -> None:
    for name in list(dask_scheduler.worker_plugins):
        if name.startswith(_PREFIX) and not any(name.endswith(client) for client in dask_scheduler.clients):
            await dask_scheduler.unregister_worker_plugin(comm=None, name=name)


@contextmanager
def hold_model(model: ModelConfig, *, identity: ModelIdentity, is_reading_ahead: bool = True) -> Iterator[ChangeModel]:
    """Have the model of the worker that this task runs on to oneself.

    As soon as it is this task's turn, its thread leaves the worker's pool. The worker, which has one thread, is then
    given the next task, which reads its pixels and waits here: at any time one batch is being computed and one is
    being read, and what is left to do after the context, such as writing, keeps nobody waiting.

    Args:
        model: How the model is held.
        identity: Which weights.
        is_reading_ahead: Whether the thread leaves the pool.

    Raises:
        RuntimeError: the plugin was not registered with the cluster, or has not finished loading.
    """
    with _computing:
        if is_reading_ahead:
            secede()
        held = _held.get(_name_model(model, identity=identity))
        if held is None:
            raise RuntimeError(f"this worker holds no model {identity.model_id}; register ModelPlugin first")
        yield held.model


def settle_dtype(client: Client, model: ModelConfig) -> ModelConfig:
    """Ask the workers which precision ``auto`` is, so that answers can be named after it.

    Raises:
        InputError: they would take different ones, or cannot tell.
    """
    if model.precision != "auto":
        return model
    found: dict[str, str] = {}
    for address, answer in ask_workers(client, _resolve_dtype, model).items():
        if isinstance(answer, BaseException):
            raise answer
        found[address] = answer
    dtypes = sorted(set(found.values()))
    if len(dtypes) != 1:
        example = {dtype: next(address for address in sorted(found) if found[address] == dtype) for dtype in dtypes}
        raise InputError(
            f"model.dtype auto is {' and '.join(f'{dtype} on worker {where}' for dtype, where in example.items())}",
            expected="one precision for all answers of a run",
            remedy="set model.dtype to bfloat16 or float32",
        )
    return model.model_copy(update={"dtype": dtypes[0]})


def _resolve_dtype(model: ModelConfig, dask_worker: Worker | None = None) -> str:
    # Dask hands the worker to a function that asks for it by this name.
    limit = None if dask_worker is None else dask_worker.memory_manager.memory_limit
    return resolve_dtype(model.name, device=model.device, dtype=model.precision, memory_bytes=limit)

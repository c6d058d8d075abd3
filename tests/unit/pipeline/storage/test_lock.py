"""One run at a time: in a folder by the operating system, in a bucket by conditional writes."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from patience import wait_for

from model.errors import FolderError
from pipeline.storage import object_lock
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import hold_lock
from pipeline.storage.lock_holder import Holder, find_process_start, identify_machine, may_take_over
from pipeline.storage.names import LOCK_NAME
from pipeline.storage.object_lock import ObjectLock

GONE = {"pid": 2**22 + 1, "process_started": 1.0}
"""No process has such a number."""


def make_lock(store: MemoryStore, *, timeout_s: float = 300.0, **more: Any) -> ObjectLock:
    return ObjectLock(store, uri="s3://bucket/run", timeout_s=timeout_s, **more)


def read_holder(store: MemoryStore) -> Holder:
    """Read who has the lock."""
    holder = Holder.from_json(bytes(obstore.get(store, LOCK_NAME).bytes()))
    assert holder is not None
    return holder


def leave_lock(store: MemoryStore, **changes: object) -> Holder:
    """Put the lock of somebody else there."""
    holder = replace(Holder(), **changes)  # type: ignore[arg-type]
    obstore.put(store, LOCK_NAME, holder.to_json())
    return holder


@pytest.mark.parametrize(
    ("holder", "age_s", "expected"),
    [
        (Holder(), 1, False),
        (Holder(), 301, True),
        (Holder(**GONE), 1, True),  # type: ignore[arg-type]
        (Holder(process_started=1.0), 1, True),
        (Holder(machine="another", **GONE), 299, False),  # type: ignore[arg-type]
        (Holder(machine="another", **GONE), 301, True),  # type: ignore[arg-type]
        (Holder(machine="", **GONE), 299, False),  # type: ignore[arg-type]
        (None, 299, False),
        (None, 301, True),
    ],
)
def test_only_a_holder_that_is_gone_is_replaced(holder: Holder | None, age_s: float, expected: bool) -> None:
    assert may_take_over(holder, machine=identify_machine(), age_s=age_s, timeout_s=300) is expected


def test_nobody_can_tell_of_a_process_where_machines_have_no_names() -> None:
    assert not may_take_over(Holder(machine="", **GONE), machine="", age_s=1, timeout_s=300)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"{}", b'{"owner": "x"}', b"null", b"[" * 60_000),
        *(json.dumps(asdict(Holder()) | {"pid": pid}).encode() for pid in ("../tmp/pipe", 0, -1, 1 << 40, True)),
    ],
)
def test_a_lock_that_tells_nothing_is_nobody(data: bytes) -> None:
    assert Holder.from_json(data) is None


def test_a_process_that_is_hidden_from_others_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(pid, signal)

    holder = Holder(**GONE)  # type: ignore[arg-type]
    monkeypatch.setattr(os, "kill", refuse)
    assert holder.is_running()


@pytest.mark.skipif(not Path("/proc/self/ns/time").is_symlink(), reason="no spaces of time")
def test_machines_names_tell_spaces_of_processes_and_of_time_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    here = identify_machine.__wrapped__()
    assert [part.partition(":")[0] for part in here.split()[1:]] == ["pid", "time"]

    # /proc is that of the machine around a container.
    monkeypatch.setattr(os, "getpid", lambda: GONE["pid"])
    assert identify_machine.__wrapped__() == ""


def test_a_holder_survives_its_json() -> None:
    holder = Holder(beat=7)
    assert Holder.from_json(holder.to_json()) == holder
    assert holder.is_running()


# In a local folder.


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))

    with hold_lock(folder) as lock:
        lock.check()
        told = json.loads(folder.read(LOCK_NAME))
        with (
            pytest.raises(FolderError, match=f"is being written by process {os.getpid()} on .*, since 20"),
            hold_lock(folder),
        ):
            pass
        lock.check()
    assert told["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    with hold_lock(folder):
        pass


def test_what_a_dead_run_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(Holder().to_json() * 2)
    folder = RunFolder(str(tmp_path))

    with hold_lock(folder):
        assert Holder.from_json(folder.read(LOCK_NAME)) is not None


def test_of_many_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    with ExitStack() as held:
        results = race(12, lambda: held.enter_context(hold_lock(folder)))

    assert sum(not isinstance(result, FolderError) for result in results) == 1


def test_in_turns_everybody_gets_the_folder_alone(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    n_inside = [0]

    def take_turns() -> int:
        n_turns = 0
        while n_turns < 20:
            try:
                with hold_lock(folder) as lock:
                    n_inside[0] += 1
                    assert n_inside[0] == 1
                    lock.check()
                    n_inside[0] -= 1
                    n_turns += 1
            except FolderError:
                continue
        return n_turns

    assert race(4, take_turns) == [20] * 4


def test_a_run_whose_folder_was_taken_away_stops(tmp_path: Path) -> None:
    with hold_lock(RunFolder(str(tmp_path))) as lock:
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(FolderError, match="has lost its lock"):
            lock.check()
        (tmp_path / LOCK_NAME).write_bytes(b"of somebody else")
        with pytest.raises(FolderError, match="has lost its lock"):
            lock.check()
    assert (tmp_path / LOCK_NAME).read_bytes() == b"of somebody else"


# In a bucket.


def test_a_bucket_is_held_once() -> None:
    store = MemoryStore()
    first = make_lock(store)
    first.acquire()

    with pytest.raises(FolderError, match=rf"is being written by process {os.getpid()}.*300 s after its last sign"):
        make_lock(store).acquire()
    first.check()
    first.release()

    assert [entry["path"] for batch in obstore.list(store) for entry in batch] == []
    second = make_lock(store)
    second.acquire()
    second.release()


def test_of_many_at_once_one_gets_the_bucket() -> None:
    store = MemoryStore()
    results = race(12, lambda: make_lock(store).acquire())
    assert sum(not isinstance(result, FolderError) for result in results) == 1


def test_of_many_at_once_one_takes_over_what_a_dead_run_has_left() -> None:
    store = MemoryStore()
    leave_lock(store, **GONE)
    results = race(12, lambda: make_lock(store).acquire())
    assert sum(not isinstance(result, FolderError) for result in results) == 1


def test_a_lock_of_another_machine_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    leave_lock(store, machine="another", host="elsewhere")
    lock = make_lock(store)
    with pytest.raises(FolderError, match="on elsewhere, since"):
        lock.acquire()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=301)
    monkeypatch.setattr(object_lock, "ask_time", lambda store, *, owner: later)

    lock.acquire()

    lock.check()
    lock.release()


def test_a_holder_shows_life_and_keeps_its_lock() -> None:
    store = MemoryStore()
    lock = make_lock(store)
    lock.acquire()
    lock.show_life()
    lock.show_life()

    lock.check()
    assert read_holder(store).beat == 2
    lock.release()


def test_a_holder_that_was_replaced_stops_and_lets_the_other_be() -> None:
    store = MemoryStore()
    lock = make_lock(store)
    lock.acquire()
    other = leave_lock(store, host="elsewhere")

    lock.show_life()

    with pytest.raises(FolderError, match=r"has lost its lock .it went to process .* on elsewhere"):
        lock.check()
    lock.release()
    assert read_holder(store) == other


def test_a_holder_whose_lock_was_removed_stops() -> None:
    store = MemoryStore()
    lock = make_lock(store)
    lock.acquire()
    obstore.delete(store, LOCK_NAME)

    lock.show_life()

    with pytest.raises(FolderError, match="somebody removed it"):
        lock.check()
    lock.release()


def test_a_sign_of_life_whose_answer_was_lost_is_found() -> None:
    store = MemoryStore()
    lock = make_lock(store)
    lock.acquire()
    # The store has taken a sign of life that this lock knows nothing of.
    leave_lock(store, **{**asdict(read_holder(store)), "beat": 1})

    lock.show_life()
    lock.show_life()

    lock.check()
    assert read_holder(store).beat == 2
    lock.release()


def test_a_created_lock_whose_answer_was_lost_is_ones_own() -> None:
    store = MemoryStore()
    lock = make_lock(store, holder=leave_lock(store))

    lock.acquire()

    lock.check()
    assert obstore.list(store).collect()
    lock.release()
    assert not obstore.list(store).collect()


def test_a_holder_that_cannot_show_life_stops_before_another_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    lock = make_lock(MemoryStore(), timeout_s=300, clock=lambda: now_s)
    lock.acquire()

    def fail(*_: object, **__: object) -> None:
        raise GenericError("down")

    monkeypatch.setattr(obstore, "put", fail)
    lock.show_life()
    now_s += 200
    lock.check()
    now_s += 26

    with pytest.raises(FolderError, match="for 226 s the store took no sign of life"):
        lock.check()
    lock.release()


def test_a_holder_that_stood_still_asks_before_it_goes_on() -> None:
    now_s, store = 1000.0, MemoryStore()
    lock = make_lock(store, timeout_s=300, clock=lambda: now_s)
    lock.acquire()
    now_s += 3600
    lock.check()
    assert read_holder(store).beat == 1

    other = leave_lock(store, owner="another")
    now_s += 3600

    with pytest.raises(FolderError, match=f"it went to process {other.pid}"):
        lock.check()
    lock.release()
    assert read_holder(store).owner == "another"


def test_a_clock_that_is_set_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    first, second = make_lock(store), make_lock(store)
    first.acquire()
    for name in ("time", "monotonic"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + 1e6)

    with pytest.raises(FolderError, match="is being written by process"):
        second.acquire()
    first.check()
    first.release()


def test_a_process_that_has_ended_unnoticed_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        holder = Holder(pid=child.pid, process_started=find_process_start(child.pid) or 0.0)
        wait_for(lambda: not holder.is_running(), what="end of a process that nobody has waited for")
        assert child.returncode is None


def test_release_is_repeated_while_the_store_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    lock = make_lock(store)
    lock.acquire()
    real, n_tries = obstore.delete, 0

    def delete_after_all(*arguments: Any) -> None:
        nonlocal n_tries
        n_tries += 1
        if n_tries == 3:
            # It is done, and nobody hears of it.
            real(*arguments)
        if n_tries <= 3:
            raise GenericError("connection cut")
        real(*arguments)

    monkeypatch.setattr(obstore, "delete", delete_after_all)
    lock.release(patience_s=60)

    assert n_tries == 3
    assert not obstore.list(store).collect()


def test_a_run_without_its_lock_writes_nothing_more(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put("run.json", b"{}")
    with hold_lock(folder) as lock:
        guarded = folder.guarded(lock.check)
        guarded.put("marks/a.json", b"{}")
        (tmp_path / LOCK_NAME).unlink()

        for write in (lambda: guarded.put("run.json", b"late"), lambda: guarded.delete(["run.json"])):
            with pytest.raises(FolderError, match="has lost its lock"):
                write()
        of_worker: RunFolder = pickle.loads(pickle.dumps(guarded))  # noqa: S301 - as Dask does
        assert of_worker.guard is None

    assert folder.read("run.json") == b"{}"


def test_a_worker_writes_until_the_lock_is_another_runs(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    with hold_lock(folder) as lock:
        of_worker: RunFolder = pickle.loads(  # noqa: S301 - as Dask does
            pickle.dumps(folder.guarded(lock.check, owner=lock.owner))
        )
        of_worker.put("marks/a.json", b"of the first run")
    # Nobody is at work in its place.
    of_worker.put("marks/a.json", b"a moment later")

    with hold_lock(folder):
        folder.put("marks/a.json", b"of the second run")
        for write in (lambda: of_worker.put("marks/a.json", b"late"), lambda: of_worker.delete(["marks/a.json"])):
            with pytest.raises(FolderError, match=r"has lost its lock \(it went to process \d+"):
                write()

    assert folder.read("marks/a.json") == b"of the second run"


def test_the_thread_shows_life_by_itself() -> None:
    store = MemoryStore()
    others = set(threading.enumerate())
    # It does so every tenth of this time.
    lock = make_lock(store, timeout_s=2)
    lock.acquire()
    try:
        wait_for(lambda: read_holder(store).beat > 0, what="sign of life")
    finally:
        lock.release()
    assert set(threading.enumerate()) <= others


def race(n: int, call: Callable[[], object]) -> list[object]:
    """Call from many threads at once; gives results and folder errors."""
    barrier = Barrier(n)

    def run(_: int) -> object:
        barrier.wait()
        try:
            return call()
        except FolderError as problem:
            return problem

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(run, range(n)))

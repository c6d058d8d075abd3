"""The lock of a run in a bucket: an object that only one can create, and whose holder shows that it lives."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import ObjectStore

from pipeline.storage.lock_holder import MAX_BYTES, Holder, may_take_over, refuse_second_run, tell_loss
from pipeline.storage.names import LOCK_NAME
from pipeline.storage.object_store import explain_failure, repeat_request

if TYPE_CHECKING:
    from obstore import PutMode

_BEATS_PER_TIMEOUT = 10
_SURE_BEATS = 2
# ^ So many beats after the last that the store took, a write asks it first.
_DOUBT_FRACTION = 0.75
# ^ A holder that could not show its life for this part of the time stops before another may begin.
_TRIES = 5


def read_clock() -> float:
    """Give seconds since the machine began, with those in which it slept: others do not sleep meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ObjectLock:
    """An object ``run.lock`` that a thread replaces every now and then to show that its holder lives."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        uri: str,
        timeout_s: float,
        holder: Holder | None = None,
        clock: Callable[[], float] = read_clock,
    ) -> None:
        """Prepare a lock that is not held yet.

        Args:
            store: Where the object is; it should not repeat requests for long.
            uri: The store's place, for people.
            timeout_s: How long a holder may show no life.
            holder: Who takes it; None for this process.
            clock: Gives seconds that only ever rise, also while the machine sleeps.
        """
        self.uri = uri
        self.timeout_s = timeout_s
        self._store = store
        self._me = holder or Holder()
        self._clock = clock
        self._e_tag = ""
        self._shown_at_s = 0.0
        self._loss = ""
        self._is_over = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._show_life, name="run-lock", daemon=True)

    @property
    def owner(self) -> str:
        """Name of the run that takes it."""
        return self._me.owner

    def acquire(self, store: ObjectStore | None = None, *, patience_s: float = 0.0) -> None:
        """Take the lock and begin to show life.

        Args:
            store: The same place, with a store that repeats requests for longer.
            patience_s: How long to try again when the connection is cut.

        Raises:
            FolderError: another run holds it, or the store fails.
        """
        patient = self._store if store is None else store
        try:
            for _ in range(_TRIES):
                if repeat_request(partial(self._try_to_acquire, patient), timeout_s=patience_s):
                    self._thread.start()
                    return
        except (ObstoreError, OSError) as failure:
            raise explain_failure(self.uri, failure) from None
        raise refuse_second_run(self.uri, None, remedy="run again in a minute")

    def check(self) -> None:
        """Make sure that nobody else has the lock, nor could have it by now; asks the store where that is not sure."""
        if self._clock() - self._shown_at_s > _SURE_BEATS * self.timeout_s / _BEATS_PER_TIMEOUT:
            # The process, or the machine, may have stood still, while somebody else took over.
            self.show_life()
        if self._loss:
            raise tell_loss(self.uri, self._loss)
        silent_s = self._clock() - self._shown_at_s
        if silent_s > _DOUBT_FRACTION * self.timeout_s:
            raise tell_loss(self.uri, f"for {silent_s:.0f} s the store took no sign of life")

    def release(self, *, patience_s: float = 0.0) -> None:
        """Let go of the lock, if it is still held; a store that is gone keeps it until its time is over.

        Args:
            patience_s: How long to try again while the store fails.
        """
        self._is_over.set()
        self._thread.join()
        with suppress(ObstoreError, OSError):
            repeat_request(self._delete, timeout_s=patience_s)

    def _delete(self) -> None:
        # Looked at before each try: the answer to a former one may have been lost, and somebody else be at work.
        holder, _, _ = self._read(self._store)
        if holder is not None and holder.owner == self._me.owner:
            obstore.delete(self._store, LOCK_NAME)

    def show_life(self) -> None:
        """Replace the object by a younger one, if it still is this holder's."""
        with self._turn:
            self._replace()

    def _replace(self) -> None:
        me = replace(self._me, beat=self._me.beat + 1)
        asked_at_s = self._clock()
        try:
            self._e_tag = _put(self._store, me, e_tag=self._e_tag)
            self._me = me
        except PreconditionError:
            # Either somebody took over, or the answer to a former try was lost and its repetition came too late.
            if not self._is_still_mine():
                return
        except (ObstoreError, OSError):
            return
        # ^ Whether that goes on for too long, `check` tells.
        self._shown_at_s = asked_at_s

    def _is_still_mine(self) -> bool:
        try:
            holder, e_tag, _ = self._read(self._store)
        except FileNotFoundError:
            self._loss = "somebody removed it"
            return False
        except (ObstoreError, OSError):
            return False
        if holder is None or holder.owner != self._me.owner:
            self._loss = f"it went to {holder.describe() if holder is not None else 'another run'}"
            return False
        self._me, self._e_tag = holder, e_tag
        return True

    def _show_life(self) -> None:
        while not self._is_over.wait(self.timeout_s / _BEATS_PER_TIMEOUT) and not self._loss:
            self.show_life()

    def _try_to_acquire(self, store: ObjectStore) -> bool:
        """Tell whether the lock was taken; False: somebody else was quicker in one way or another."""
        asked_at_s = self._clock()
        try:
            self._e_tag = _put(store, self._me, e_tag=None)
        except AlreadyExistsError:
            try:
                holder, e_tag, modified = self._read(store)
            except FileNotFoundError:
                return False
            # The answer to a former try may have been lost; then it is this run that has the lock.
            if holder is None or holder.owner != self._me.owner:
                self._check_left(holder, age_s=(ask_time(store, owner=self._me.owner) - modified).total_seconds())
                try:
                    e_tag = _put(store, self._me, e_tag=e_tag)
                except PreconditionError:
                    return False
            self._e_tag = e_tag
        self._shown_at_s = asked_at_s
        return True

    def _check_left(self, holder: Holder | None, *, age_s: float) -> None:
        if may_take_over(holder, machine=self._me.machine, age_s=age_s, timeout_s=self.timeout_s):
            return
        raise refuse_second_run(
            self.uri,
            holder,
            remedy=f"wait until it has ended; if it was killed, its lock ends {self.timeout_s:.0f} s after its last "
            f"sign of life, which was {max(0, age_s):.0f} s ago",
        )

    @staticmethod
    def _read(store: ObjectStore) -> tuple[Holder | None, str, dt.datetime]:
        found = obstore.get(store, LOCK_NAME)
        content = b"" if found.meta["size"] > MAX_BYTES else bytes(found.bytes())
        return Holder.from_json(content), found.meta["e_tag"] or "", found.meta["last_modified"]


def ask_time(store: ObjectStore, *, owner: str) -> dt.datetime:
    """Ask the store for the time, as clocks of machines differ: by an object that is made for it."""
    name = f"{LOCK_NAME}-{owner}"
    obstore.put(store, name, b"")
    modified: dt.datetime = obstore.head(store, name)["last_modified"]
    obstore.delete(store, name)
    return modified


def _put(store: ObjectStore, holder: Holder, *, e_tag: str | None) -> str:
    """Create the object, or replace the one of this tag; gives the tag of what is there now."""
    mode: PutMode = "create" if e_tag is None else {"e_tag": e_tag}
    return str(obstore.put(store, LOCK_NAME, holder.to_json(), mode=mode)["e_tag"])

"""What can be told of a training while it runs, and how much of its time is spent on computing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainerCallback


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Where a training stands after a step."""

    step: int
    n_steps: int
    loss: float | None
    """Mean since the last log line; None before the first one."""
    pairs_per_s: float | None
    """Over all devices since the last log line, without validation and checkpoints; None before the first one."""
    compute_fraction: float | None
    """Part of that time that was not spent on waiting for data; None before the first log line."""
    validation: Mapping[str, float]
    """Figures of the last validation; empty before the first one."""


@dataclass(kw_only=True)
class StepClock:
    """Adds up how long steps wait for their data and how long they compute."""

    read_time_s: Callable[[], float] = time.perf_counter
    """What tells the time."""
    wait_s: float = 0.0
    """Waiting for data since the last reset."""
    compute_s: float = 0.0
    """Computing since the last reset."""
    n_steps: int = 0
    """Steps since the last reset."""
    total_wait_s: float = 0.0
    total_compute_s: float = 0.0
    total_steps: int = 0
    _start_s: float = field(default=0.0, repr=False)

    def begin_wait(self) -> None:
        """A step asks for its data."""
        self._start_s = self.read_time_s()

    def end_wait(self) -> None:
        """The data are there."""
        self.wait_s, self._start_s = self._split(self.wait_s)

    def end_step(self) -> None:
        """The step is done."""
        self.compute_s, self._start_s = self._split(self.compute_s)
        self.n_steps += 1

    def _split(self, spent_s: float) -> tuple[float, float]:
        now_s = self.read_time_s()
        return spent_s + now_s - self._start_s, now_s

    def take(self) -> tuple[float, float, int]:
        """Give waiting, computing and steps since the last call, and begin anew."""
        taken = (self.wait_s, self.compute_s, self.n_steps)
        self.total_wait_s += self.wait_s
        self.total_compute_s += self.compute_s
        self.total_steps += self.n_steps
        self.wait_s, self.compute_s, self.n_steps = 0.0, 0.0, 0
        return taken


class ClockCallback(TrainerCallback):
    """Tells the clock when a step is done."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the time."""
        self.clock.end_step()


class ProgressCallback(TrainerCallback):
    """Reports every step to whoever shows it."""

    def __init__(self, on_progress: Callable[[TrainingProgress], None]) -> None:
        self.on_progress = on_progress
        self.logs: dict[str, float] = {}
        self.validation: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Remember the latest figures."""
        self.logs |= {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Remember the latest validation, and show it at once."""
        self.validation = clean_figures(metrics or {})
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Report."""
        if state.is_world_process_zero:
            self.on_progress(
                TrainingProgress(
                    step=state.global_step,
                    n_steps=state.max_steps,
                    loss=self.logs.get("loss"),
                    pairs_per_s=self.logs.get("pairs_per_s"),
                    compute_fraction=self.logs.get("compute_fraction"),
                    validation=self.validation,
                )
            )


def clean_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep what a validation measured, under its own names: no times, no ``eval_`` in front."""
    ignored = ("runtime", "samples_per_second", "steps_per_second")
    names = {name: name.removeprefix("eval_") for name in metrics if name.startswith("eval_")}
    return {name: float(metrics[key]) for key, name in names.items() if name not in ignored}

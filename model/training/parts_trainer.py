"""transformers' Trainer with what it lacks here: parts of the loss, the steps' time, and whole checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from model.training.checkpoints import WHOLE_MARK, explain_full_disk, name_checkpoint
from model.training.progress import ClockCallback, StepClock
from model.training.training_model import PartlyTrained


class PartsTrainer(Trainer):
    """A Trainer that logs the parts of the loss and the time, and whose checkpoints are whole or not there."""

    def __init__(self, *args: Any, n_pairs_per_step: int, n_checkpoints_kept: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.n_pairs_per_step = n_pairs_per_step
        self.n_checkpoints_kept = n_checkpoints_kept
        self.parts: list[dict[str, Tensor]] = []
        self.clock = StepClock()
        self.add_callback(ClockCallback(self.clock))
        # It prints to stdout, which belongs to programs.
        self.remove_callback(PrinterCallback)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Take the time that the data of a step let it wait."""
        self.clock.begin_wait()
        samples = super().get_batch_samples(*args, **kwargs)
        self.clock.end_wait()
        return samples

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **kwargs: Any) -> Any:
        """Remember each part of the loss until the next log line."""
        outputs = model(**inputs)
        self.parts.append({name: value.detach() for name, value in outputs.items() if name != "loss"})
        return (outputs["loss"], outputs) if kwargs.get("return_outputs") else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each part since the last log line, throughput and the part of the time that is computing."""
        if self.parts and "loss" in logs:
            means = {k: round(float(torch.stack([p[k] for p in self.parts]).mean()), 4) for k in self.parts[0]}
            wait_s, compute_s, n_steps = self.clock.take()
            seconds = max(wait_s + compute_s, 1e-9)
            figures = {"pairs_per_s": round(self.n_pairs_per_step * n_steps / seconds, 2)}
            figures["compute_fraction"] = round(compute_s / seconds, 4)
            logs = {**logs, **means, **figures}
            self.parts = []
        super().log(logs, *args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Give the loss of a batch, and what was counted of its answers in place of their logits."""
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**self._prepare_inputs(inputs))
        figures = outputs.get("figures")
        return outputs["loss"].detach(), figures, figures

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate what would be written: the average of the weights, where there is one."""
        with self._unwrapped.averaged():
            return super().evaluate(*args, **kwargs)

    @property
    def _unwrapped(self) -> PartlyTrained:
        return cast(PartlyTrained, self.accelerator.unwrap_model(self.model))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        target = name_checkpoint(folder, step=self.state.global_step)
        what = f"the checkpoint of step {self.state.global_step}"
        with explain_full_disk(what, folder=target, checkpoints=folder, has_halves=True):
            super()._save_checkpoint(model, trial)
            # Every process writes a part of it.
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                (target / WHOLE_MARK).touch()
        if self.args.should_save:
            # Only now: until the new one is whole, the old ones are all there is.
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(folder), self.n_checkpoints_kept, best_model_checkpoint=best)


class AverageCallback(TrainerCallback):
    """Takes the weights of every step into their average."""

    def __init__(self, training_model: PartlyTrained) -> None:
        self.training_model = training_model

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Take them in."""
        self.training_model.update_average()


class SnapshotCallback(TrainerCallback):
    """Writes the shippable model now and then, so that it can be evaluated while training goes on."""

    def __init__(self, write: Callable[[], None], *, every_steps: int) -> None:
        self.write, self.every_steps = write, every_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Write at every multiple of `every_steps`."""
        if state.global_step % self.every_steps == 0 and state.is_world_process_zero:
            self.write()


class LastStepCallback(TrainerCallback):
    """Lets the last step be validated, wherever it falls."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for it."""
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True

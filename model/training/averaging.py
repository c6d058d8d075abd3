"""A moving average of what a training changes: it answers better than the weights of the last step.

Each step pulls the weights about; their average over the last hundreds of steps lies in the middle (Polyak and
Juditsky, 1992). It is part of a training's state, so that going on after a kill goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(nn.Module):
    """An exponential moving average of a module's floating-point state, held as buffers."""

    n_updates: Tensor

    def __init__(self, state: Mapping[str, Tensor], *, decay: float) -> None:
        """Begin with a state.

        Args:
            state: Parameters, and statistics such as those of batch norms, by name.
            decay: What stays of the average at each step.
        """
        super().__init__()
        self.decay = decay
        self.names = [name for name, tensor in state.items() if tensor.is_floating_point()]
        for index, name in enumerate(self.names):
            self.register_buffer(f"average_{index}", state[name].detach().clone())
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @property
    def averages(self) -> list[Tensor]:
        """The averages, in the order of `names`."""
        return [self.get_buffer(f"average_{index}") for index in range(len(self.names))]

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Take in the state after a step; the first one replaces what there was before any."""
        live = [state[name].detach() for name in self.names]
        if self.n_updates == 0:
            for average, tensor in zip(self.averages, live, strict=True):
                average.copy_(tensor)
        else:
            get_ema_multi_avg_fn(self.decay)(self.averages, live, self.n_updates)
        self.n_updates += 1

    @contextmanager
    def put_in_place(self, state: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the averages stand where the weights are, until the end of the block.

        Args:
            state: The state, sharing its memory with the module that it is of.
        """
        live = [state[name].detach() for name in self.names]
        kept = [tensor.clone() for tensor in live]
        self._copy(self.averages, into=live)
        try:
            yield
        finally:
            self._copy(kept, into=live)

    @staticmethod
    @torch.no_grad()
    def _copy(tensors: list[Tensor], *, into: list[Tensor]) -> None:
        for target, tensor in zip(into, tensors, strict=True):
            target.copy_(tensor)

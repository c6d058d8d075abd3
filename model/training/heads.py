"""Auxiliary heads: what the features should know before there are words for it. They are not shipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from model.interface import CELL_NAMES
from model.pairs.facts import ChangeFacts

N_CELLS = len(CELL_NAMES)
N_KINDS = 2
"""Road, building: the order in which the answers name them."""


def encode_facts(facts: Sequence[ChangeFacts | None]) -> tuple[Tensor, Tensor]:
    """Turn facts, None where there is no mask, into targets.

    Returns:
        Targets of shape (n, 21): per kind nine cells and log(1 + count), then whether anything changed; and a
        mask of the same shape, 0 where the truth is not known.
    """
    targets = torch.zeros(len(facts), N_KINDS * (N_CELLS + 1) + 1)
    known = torch.ones_like(targets)
    for row, fact in enumerate(facts):
        if fact is None:
            known[row] = 0
            continue
        for index, kind in enumerate((fact.road, fact.building)):
            start = index * (N_CELLS + 1)
            if kind is None:
                known[row, start : start + N_CELLS + 1] = 0
            else:
                targets[row, start : start + N_CELLS] = torch.tensor(kind.is_cell_changed, dtype=torch.float32)
                targets[row, start + N_CELLS] = torch.log1p(torch.tensor(float(kind.count)))
        targets[row, -1] = float(fact.is_changed)
    return targets, known


def fact_loss(outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Add up cross-entropy of cells, smooth L1 of log counts and half the cross-entropy of "changed"."""
    is_count = torch.zeros(targets.shape[1], dtype=torch.bool, device=targets.device)
    is_count[[N_CELLS, 2 * N_CELLS + 1]] = True
    is_cell = ~is_count
    is_cell[-1] = False
    cells = F.binary_cross_entropy_with_logits(outputs[:, is_cell], targets[:, is_cell], reduction="none")
    counts = F.smooth_l1_loss(outputs[:, is_count], targets[:, is_count], reduction="none")
    changed = F.binary_cross_entropy_with_logits(outputs[:, -1], targets[:, -1], reduction="none")
    return (
        _known_mean(cells, known[:, is_cell])
        + _known_mean(counts, known[:, is_count])
        + 0.5 * _known_mean(changed, known[:, -1])
    )


def _known_mean(losses: Tensor, known: Tensor) -> Tensor:
    return (losses * known).sum() / known.sum().clamp(min=1)


class DifferenceHead(nn.Module):
    """Reads the facts from the difference features, cell by cell."""

    def __init__(self, *, width: int, tokens_per_side: int) -> None:
        super().__init__()
        self.tokens_per_side = tokens_per_side
        self.cell = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, N_KINDS))
        self.whole = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, N_KINDS + 1))

    def forward(self, difference_features: Tensor) -> Tensor:
        """Map (n, 2 * tokens, width) to the outputs that `fact_loss` takes, (n, 21)."""
        side = self.tokens_per_side
        before, after = difference_features.chunk(2, dim=1)
        grid = torch.cat([before, after], dim=-1).transpose(1, 2).unflatten(2, (side, side))  # n, 2w, side, side
        means, peaks = F.adaptive_avg_pool2d(grid, 3), F.adaptive_max_pool2d(grid, 3)
        cells = self.cell(torch.cat([means, peaks], dim=1).flatten(2).transpose(1, 2))  # n, 9, kinds
        whole = self.whole(torch.cat([means.mean(dim=(2, 3)), peaks.amax(dim=(2, 3))], dim=1))  # n, kinds + 1
        return arrange_outputs(cells, whole)


class QueryHead(nn.Module):
    """Reads the facts from what the Q-Former's queries hold, so that the language model can.

    The first nine queries answer for one cell each, all through the same layers, as `place_queries` gives them their
    places: what is learned in one cell holds in all.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, N_KINDS))
        self.whole = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, N_KINDS + 1))

    def forward(self, query_output: Tensor) -> Tensor:
        """Map (n, queries, width) to the outputs that `fact_loss` takes, (n, 21)."""
        cells = self.cell(query_output[:, :N_CELLS])  # n, 9, kinds
        whole = self.whole(torch.cat([query_output.mean(dim=1), query_output.amax(dim=1)], dim=1))  # n, kinds + 1
        return arrange_outputs(cells, whole)


class DetailHead(nn.Module):
    """Reads from the queries what people would name beside what a mask tells: trees, places, numbers, water."""

    def __init__(self, *, width: int, n_details: int) -> None:
        super().__init__()
        self.whole = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, n_details))

    def forward(self, query_output: Tensor) -> Tensor:
        """Map (n, queries, width) to logits of shape (n, details)."""
        logits: Tensor = self.whole(torch.cat([query_output.mean(dim=1), query_output.amax(dim=1)], dim=1))
        return logits


def detail_loss(outputs: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Compare with the part of the people that names each detail, shape (n, details), where somebody wrote."""
    losses = F.binary_cross_entropy_with_logits(outputs, shares, reduction="none").mean(dim=1)
    return _known_mean(losses, known.to(losses.dtype))


def arrange_outputs(cells: Tensor, whole: Tensor) -> Tensor:
    """Put outputs per cell, (n, 9, kinds), and per tile, (n, kinds + 1), in the order of the targets: (n, 21)."""
    roads = torch.cat([cells[..., 0], whole[:, 0:1]], dim=1)
    buildings = torch.cat([cells[..., 1], whole[:, 1:2]], dim=1)
    return torch.cat([roads, buildings, whole[:, 2:]], dim=1)

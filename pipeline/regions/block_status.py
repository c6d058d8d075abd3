"""What a pass makes of each block of a region, in one word and with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from pipeline.scenes.days import LeftOut


class BlockStatus(StrEnum):
    """What a pass makes of a block."""

    TO_DO = "to_do"
    """There are pairs to run."""
    DONE = "done"
    """Its pairs were run in this pass."""
    KNOWN = "known"
    """The pairs that its scenes make have been done by earlier passes."""
    NO_SCENE = "no_scene"
    """Nothing that shows it was found."""
    CLOUDY = "cloudy"
    """Dates were found, and clouds leave no two of them to be compared."""
    NO_PAIR = "no_pair"
    """Dates were found, and for other reasons no two of them are compared."""
    FAILED = "failed"
    """A pair failed, in this pass or so often that it is given up."""


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """What a pass has to do on one block."""

    block_id: str
    """Name of the block."""
    status: BlockStatus
    """What is to become of it."""
    reason: str | None
    """Why nothing is to be done; None: something is."""
    n_scenes: int
    """Dates that were found for it."""
    n_to_do: int
    """Pairs to run."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def judge_block(
    *,
    n_to_do: int,
    n_done: int,
    n_scenes: int,
    n_cloudy: int,
    given_up: Sequence[LeftOut],
    left_out: Sequence[LeftOut],
) -> tuple[BlockStatus, str | None]:
    """Say what is to become of a block, and why nothing where nothing is.

    Args:
        n_to_do: Pairs to run.
        n_done: Pairs that its scenes make, and that are done already.
        n_scenes: Dates that were found for it.
        n_cloudy: Those of them that have too many clouds.
        given_up: Pairs that have failed too often.
        left_out: All that takes no part.
    """
    if n_to_do:
        return BlockStatus.TO_DO, None
    if given_up:
        return BlockStatus.FAILED, given_up[0].reason
    if n_done:
        return BlockStatus.KNOWN, "what its scenes show has been compared before"
    if not n_scenes:
        return BlockStatus.NO_SCENE, "no scene shows it"
    if n_cloudy:
        return BlockStatus.CLOUDY, f"{n_cloudy} of {n_scenes} dates have more clouds than dates.max_cloud_percent"
    return BlockStatus.NO_PAIR, left_out[-1].reason if left_out else "no two dates to compare"


def settle_blocks(blocks: Iterable[BlockPlan], *, failed: Mapping[str, str]) -> list[BlockPlan]:
    """Say what became of blocks once their pairs were run.

    Args:
        blocks: What was to become of them.
        failed: Why pairs of a block failed, all or in part, by the block's name.
    """
    return [_settle(block, failure=failed.get(block.block_id)) for block in blocks]


def _settle(block: BlockPlan, *, failure: str | None) -> BlockPlan:
    if block.status is not BlockStatus.TO_DO:
        return block
    return replace(block, status=BlockStatus.DONE if failure is None else BlockStatus.FAILED, reason=failure)

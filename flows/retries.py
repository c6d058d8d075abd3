"""How long a stage may take under Prefect, and what is tried again after how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from model.errors import FolderError, InputError
from pipeline.config.loading import StrictConfig
from pipeline.config.run import RunConfig
from pipeline.config.scene import is_remote_scene

HOUR_S = 3600.0

STAGE_TIMEOUTS_S: Mapping[str, float] = {
    "find_pair": HOUR_S,
    "write_tiles": 24 * HOUR_S,
    "select_tiles": HOUR_S,
    "collect_answers": 72 * HOUR_S,
    "extract_findings": 4 * HOUR_S,
    "write_report": 4 * HOUR_S,
}
# ^ What hangs is to end, and no work is to be cut short: each is far more than a large run takes, and what a try has
# done is kept.


class PatienceConfig(StrictConfig):
    """Patience with what fails for a while: scenes on the network, shared disks. Wrong input is never tried again."""

    gone_keys: ClassVar[Mapping[str, str]] = {
        f"{stage}_timeout_s": "each stage has its own limit" for stage in STAGE_TIMEOUTS_S
    }

    retries: int = Field(
        default=3, ge=0, le=10, description="How often a stage is tried again; what it has done is not done again."
    )
    retry_delay_s: float = Field(
        default=10, ge=0, le=3600, description="Seconds before the first further try; twice as many before each next."
    )


DEFAULT_PATIENCE = PatienceConfig()


class UnreadTilesError(Exception):
    """Some tiles of remote scenes could not be read, and it is worth trying again.

    Args:
        n_tiles: How many.
    """

    def __init__(self, n_tiles: int) -> None:
        super().__init__(f"{n_tiles} tiles could not be read from scenes on the network")


@dataclass(frozen=True, kw_only=True)
class StagePolicy:
    """What Prefect is told of one stage."""

    retry_delays_s: tuple[float, ...]
    """Seconds before each further try; as many tries as there are delays."""
    timeout_s: float
    """Seconds that one try may take."""
    reads_remote_scenes: bool
    """Whether an unreadable scene may be readable later."""

    def allows_retry(self, problem: object) -> bool:
        """Tell whether trying again may help."""
        return is_worth_retrying(problem, reads_remote_scenes=self.reads_remote_scenes)


def choose_policy(stage: str, *, config: RunConfig, patience: PatienceConfig) -> StagePolicy:
    """Decide how often and how long a stage is tried.

    Args:
        stage: One of the six verbs, such as ``find_pair``.
        config: The run.
        patience: What the user allows.
    """
    reads_scenes = stage in {"find_pair", "write_tiles"}
    return StagePolicy(
        retry_delays_s=tuple(patience.retry_delay_s * 2**n for n in range(patience.retries)),
        timeout_s=STAGE_TIMEOUTS_S[stage],
        reads_remote_scenes=reads_scenes and any(is_remote_scene(scene) for scene in (config.before, config.after)),
    )


def is_worth_retrying(problem: object, *, reads_remote_scenes: bool) -> bool:
    """Tell an error that may pass from one that will not.

    Args:
        problem: What the stage raised.
        reads_remote_scenes: Whether the stage reads over the network.
    """
    if isinstance(problem, FolderError):
        # Its own patience, `storage.retry_timeout_s`, has run out, or somebody else holds the folder.
        return False
    if isinstance(problem, InputError | TimeoutError | UnreadTilesError):
        return reads_remote_scenes
    return isinstance(problem, OSError)

"""How long the parts of a run may take: every wait for somebody else has an end, and all ends stand here.

What runs out of time is told, tried again where that may help, and in the end makes tiles `failed` with the reason. The
object store of a run has its own patience (`StorageConfig`), as have workers that are gone (`ClusterConfig`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.config.loading import StrictConfig

if TYPE_CHECKING:
    from model.web import WebLimits

TILES_AT_LEAST = 2
"""A batch has the time of so many tiles more than it has, as the first words of a model take longer."""


class LimitsConfig(StrictConfig):
    """Ends of all waits for servers, models and workers."""

    server_silence_s: float = Field(
        default=20,
        gt=0,
        le=600,
        description="Seconds for which a server of scenes or STAC documents may be silent, or slower than 1 kB/s.",
    )
    server_request_s: float = Field(
        default=300,
        gt=0,
        le=7200,
        description="Seconds that one request to such a server may take in all, further tries included.",
    )
    shard_s: float = Field(
        default=3600,
        gt=0,
        le=86400,
        description="Seconds that the pixels of one shard may take to be read and written.",
    )
    model_load_s: float = Field(
        default=3600, gt=0, le=86400, description="Seconds that a worker may take to load the model."
    )
    tile_s: float = Field(
        default=60,
        gt=0,
        le=86400,
        description="Seconds per tile that a model may take for all prompts; a batch has those of two tiles more. "
        "Its worker is ended then, and the tiles are asked about one by one.",
    )

    def find_batch_s(self, n_tiles: int) -> float:
        """Give the seconds that a batch of tiles may take."""
        return self.tile_s * (n_tiles + TILES_AT_LEAST)

    def to_web(self) -> WebLimits:
        """Give what is borne of a server."""
        # What asks servers takes longer to import than all other settings.
        from model.web import WebLimits

        return WebLimits(silence_s=self.server_silence_s, total_s=self.server_request_s)


DEFAULT_LIMITS = LimitsConfig()

_current: ContextVar[LimitsConfig] = ContextVar("limits", default=DEFAULT_LIMITS)


def get_limits() -> LimitsConfig:
    """Give the limits of the run that this is part of."""
    return _current.get()


@contextmanager
def use_limits(limits: LimitsConfig) -> Iterator[None]:
    """Have whatever reads scenes inside the context keep to these limits."""
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)

"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictConfig(BaseModel):
    """A group of settings; a key that is none of them is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

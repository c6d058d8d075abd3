"""What a ``run.json`` has to be made of to be read: the kinds of its values, and those within that others rely on.

Whoever can write into a folder can write its record, so nothing of it is taken for what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.grid.grid import Grid

_Amount = Annotated[float, Field(allow_inf_nan=False)]
_Shard = Annotated[list[int | str], Field(min_length=3, max_length=3)]
_MOST_TILES = 1 << 16
# ^ Sides of a shard.


class _Form(BaseModel):
    # Of later versions a record may have more.
    model_config = ConfigDict(strict=True, extra="ignore")


class _Tiles(_Form):
    shard_size_tiles: int = Field(ge=1, le=_MOST_TILES)


class _Prompt(_Form):
    name: str


class _Config(_Form):
    tiles: _Tiles
    prompts: list[_Prompt]
    model: dict[str, Any]


class _Scene(_Form):
    datetime: str | None
    parts: list[dict[str, Any]]


class _Inputs(_Form):
    before: _Scene
    after: _Scene
    stretch: dict[str, Any]


class _Model(_Form):
    model_id: str
    weight_hash: str


class _Record(_Form):
    run_id: str
    config: _Config
    inputs: _Inputs
    grid: dict[str, Any]
    content_key: str
    model: _Model
    mask_labels: list[str] = []
    model_fit: str | None = None
    model_fit_counts: dict[str, int] = {}
    withheld_counts: dict[str, int] = {}
    certainty: dict[str, Any] | None = None
    versions: dict[str, Any]
    status_counts: dict[str, int]
    reason_counts: dict[str, dict[str, int]] = {}
    ground_m2: dict[str, _Amount] = {}
    seen_fraction: _Amount | None = None
    notes: list[str] = []
    changed_tile_count: int
    change_counts: dict[str, int]
    left_out_counts: dict[str, int] = {}
    thing_counts: dict[str, _Amount | None] = {}
    zone_counts: dict[str, int] = {}
    reviews: dict[str, Any] | None = None
    failed_shards: list[_Shard]
    gaps: list[_Shard] = []
    failures: dict[str, str]
    files: dict[str, dict[str, int | str]]
    stages: list[dict[str, Any]]


_GRID = TypeAdapter(Grid)


def check_record(values: Mapping[str, Any]) -> None:
    """Refuse values of a record that are of other kinds than they have to be.

    Raises:
        ValueError: so it is; it names the first of them.
    """
    try:
        _GRID.validate_python(_Record.model_validate(values).grid)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(str(part)[:40] for part in first['loc'])}: {first['msg']}") from None

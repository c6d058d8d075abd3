"""Tiles of a grid, one at a time or a million as columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.grid.grid import Grid, name_tile
from pipeline.tables.schemas import TileStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One cell of the grid for one pair."""

    row: int
    """Row in the grid, from the top."""
    col: int
    """Column in the grid, from the left."""
    tile_id: str
    """Name such as ``r0012_c0034``."""
    valid_fraction: float
    """Part of the tile's pixels that are valid on both dates, 0 to 1."""
    cloud_fraction: float | None = None
    """Part of the tile's pixels that are cloudy on either date, 0 to 1; None where nothing tells of clouds."""
    status: TileStatus | None
    """None: selected, to be asked; else why it is not."""
    reason: str
    """Why it is not asked, in words; empty for selected tiles."""


_STATUSES: tuple[TileStatus | None, ...] = (None, *TileStatus)
_CODE_OF_STATUS = {status: code for code, status in enumerate(_STATUSES)}


@dataclass(frozen=True, kw_only=True, eq=False)
class TileTable(Sequence[Tile]):
    """Tiles as columns: a sequence of `Tile` that makes each of them when it is asked for.

    A million `Tile` objects would take hundreds of megabytes, and seconds to walk through.
    """

    rows: npt.NDArray[np.int32]
    """Rows in the grid."""
    cols: npt.NDArray[np.int32]
    """Columns in the grid."""
    valid_fractions: npt.NDArray[np.float64]
    """Parts of the tiles that are valid on both dates, 0 to 1."""
    cloud_fractions: npt.NDArray[np.float64]
    """Parts of the tiles that are cloudy on either date, 0 to 1; NaN where nothing tells of clouds."""
    ground_fractions: npt.NDArray[np.float64]
    """Parts of the tiles that are ground of the run, as `Ground` has it, 0 to 1."""
    shown_fractions: npt.NDArray[np.float64]
    """Parts of the tiles that are such ground and valid on both dates, 0 to 1."""
    status_codes: npt.NDArray[np.int8]
    """Statuses as `encode_status` gives them."""
    reasons: npt.NDArray[np.object_]
    """Why tiles are not asked, in words; empty for selected ones."""

    @classmethod
    def make(cls, grid: Grid) -> TileTable:
        """Make room for every tile of a grid, row-major; all are selected, with nothing valid, until told otherwise."""
        n_tiles = grid.n_rows * grid.n_cols
        rows, cols = np.divmod(np.arange(n_tiles, dtype=np.int32), np.int32(grid.n_cols))
        return cls(
            rows=rows,
            cols=cols,
            valid_fractions=np.zeros(n_tiles),
            cloud_fractions=np.full(n_tiles, np.nan),
            ground_fractions=np.zeros(n_tiles),
            shown_fractions=np.zeros(n_tiles),
            status_codes=np.zeros(n_tiles, dtype=np.int8),
            reasons=np.full(n_tiles, "", dtype=object),
        )

    @classmethod
    def gather(cls, tiles: Iterable[Tile]) -> TileTable:
        """Give some tiles as columns, in their order, each all ground; a table is given back as it is."""
        if isinstance(tiles, TileTable):
            return tiles
        tiles = list(tiles)
        valid_fractions = np.array([tile.valid_fraction for tile in tiles], dtype=np.float64)
        return cls(
            rows=np.array([tile.row for tile in tiles], dtype=np.int32),
            cols=np.array([tile.col for tile in tiles], dtype=np.int32),
            valid_fractions=valid_fractions,
            # None becomes NaN.
            cloud_fractions=np.array([tile.cloud_fraction for tile in tiles], dtype=np.float64),
            ground_fractions=np.ones(len(tiles)),
            shown_fractions=valid_fractions,
            status_codes=np.array([encode_status(tile.status) for tile in tiles], dtype=np.int8),
            reasons=np.array([tile.reason for tile in tiles], dtype=object),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> TileTable: ...
    def __getitem__(self, index: int | slice) -> Tile | TileTable:
        if isinstance(index, slice):
            return TileTable(**{field.name: getattr(self, field.name)[index] for field in fields(self)})
        if not -len(self) <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        return next(iter(self[index : index + 1 or None]))

    def __iter__(self) -> Iterator[Tile]:
        names = ("rows", "cols", "valid_fractions", "cloud_fractions", "status_codes", "reasons")
        columns = (getattr(self, name).tolist() for name in names)
        for row, col, valid_fraction, cloud_fraction, code, reason in zip(*columns, strict=True):
            yield Tile(
                row=row,
                col=col,
                tile_id=name_tile(row, col),
                valid_fraction=valid_fraction,
                cloud_fraction=None if math.isnan(cloud_fraction) else cloud_fraction,
                status=_STATUSES[code],
                reason=reason,
            )

    def locate(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Give the index of each tile by its row and column; -1 for one that is not among these."""
        shape = self._index.shape
        is_near = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        indexes = np.full(len(rows), -1, dtype=np.int32)
        indexes[is_near] = self._index[rows[is_near], cols[is_near]]
        return indexes

    @cached_property
    def _index(self) -> npt.NDArray[np.int32]:
        shape = (self.rows.max(initial=-1) + 1, self.cols.max(initial=-1) + 1)
        index = np.full(shape, -1, dtype=np.int32)
        index[self.rows, self.cols] = np.arange(len(self), dtype=np.int32)
        return index

    def count_statuses(self) -> dict[TileStatus | None, int]:
        """Count tiles per status, leaving out what does not occur."""
        counts = np.bincount(self.status_codes, minlength=len(_STATUSES))
        return {status: int(count) for status, count in zip(_STATUSES, counts, strict=True) if count}


def encode_status(status: TileStatus | None) -> int:
    """Give a status as a small number."""
    return _CODE_OF_STATUS[status]


def name_statuses(codes: npt.NDArray[np.int8]) -> pa.StringArray:
    """Give the names of statuses by their codes; there is none for a tile that is selected."""
    names = pa.array([status.value if status else None for status in _STATUSES], pa.string())
    return names.take(pa.array(codes))

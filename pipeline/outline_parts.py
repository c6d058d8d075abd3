"""Outline parts: one Parquet file with the outlines of the tiles of one batch."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline.outlines import Outline
from pipeline.schemas import describe_field
from pipeline.tile_table import Tile

OUTLINES_SCHEMA = pa.schema(
    [
        describe_field("tile_id", pa.string(), "Tile that the piece is part of.", is_nullable=False),
        describe_field("kind", pa.string(), "What changed, such as building.", is_nullable=False),
        describe_field(
            "first_row_px", pa.int32(), "Row of the grid's pixels where the piece begins.", is_nullable=False
        ),
        describe_field("first_col_px", pa.int32(), "Column of its first pixel in that row.", is_nullable=False),
        describe_field("n_pixels", pa.int32(), "Pixels of the mask in the piece.", is_nullable=False),
        describe_field(
            "n_seen_pixels",
            pa.int32(),
            "Pixels of this kind in all that the model saw of the tile, what neighbours own included.",
            is_nullable=False,
        ),
        describe_field("probability", pa.float32(), "Mean probability of the piece's pixels.", is_nullable=False),
        describe_field(
            "geometry",
            pa.binary(),
            "The piece as WKB, in pixels of the grid: x to the right, y downwards from its upper left corner.",
            is_nullable=False,
        ),
    ]
)
"""Columns of an outline part: one row per piece, by tile, kind and first pixel; a tile without any has no row."""

_TILES_KEY = b"tiles"


def encode_outlines(outlines: Sequence[Outline], *, tiles: Sequence[Tile]) -> bytes:
    """Give the Parquet file with the outlines of some tiles."""
    columns = {
        name: [getattr(outline, name) for outline in outlines] for name in OUTLINES_SCHEMA.names if name != "geometry"
    }
    columns["geometry"] = [shapely.to_wkb(outline.geometry, byte_order=1) for outline in outlines]
    table = pa.table(columns, schema=OUTLINES_SCHEMA.with_metadata({_TILES_KEY: _name_tiles(tiles)}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def is_whole_outline_part(data: bytes | None, *, tiles: Sequence[Tile]) -> bool:
    """Tell whether a part is whole: a table that can be read, about the tiles that it is named after."""
    try:
        table = decode_outlines(data or b"")
    # Depending on where a file is damaged, pyarrow raises one or the other.
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return False
    return bool((table.schema.metadata or {}).get(_TILES_KEY) == _name_tiles(tiles))


def decode_outlines(data: bytes) -> pa.Table:
    """Read an outline part.

    Raises:
        OSError: it is damaged.
        pyarrow.ArrowException: likewise.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read(use_threads=False).cast(OUTLINES_SCHEMA.with_metadata(file.schema_arrow.metadata))


def _name_tiles(tiles: Sequence[Tile]) -> bytes:
    return json.dumps([tile.tile_id for tile in tiles]).encode()

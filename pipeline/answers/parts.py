"""Answer parts: one Parquet file with the answers to one prompt, or the outlines, of the tiles of one batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.interface import Answer, Prompt
from pipeline.answers.outlines import Outline
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import ObjectFacts, describe_bytes, describe_objects
from pipeline.tables.fields import describe_field
from pipeline.tables.nested_shapes import refuse_nested
from pipeline.tables.unpacked import read_table
from pipeline.tiles.table import Tile

_MAX_DECODED_BYTES = 1 << 30
# ^ A part is one shard's.

PARTS_AT_ONCE = 1024

ANSWERS_SCHEMA = pa.schema(
    [
        pa.field("tile_id", pa.string(), nullable=False, metadata={"description": "Tile that was asked about."}),
        pa.field("prompt_name", pa.string(), nullable=False, metadata={"description": "Name of the prompt."}),
        pa.field("prompt_kind", pa.string(), nullable=False, metadata={"description": "Kind of the prompt."}),
        pa.field("text", pa.string(), nullable=False, metadata={"description": "The model's words."}),
        pa.field(
            "confidence",
            pa.float32(),
            nullable=False,
            metadata={"description": "Between 0 and 1, as model.interface.Answer defines it."},
        ),
        pa.field(
            "familiarity",
            pa.float32(),
            metadata={"description": "Between 0 and 1, as model.interface.Answer defines it; null: not told."},
        ),
    ]
)
"""Columns of an answer part: one row per tile of the batch."""


@dataclass(frozen=True, kw_only=True)
class AnswerParts:
    """The answers of one run, as names of parts."""

    folder: RunFolder
    """Folder of the run."""
    names: tuple[str, ...]
    """This run's parts, sorted; the folder may hold others, of other prompts, models or areas."""
    outline_names: tuple[str, ...] = ()
    """Parts with the outlines of what changed, sorted; none where the run makes none."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why there is no answer, by the id of each tile that the model or its worker failed on."""
    _described: dict[str, ObjectFacts] = field(default_factory=dict, init=False, repr=False, compare=False)

    def describe(self) -> dict[str, ObjectFacts]:
        """Give size and sha256 of every part, by name, reading only what was not read before."""
        names = [*self.names, *self.outline_names]
        missing = [name for name in names if name not in self._described]
        self._described.update(describe_objects(self.folder, names=missing))
        return {name: self._described[name] for name in names}

    def read(self) -> pa.Table:
        """Read all answers, sorted by tile and prompt, with the columns of `ANSWERS_SCHEMA`.

        Raises:
            InputError: a part is damaged or gone.
        """
        table = pa.concat_tables([ANSWERS_SCHEMA.empty_table(), *self.read_batches()])
        return table.sort_by([("tile_id", "ascending"), ("prompt_name", "ascending")])

    def read_batches(self) -> Iterator[pa.Table]:
        """Read all answers in tables of many parts each, in the order of `names`; what `read` gives, bit by bit.

        Raises:
            InputError: a part is damaged or gone.
        """
        return self._read_parts(self.names, decode=decode_part)

    def read_outlines(self) -> Iterator[pa.Table]:
        """Read all outlines in tables of many parts each, with the columns of `OUTLINES_SCHEMA`.

        Raises:
            InputError: a part is damaged or gone.
        """
        return self._read_parts(self.outline_names, decode=decode_outlines)

    def _read_parts(self, names: Sequence[str], *, decode: Callable[[bytes], pa.Table]) -> Iterator[pa.Table]:
        parts = zip(names, self.folder.read_many(names), strict=True)
        while batch := [self._parse_part(name, data, decode=decode) for name, data in islice(parts, PARTS_AT_ONCE)]:
            # A million tiles have more parts than Arrow should keep apart: each takes some kilobytes by itself.
            yield pa.concat_tables(batch).combine_chunks()

    def _parse_part(self, name: str, data: bytes | None, *, decode: Callable[[bytes], pa.Table]) -> pa.Table:
        try:
            if data is None:
                raise FileNotFoundError("no such object")
            self._described[name] = describe_bytes(data)
            return decode(data)
        except (OSError, ValueError, pa.ArrowException) as problem:
            raise InputError(
                f"{name} in {self.folder.uri} cannot be read ({problem})",
                expected="a whole Parquet file",
                remedy="run `deltavlm run` again: only it is made anew",
            ) from None


def encode_part(prompt: Prompt, *, tiles: Sequence[Tile], answers: Sequence[Answer]) -> bytes:
    """Give the Parquet file with one prompt's answers for some tiles.

    Raises:
        ValueError: there is not exactly one answer per tile.
    """
    if len(answers) != len(tiles):
        raise ValueError(
            f"{len(answers)} answers to prompt {prompt.name!r}; expected one for each of {len(tiles)} tiles"
        )
    table = pa.table(
        {
            "tile_id": [tile.tile_id for tile in tiles],
            "prompt_name": [prompt.name] * len(tiles),
            "prompt_kind": [prompt.kind.value] * len(tiles),
            "text": [answer.text for answer in answers],
            "confidence": [answer.confidence for answer in answers],
            "familiarity": [answer.familiarity for answer in answers],
        },
        schema=ANSWERS_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def is_whole_part(data: bytes | None, *, prompt: Prompt, tiles: Sequence[Tile]) -> bool:
    """Tell whether a part is whole: a table that can be read, with the prompt and the tiles that it is named after."""
    try:
        rows = decode_part(data or b"").to_pylist()
    # Depending on where a file is damaged, pyarrow raises one or the other.
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return False
    asked = [(tile.tile_id, prompt.name, prompt.kind.value) for tile in tiles]
    told = [(row["tile_id"], row["prompt_name"], row["prompt_kind"]) for row in rows]
    return asked == told and all(row["text"] is not None and row["confidence"] is not None for row in rows)


def decode_part(data: bytes) -> pa.Table:
    """Read an answer part.

    Raises:
        OSError: it is damaged.
        pyarrow.ArrowException: likewise.
    """
    # What `pyarrow.parquet.read_table` calls in the end; by itself it takes a third of the time for a small file.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return read_table(file, most=_MAX_DECODED_BYTES).cast(ANSWERS_SCHEMA)


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
        describe_field("peak_probability", pa.float32(), "Highest of them.", is_nullable=False),
        describe_field(
            "removed_probability",
            pa.float32(),
            "Mean probability that what changed at the piece's pixels went; null: the model does not tell.",
        ),
        describe_field(
            "is_instance",
            pa.bool_(),
            "Whether the piece is one building, told apart from those that it touches.",
            is_nullable=False,
        ),
        describe_field(
            "geometry",
            pa.binary(),
            "The piece as WKB, in pixels of the grid: x to the right, y downwards from its upper left corner.",
            is_nullable=False,
        ),
        describe_field("beyond", pa.binary(), "What it reaches of tiles beside its own, likewise; null: nothing."),
    ]
)
"""Columns of an outline part: one row per piece, by tile, kind and first pixel; a tile without any has no row."""

_TILES_KEY = b"tiles"


def encode_outlines(outlines: Sequence[Outline], *, tiles: Sequence[Tile]) -> bytes:
    """Give the Parquet file with the outlines of some tiles."""
    columns = {name: [getattr(outline, name) for outline in outlines] for name in OUTLINES_SCHEMA.names}
    columns |= {name: [_encode(shape) for shape in columns[name]] for name in ("geometry", "beyond")}
    table = pa.table(columns, schema=OUTLINES_SCHEMA.with_metadata({_TILES_KEY: _name_tiles(tiles)}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _encode(shape: BaseGeometry | None) -> bytes | None:
    return None if shape is None else shapely.to_wkb(shape, byte_order=1)


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
        InputError: its shapes lie too deep within each other.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = read_table(file, most=_MAX_DECODED_BYTES)
    refuse_nested(table)
    return table.cast(OUTLINES_SCHEMA.with_metadata(file.schema_arrow.metadata))


def _name_tiles(tiles: Sequence[Tile]) -> bytes:
    return json.dumps([tile.tile_id for tile in tiles]).encode()

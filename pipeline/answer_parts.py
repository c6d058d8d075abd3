"""Answer parts: one Parquet file with the answers to one prompt about the tiles of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from model.interface import Answer, Prompt
from pipeline.errors import InputError
from pipeline.run_folder import RunFolder
from pipeline.tiles import Tile

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
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why there is no answer, by the id of each tile that the model or its worker failed on."""

    def read(self) -> pa.Table:
        """Read all answers, sorted by tile and prompt, with the columns of `ANSWERS_SCHEMA`.

        Raises:
            InputError: a part is damaged or gone.
        """
        tables = [self._read_part(name) for name in self.names]
        table = pa.concat_tables([ANSWERS_SCHEMA.empty_table(), *tables])
        return table.sort_by([("tile_id", "ascending"), ("prompt_name", "ascending")])

    def _read_part(self, name: str) -> pa.Table:
        try:
            return pq.read_table(pa.BufferReader(self.folder.read(name)), schema=ANSWERS_SCHEMA)
        except (FileNotFoundError, pa.ArrowException) as problem:
            raise InputError(
                f"answers {name} in {self.folder.uri} cannot be read ({problem})",
                expected="a whole Parquet file",
                remedy="delete that file and run again: only it is made anew",
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
        },
        schema=ANSWERS_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())

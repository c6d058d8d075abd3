"""What an assistant is shown: finished runs and regions, each with a name, its tables and what was seen of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import InputError
from model.redaction import redact_text
from model.safe_text import clean_text, clean_values
from pipeline.regions.events.changelog import CHANGELOG_NAME
from pipeline.regions.export import is_region, open_region_tables
from pipeline.regions.pair_records import PairState, open_pair_folder, read_states, take_current
from pipeline.regions.record import read_file_facts
from pipeline.regions.tables import TIME_LINE_NAME, measure_seen
from pipeline.runs.export import OpenTable, open_tables
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import find_run_folder
from pipeline.tables.fields import read_description
from pipeline.tables.vector_formats import PLACE_NAMES, read_placed

MAX_LISTED_PAIRS = 100
"""Pairs of a region that are listed one by one, the latest; the time line has all."""

_PLACE_MEANING = "{} of a place inside the geometry, in degrees (WGS 84)."
_UNSEEN_NOTE = "What was not seen is not known to be unchanged: is_changed is null there."


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run or a region that the server was started with."""

    name: str
    """Schema of its tables in SQL: small letters, digits and underscores."""
    kind: Literal["run", "region"]
    """What it is."""
    folder: RunFolder
    """Where it lies."""
    tables: Mapping[str, OpenTable] = field(repr=False)
    """What opens each of its tables, by their names."""
    coverage: Mapping[str, Any]
    """How much of it was seen, as plain values."""
    facts: Mapping[str, Any] = field(repr=False)
    """What else there is to know of it, as plain values."""
    pairs: Mapping[str, PairState] = field(default_factory=dict, repr=False)
    """Pairs of a region that count, by their ids, in the order of time."""

    def find_run(self, pair_id: str | None) -> RunFolder:
        """Give the folder of the run itself, or of that of a region's pair.

        Args:
            pair_id: Pair of a region; None for a run.

        Raises:
            InputError: a run has no such pair, a region needs one, or the run of the pair is gone.
        """
        if self.kind == "run":
            if pair_id is not None:
                raise InputError(
                    f"pair {pair_id[:100]!r} of {self.name}, which is a run",
                    expected="pair_id with regions alone",
                    remedy="leave it out",
                )
            return self.folder
        there = [name for name, state in self.pairs.items() if state.has_folder]
        if pair_id not in there:
            raise InputError(
                f"pair {str(pair_id)[:100]!r} of region {self.name}",
                expected=f"one of the {len(there)} pairs whose run is there, such as {', '.join(there[-3:]) or 'none'}",
                remedy="take a pair_id from the table of changes",
            )
        return open_pair_folder(self.folder, self.pairs[pair_id].record)

    def describe(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "place": redact_text(self.folder.uri),
            "tables": [f"{self.name}.{table}" for table in self.tables],
            "coverage": dict(self.coverage),
            **self.facts,
        }


def find_sources(uris: Sequence[str]) -> list[Source]:
    """Open finished runs and regions, and give each a name.

    Raises:
        InputError: one is neither, has not ended, or cannot be read.
    """
    sources: list[Source] = []
    for uri in uris:
        name = _name_source(uri, taken={source.name for source in sources})
        sources.append(_open_region(uri, name=name) if is_region(uri) else _open_run(uri, name=name))
    return sources


def _name_source(uri: str, *, taken: set[str]) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", find_run_folder(uri).uri.rstrip("/").rpartition("/")[2].lower()).strip("_")
    # No name of SQL begins with a digit, and `main` and `temp` are DuckDB's own.
    stem = words if re.match(r"[a-z]", words) and words not in {"main", "temp"} else f"run_{words}".rstrip("_")
    names = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _open_run(uri: str, *, name: str) -> Source:
    folder = find_run_folder(uri)
    record = read_record(folder)
    return Source(
        name=name,
        kind="run",
        folder=folder,
        tables=open_tables(record, folder=folder),
        coverage=_tell_coverage(record),
        facts=clean_values(
            {
                "run_id": record.run_id,
                "before_datetime": record.inputs["before"]["datetime"],
                "after_datetime": record.inputs["after"]["datetime"],
                "model_id": record.model["model_id"],
                "n_changed_tiles": record.changed_tile_count,
                "change_counts": dict(record.change_counts),
                "thing_counts": dict(record.thing_counts),
                "prompts": [prompt["name"] for prompt in record.config["prompts"]],
            }
        ),
    )


def _tell_coverage(record: RunRecord) -> dict[str, Any]:
    told = record.coverage
    return {
        "seen_fraction": round(told.seen_fraction, 4) if told.total_m2 else record.seen_fraction,
        "tiles_per_status": {status: count for status, count in record.status_counts.items() if count},
        "changes_left_out_by_confidence": dict(record.left_out_counts),
        "notes": [*clean_values(list(record.notes)), _UNSEEN_NOTE],
    }


def _open_region(uri: str, *, name: str) -> Source:
    folder = find_run_folder(uri)
    tables = open_region_tables(folder)
    there = read_file_facts(folder)
    for table, file in (("timeline", TIME_LINE_NAME), ("changelog", CHANGELOG_NAME)):
        if file in there:
            tables[table] = partial(folder.open_file, file)
    pairs = {state.pair_id: state for state in take_current(read_states(folder))}
    told = [_describe_pair(state) for state in pairs.values()]
    return Source(
        name=name,
        kind="region",
        folder=folder,
        tables=tables,
        coverage={
            "pairs": told[-MAX_LISTED_PAIRS:],
            "n_pairs": len(told),
            "notes": ["What no pair has seen is not known to be unchanged."],
        },
        facts={},
        pairs=pairs,
    )


def _describe_pair(state: PairState) -> dict[str, Any]:
    pair, figures = state.record.pair, state.figures or {}
    seen = measure_seen(figures.get("ground_m2", {}))
    return {
        "pair_id": state.pair_id,
        "before_datetime": pair.before.start.isoformat(),
        "after_datetime": pair.after.start.isoformat(),
        "status": state.status.value,
        "reason": None if state.reason is None else clean_text(redact_text(state.reason)),
        "seen_fraction": None if seen is None else round(seen, 4),
        "has_pictures": state.has_folder,
    }


@contextmanager
def open_rows(open_table: OpenTable) -> Iterator[pa.RecordBatchReader]:
    """Open a table to be read some rows at a time, with a place in the stead of its geometry."""
    with open_table() as source, pq.ParquetFile(source) as file:
        yield read_placed(file, clean=clean_text)


def describe_columns(open_table: OpenTable) -> dict[str, Any]:
    """Tell how many rows a table has, and of each column its type and what it means."""
    with open_table() as source, pq.ParquetFile(source) as file:
        meanings = {column.name: read_description(column) for column in file.schema_arrow}
        meanings |= {name: _PLACE_MEANING.format(name) for name in PLACE_NAMES if name not in meanings}
        return {
            "n_rows": file.metadata.num_rows,
            "columns": [
                {"name": column.name, "type": str(column.type), "meaning": clean_text(meanings.get(column.name, ""))}
                for column in read_placed(file, clean=clean_text).schema
            ],
        }

"""SQL on the tables of runs and regions, by whoever asks: it reads these tables and nothing else, and comes to an end.

The statement is a stranger's. DuckDB is given the tables and then shut off from files, networks and extensions, with
its configuration locked; a single SELECT is let through, with table functions that are known to compute only. That
leaves what takes long or much: `flows.assistants.query_desk` runs all this in a process of its own for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

from flows.assistants.sources import Source, open_rows
from model.errors import InputError
from model.safe_text import clean_text

MAX_ROWS = 1_000
"""Rows of an answer."""
MAX_QUERY_CHARACTERS = 10_000
MAX_CELL_CHARACTERS = 4_000
"""Of one text in an answer; the rest is left off, and three dots tell so."""
MAX_RESULT_CHARACTERS = 200_000
"""Of all rows of an answer, as JSON; rows that come after are left off."""
MAX_DATABASE_BYTES = 2**31
"""Memory of the tables and of what a query makes of them."""

_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each"})
# ^ Of the others some read files or addresses in memory, switch logs on, or run a statement out of a text.
_N_THREADS = 2


class QueryError(InputError):
    """A query that is not let through, or that did not come to its end."""


class TableDatabase:
    """Tables in memory that can be queried and not be changed."""

    def __init__(self, sources: Sequence[Source], *, max_bytes: int = MAX_DATABASE_BYTES) -> None:
        """Read all tables, then close the door.

        Args:
            sources: Whose tables they are.
            max_bytes: As `MAX_DATABASE_BYTES`.

        Raises:
            InputError: a table is gone or damaged, or they do not fit into memory.
        """
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{max_bytes}B",
                "threads": _N_THREADS,
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        self._max_bytes = max_bytes
        for source in sources:
            self._load(source)
        if len(sources) == 1:
            self._connection.execute(f"SET search_path = '{sources[0].name}'")
        for setting in (
            "python_enable_replacements = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _load(self, source: Source) -> None:
        self._connection.execute(f'CREATE SCHEMA "{source.name}"')
        for table, open_table in source.tables.items():
            try:
                with open_rows(open_table) as reader:
                    self._fill(f'"{source.name}"."{table}"', reader)
            except (duckdb.Error, pa.ArrowException, OSError) as problem:
                raise InputError(
                    f"table {table} of {source.name} cannot be read ({problem})",
                    expected=f"a table as it was written, that fits into {self._max_bytes:,} bytes with the others",
                    remedy="write the report anew, or name fewer runs",
                ) from None

    def _fill(self, name: str, reader: pa.RecordBatchReader) -> None:
        # Some rows at a time by hand: DuckDB's threads must not call a reader that is written in Python.
        self._connection.register("incoming", reader.schema.empty_table())
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        for batch in reader:
            self._connection.register("incoming", pa.Table.from_batches([batch]))
            self._connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
        self._connection.unregister("incoming")

    def interrupt(self) -> None:
        """Stop the query that is being answered, from another thread."""
        self._connection.interrupt()

    def query(self, sql: str, *, max_rows: int = MAX_ROWS) -> dict[str, Any]:
        """Answer a query.

        Args:
            sql: One SELECT statement.
            max_rows: Most rows to be given.

        Returns:
            ``columns``, ``rows`` as lists of plain values, and ``is_cut``: whether there were more.

        Raises:
            QueryError: it is not let through, is wrong, or was stopped.
        """
        self.check(sql)
        n_rows = min(max_rows, MAX_ROWS)
        limited = f"SELECT * FROM (\n{sql.strip().rstrip(';')}\n) AS answer LIMIT {n_rows + 1}"
        with self._explain_errors(), self._read_only():
            # Not DuckDB's own values: of times with a zone it makes none without a package more.
            table = self._connection.execute(limited).to_arrow_table()
            return gather_rows(table.to_reader(), max_rows=n_rows)

    def check(self, sql: str) -> None:
        """Refuse what is not one SELECT, or calls a table function that does more than compute.

        Raises:
            QueryError: so it is.
        """
        if len(sql) > MAX_QUERY_CHARACTERS:
            raise QueryError(
                f"a query of {len(sql):,} characters",
                expected=f"at most {MAX_QUERY_CHARACTERS:,}",
                remedy="ask for less at a time",
            )
        if any("\ud800" <= character <= "\udfff" for character in sql):
            raise QueryError(
                "half a character (a lone surrogate)", expected="text of Unicode", remedy="correct the query"
            )
        with self._explain_errors():
            (told,) = self._connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("{}",)
            tree = json.loads(told)
        if tree.get("error", True) or len(tree["statements"]) != 1:
            raise QueryError(
                f"not one SELECT statement ({clean_text(str(tree.get('error_message', 'several statements')))[:500]})",
                expected="a single SELECT",
                remedy="write one SELECT; nothing can be written, attached, installed or set here",
            )
        if unknown := sorted(set(list_table_functions(tree)) - _TABLE_FUNCTIONS):
            raise QueryError(
                f"the table function {unknown[0][:100]}",
                expected=f"tables of the report, and at most {', '.join(sorted(_TABLE_FUNCTIONS))}",
                remedy="query the tables that the schema names",
            )

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise QueryError(
                "the query was stopped, as it took too long",
                expected="one that ends within the limit of time",
                remedy="ask for less: fewer rows, a smaller join, no endless recursion",
            ) from None
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError, RecursionError, OverflowError) as problem:
            # What overflows are dates that Python does not have: years beyond 9999, and infinity.
            words = clean_text(str(problem))[:1_000] or type(problem).__name__
            if "INTERRUPT" in words:
                words = "the query was stopped, as it took too long"
            raise QueryError(
                words, expected="a query that DuckDB can answer from these tables", remedy="correct the query"
            ) from None

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            yield
        finally:
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")


def list_table_functions(tree: Any) -> Iterator[str]:
    """Name the table functions in a statement as DuckDB's `json_serialize_sql` gives it."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if node.get("type") == "TABLE_FUNCTION":
                yield str(node["function"]["function_name"]).lower()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def gather_rows(reader: pa.RecordBatchReader, *, max_rows: int) -> dict[str, Any]:
    """Take rows as plain values until there are enough of them, or of their characters."""
    rows: list[list[Any]] = []
    n_characters = 0
    names = [clean_text(name) for name in reader.schema.names]
    for batch in reader:
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            row = [make_plain(value) for value in values]
            n_characters += len(json.dumps(row))
            if len(rows) == max_rows or n_characters > MAX_RESULT_CHARACTERS:
                return {"columns": names, "rows": rows, "is_cut": True}
            rows.append(row)
    return {"columns": names, "rows": rows, "is_cut": False}


def make_plain(value: Any) -> Any:
    """Give a value as JSON has it; no text is longer than a cell may be, and a number that is none is null."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {clean_text(str(key)): make_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(each) for each in value]
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    text = clean_text(text)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}..."

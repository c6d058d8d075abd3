"""What is read back of a finished run is what the run has left, or it is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.errors import InputError
from pipeline.runs.export import open_tables
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.storage.object_facts import describe_bytes


def test_a_table_that_somebody_changed_is_told(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    for name in (TILES_NAME, CHANGES_NAME):
        folder.put(name, b"of the run")
    record: Any = SimpleNamespace(files={name: describe_bytes(b"of the run") for name in (TILES_NAME, CHANGES_NAME)})
    assert set(open_tables(record, folder=folder)) == {"tiles", "changes"}

    (tmp_path / CHANGES_NAME).write_bytes(b"Of the run")
    with pytest.raises(InputError, match=r"changes\.parquet is other than the run has left.*deltavlm report"):
        open_tables(record, folder=folder)

    (tmp_path / CHANGES_NAME).unlink()
    with pytest.raises(InputError, match=r"changes\.parquet cannot be read"):
        open_tables(record, folder=folder)

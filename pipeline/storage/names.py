"""Names of the files in a run's folder."""

from __future__ import annotations

STORE_NAME = "tiles.zarr"
"""Name of the store in the folder of its run."""

TILES_NAME = "report/tiles.parquet"
CHANGES_NAME = "report/changes.parquet"
ZONES_NAME = "report/zones.parquet"
FLATGEOBUF_NAME = "report/changes.fgb"
STYLE_NAME = "report/changes.qml"
PAGE_NAME = "report/index.html"

LOCK_NAME = "run.lock"
"""The object that says who is at work; names that begin with it are the lock's own."""

RUN_NAMES = frozenset(
    {"run.json", "run.pending.json", STORE_NAME, "marks", "answers", "outlines", "report", "formats", LOCK_NAME}
)
"""All that a run leaves at the top of its folder."""

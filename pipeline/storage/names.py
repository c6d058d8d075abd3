"""Names of the files in the folders of runs and regions: what is theirs is told from what others put there by name."""

from __future__ import annotations

import re

STORE_NAME = "tiles.zarr"
"""Name of the store in the folder of its run."""

TILES_NAME = "report/tiles.parquet"
CHANGES_NAME = "report/changes.parquet"
ZONES_NAME = "report/zones.parquet"
FLATGEOBUF_NAME = "report/changes.fgb"
STYLE_NAME = "report/changes.qml"
PAGE_NAME = "report/index.html"
PAGE_FILES_FOLDER = "report/page"
"""Of files beside the page that it reads when somebody looks at a tile."""
ACCURACY_NAME = "report/accuracy.json"
PROBABILITY_NAME = "change_probability.tif"
"""Of an export: in a folder of exports."""

LOCK_NAME = "run.lock"
"""The object that says who is at work; names that begin with it are the lock's own."""

_TABLE = "(tiles|changes|zones)"
_ARRAY = "(pixels|valid|x|y|date|band|datetime|spatial_ref)"
_RUN_FILES = re.compile(
    rf"run(\.pending)?\.json|{LOCK_NAME}(-[0-9a-f]+)?|tiles\.zarr/({_ARRAY}/)?(zarr\.json|c(/\d+)*)"
    r"|marks/[0-9a-f]{64}\.json|(answers|outlines)/[0-9a-f]{64}\.parquet"
    rf"|report/({_TABLE}\.parquet|changes\.(fgb|qml)|index\.html|(item|accuracy)\.json|plots/[a-z]+\.png|page/tiles_r\d+_c\d+\.js)"
    rf"|formats/((report|{_TABLE})\.[a-z]+|change_probability\.tif|qgis/(report\.(qgz|gpkg)|(before|after|change_probability)\.tif))"
)
_PAIR_TABLES = re.compile(r"report/(changes|zones|seen)/after_year=\d+/\d+_\d+_[0-9a-f]{12}\.parquet")


def is_run_file(name: str) -> bool:
    """Tell whether a name in the folder of a run is one that runs, their reports and their exports give."""
    return _RUN_FILES.fullmatch(name) is not None


def is_pair_table(name: str) -> bool:
    """Tell whether a name in the folder of a region is one that its report gives to what it tells of one pair."""
    return _PAIR_TABLES.fullmatch(name) is not None

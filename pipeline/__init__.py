"""What happens to the data: six verbs from a pair of scenes to a GeoParquet report, each named after what it makes.

    find_pair -> write_tiles -> select_tiles -> collect_answers -> extract_findings -> write_report

`detect_changes` calls them one after the other. A name is loaded when it is first asked for: this module itself loads
nothing, so that a command's help need not wait for libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.answers.collect import collect_answers
    from pipeline.config.run import load_config
    from pipeline.findings.extract import extract_findings
    from pipeline.report.write import write_report
    from pipeline.runs.read import open_tiles, read_tile_pair
    from pipeline.runs.run import detect_changes
    from pipeline.scenes.pair import find_pair
    from pipeline.tiles.select import select_tiles
    from pipeline.tiles.write import write_tiles

__all__ = [
    "collect_answers",
    "detect_changes",
    "extract_findings",
    "find_pair",
    "load_config",
    "open_tiles",
    "read_tile_pair",
    "select_tiles",
    "write_report",
    "write_tiles",
]

_HOMES = {
    "collect_answers": "pipeline.answers.collect",
    "detect_changes": "pipeline.runs.run",
    "extract_findings": "pipeline.findings.extract",
    "find_pair": "pipeline.scenes.pair",
    "load_config": "pipeline.config.run",
    "open_tiles": "pipeline.runs.read",
    "read_tile_pair": "pipeline.runs.read",
    "select_tiles": "pipeline.tiles.select",
    "write_report": "pipeline.report.write",
    "write_tiles": "pipeline.tiles.write",
}

if not TYPE_CHECKING:
    # ^ With it in sight, a type checker would take any name for one of ours.

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

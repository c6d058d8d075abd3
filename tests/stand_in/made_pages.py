"""Made reports for the browser: tiles whose states, words and pictures are known, without scenes or a model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from made_regions import make_changes, make_timeline

from model.interface import Prompt, PromptKind
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.totals import sum_up
from pipeline.grid.grid import Grid
from pipeline.regions.page import render_region_page
from pipeline.report.plot_figures import summarise_timeline
from pipeline.report.plots import describe_plots, draw_plots
from pipeline.report.write import write_report
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import make_frame
from pipeline.tiles.store import TileStore

HOSTILE = (
    "</script><script>window.hacked = 1</script>\"><img src=x onerror='window.hacked=1'><svg onload=window.hacked=1>"
)
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=240,
    n_rows=6,
    n_cols=8,
    width_px=8 * 240,
    height_px=6 * 240,
)


@dataclass(frozen=True, kw_only=True)
class PlainStore(TileStore):
    """A store of dark tiles before and bright ones after."""

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        size = self.grid.tile_size_px
        pairs = np.full((len(tiles), 2, 3, size, size), 60, dtype=np.uint8)
        pairs[:, 1] = 140
        return pairs


def write_made_page(folder: Path, *, words: str | None = None) -> Path:
    """Write the report of a made run; gives the folder with its page.

    Args:
        folder: Where the run goes.
        words: What every text that comes from outside says, if not what is true.
    """
    cells = ("top-left;top-center;top-right;center-left;center-center;center-right", "center-center", "bottom-right")
    tiles: dict[tuple[int, int], dict[str, Any]] = {
        (1, 1): {"building_cells": cells[0], "building_count": 18, "change_confidence": 0.995},
        (1, 5): {"road_cells": "top-left;top-center", "road_count": 2, "change_confidence": 0.9},
        (3, 2): {"building_cells": cells[1], "building_count": 1, "change_confidence": 0.7},
        (4, 6): {"building_cells": cells[2], "building_count": 3, "change_confidence": 0.4},
    }
    tiles = {place: told | {"is_changed": True} for place, told in tiles.items()}
    tiles[1, 1]["description"] = "houses are built by the river ."
    unknown = {"is_changed": None, "change_confidence": None}
    tiles[4, 2] = {"status": "unreadable", "reason": words or "count: many", **unknown}
    tiles[0, 7] = {"status": "cloudy", "reason": "clouds", **unknown}
    tiles[0, 6] = {"status": "no_data", "reason": "nothing valid", "valid_fraction": 0.0, **unknown}
    if words is not None:
        for told in tiles.values():
            told["description"] = words
    prompts = [
        Prompt(name="description", kind=PromptKind.DESCRIBE, text=words or "Please describe the changes."),
        Prompt(name="count", kind=PromptKind.COUNT, text="How many?"),
        Prompt(name="trees", kind=PromptKind.ASK, text=f"Were trees felled? {words or ''}"),
    ]
    tiles[1, 1]["trees"] = words or "Some."
    plain = {"before_datetime": "2020-06-01", "after_datetime": "2024-06-01", "change_confidence": 0.97}
    plain |= {"model_id": words or "made@0", "run_id": "made"}
    findings = make_findings(GRID, tiles, prompts=prompts, plain=plain)
    run = RunFolder(str(folder))
    store = PlainStore(folder=run, grid=GRID, content_key="key", shard_size_tiles=2)
    names = {"before_name": words or "old", "after_name": words or "new"}
    totals = sum_up(findings, store=store)
    # Only outlines of a model of which that was measured have a confidence.
    totals.changes["confidence"] = np.linspace(0.5, 0.97, len(totals.changes))
    write_report(findings, totals=totals, store=store, folder=run, prompts=prompts, **names)
    return folder / "report"


def write_made_region(folder: Path) -> Path:
    """Write the report of a made region of two pairs, of which one has its run beside it; gives the region's folder."""
    changes = make_changes(
        [
            {
                "change_id": "building_r0001_c0001_top-left",
                "tile_ids": "r0001_c0001",
                "description": "</script><script>window.hacked = 1</script>",
                "area_m2": 9000.0,
            },
            {"kind": "road", "geometry": shapely.box(621_000, 3_361_000, 622_000, 3_361_020)},
            {"after_datetime": "2024-09-01", "pair_id": "pair-2", "run": "pairs/pair-2", "is_new": False},
        ]
    )
    timeline = make_timeline([{}, {}])
    figures = summarise_timeline(timeline)
    page = render_region_page(changes, timeline=timeline, name="Delta", plots=describe_plots(figures))
    (folder / "report" / "plots").mkdir(parents=True)
    for plot, png in draw_plots(figures).items():
        (folder / "report" / "plots" / plot).write_bytes(png)
    (folder / "report" / "index.html").write_text(page, encoding="utf-8")
    made = write_made_page(folder / "made")
    shutil.copytree(made, folder / "pairs" / "pair-1" / "report")
    return folder


def make_findings(
    grid: Grid, tiles: dict[tuple[int, int], dict[str, Any]], *, prompts: list[Prompt], plain: dict[str, Any]
) -> Any:
    """Make findings, all tiles unchanged but for what is told of some."""
    import pandas as pd

    schema = make_findings_schema(prompts)
    everywhere = {
        "status": "analysed",
        "valid_fraction": 1.0,
        "is_changed": False,
        "building_count": 0,
        "road_count": 0,
    }
    everywhere |= {"building_cells": "", "road_cells": "", "description": "the scene is the same as before ."} | plain
    for date in ("before_datetime", "after_datetime"):
        everywhere[date] = pd.Timestamp(everywhere[date], tz="UTC")
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    rows = [
        {"tile_id": grid.tile_id(*place), "row": place[0], "col": place[1]} | everywhere | tiles.get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in schema.names if name != "geometry"}
    geometry = np.array([grid.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=schema, geometry=geometry, crs=grid.crs)

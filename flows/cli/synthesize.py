"""The command ``deltavlm data synthesize``: scenes or tiles whose every change is known."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import JsonFlag

SCENE_SIZE_PX, TILE_SIZE_PX, ARCHIVE_SIZE_PX = 2048, 256, 1344
ARCHIVE_DATES = "2025-05-20,2025-05-27,2025-06-03,2026-06-03,2026-06-10,2026-06-17"
CHANGE_LEVEL, SCENE_REMOVAL_LEVEL, TILE_REMOVAL_LEVEL = 0.3, 0.0, 0.15
"""Defaults; they stand here so that ``--help`` need not load OpenCV and geopandas."""


def synthesize_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the files.")],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same pixels.")] = 6,
    n_tiles: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Make N small pairs for training instead of one pair of scenes."),
    ] = None,
    dates: Annotated[
        str | None,
        typer.Option(
            metavar="DATES",
            help="Make one scene for each of these dates, such as 2024-06-15,2025-06-18, instead of a pair: scenes to "
            "try `deltavlm monitor` with.",
        ),
    ] = None,
    is_archive: Annotated[
        bool,
        typer.Option(
            "--archive",
            help="Make scenes as the archive of a satellite has them: a STAC catalog, a file per band, clouds with "
            "their classes, two UTM zones. The first half of --dates shows the place before it changes. "
            f"Dates left out: {ARCHIVE_DATES}.",
        ),
    ] = False,
    size_px: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Width and height in pixels; {SCENE_SIZE_PX} for scenes, {TILE_SIZE_PX} for tiles, {ARCHIVE_SIZE_PX} "
            "for an archive.",
        ),
    ] = None,
    resolution_m: Annotated[float, typer.Option(metavar="METRES", help="Size of a pixel in metres.")] = 0.5,
    change_level: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the districts that change, from 0 to 1."),
    ] = CHANGE_LEVEL,
    removal_level: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the changing districts that are torn down instead of built; "
            f"{SCENE_REMOVAL_LEVEL:g} for scenes, {TILE_REMOVAL_LEVEL} for tiles.",
        ),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="With --n-tiles: folder of real pairs (A/, B/) to show on the contact sheet, too."
        ),
    ] = None,
    is_json: JsonFlag = False,
) -> None:
    """Draw scenes or small training pairs with known changes.

    A pair of scenes comes with the exact outlines of its changes, georeferenced.
    """
    from flows.cli.console import make_console, print_result, show_files
    from flows.cli.work import show_work

    if (dates is not None or is_archive) and n_tiles is not None:
        raise typer.BadParameter("--dates and --archive make scenes and --n-tiles small pairs; give one of the two")
    drawing = _Drawing(
        folder=folder,
        seed=seed,
        size_px=size_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    result: dict[str, Any]
    if n_tiles is not None:
        result = _make_tiles(drawing, n_tiles=n_tiles, beside=beside)
    else:
        with show_work(make_console(), "Draw scenes"):
            if is_archive:
                result = _make_archive(drawing, days=_read_days(ARCHIVE_DATES if dates is None else dates))
            elif dates is not None:
                result = _make_series(drawing, days=_read_days(dates))
            else:
                result = _make_scenes(drawing)
    show_files(make_console(), [str(folder)])
    print_result(result, is_json=is_json)


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """What the options say of whatever is drawn."""

    folder: Path
    seed: int
    size_px: int | None
    resolution_m: float
    change_level: float
    removal_level: float | None

    def settle(self, *, size_px: int, removal_level: float) -> dict[str, Any]:
        """Give the arguments that all writers take, with these defaults for what was left out."""
        return {
            "seed": self.seed,
            "size_px": size_px if self.size_px is None else self.size_px,
            "resolution_m": self.resolution_m,
            "change_level": self.change_level,
            "removal_level": removal_level if self.removal_level is None else self.removal_level,
        }


def _make_scenes(drawing: _Drawing) -> dict[str, str | int]:
    """Makes one pair of scenes; returns the paths of its files."""
    from pipeline.training_data.scenes import write_synthetic_pair

    settled = drawing.settle(size_px=SCENE_SIZE_PX, removal_level=SCENE_REMOVAL_LEVEL)
    files = write_synthetic_pair(drawing.folder, **settled)
    return {name: str(path) for name, path in asdict(files).items()}


def _make_series(drawing: _Drawing, *, days: list[dt.date]) -> dict[str, str | list[str]]:
    """Makes a scene per day; returns the paths of its files."""
    from pipeline.training_data.scenes import write_synthetic_series

    settled = drawing.settle(size_px=SCENE_SIZE_PX, removal_level=SCENE_REMOVAL_LEVEL)
    files = write_synthetic_series(drawing.folder, dates=days, **settled)
    return {"scenes": [str(path) for path in files.scenes], "area": str(files.area)}


def _make_archive(drawing: _Drawing, *, days: list[dt.date]) -> dict[str, str]:
    """Makes an archive; returns the paths of its files."""
    from pipeline.training_data.synthetic_archives import write_synthetic_archive

    settled = drawing.settle(size_px=ARCHIVE_SIZE_PX, removal_level=SCENE_REMOVAL_LEVEL)
    files = write_synthetic_archive(drawing.folder, dates=days, **settled)
    return {name: str(path) for name, path in asdict(files).items()}


def _make_tiles(drawing: _Drawing, *, n_tiles: int, beside: Path | None) -> dict[str, str | int]:
    """Makes many small pairs, and tells how many there are; returns what was written."""
    from itertools import count

    from flows.cli.console import make_console
    from flows.cli.work import show_work
    from pipeline.training_data.tiles import write_synthetic_tiles

    settled = drawing.settle(size_px=TILE_SIZE_PX, removal_level=TILE_REMOVAL_LEVEL)
    n_made = count(1)
    with show_work(make_console(), "Make tiles") as tell:
        written = write_synthetic_tiles(
            drawing.folder, n_tiles=n_tiles, beside=beside, on_tile=lambda: tell(next(n_made), n_tiles), **settled
        )
    return {name: value if isinstance(value, int) else str(value) for name, value in asdict(written).items()}


def _read_days(dates: str) -> list[dt.date]:
    try:
        return [dt.date.fromisoformat(day.strip()) for day in dates.split(",")]
    except ValueError as problem:
        raise typer.BadParameter(
            f"--dates {dates} ({problem}); write days as 2024-06-15, with commas between"
        ) from None

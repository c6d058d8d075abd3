"""The command ``deltavlm data changechat``: image pairs with masks and captions in, ChangeChat-style questions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonFlag

if TYPE_CHECKING:
    from rich.console import Console

    from flows.cli.work import TellWork
    from model.changechat.layouts import Source
    from model.changechat.masks import ClassValues
    from pipeline.training_data.truth_tiles import TruthTiles

_TRUTH_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet")
_RASTER_SUFFIXES = (".tif", ".tiff", ".vrt")
_UNSEEN = "not seen on both dates"


class SourceKind(StrEnum):
    """What a source can be."""

    AUTO = "auto"
    LEVIR_CC = "levir-cc"
    LEVIR_MCI = "levir-mci"
    LEVIR_CD = "levir-cd"
    FOLDER = "folder"
    GEOTIFF = "geotiff"


def changechat_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of pairs; or a GeoTIFF of the earlier date, with --after and --truth."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the data set.")],
    kind: Annotated[
        SourceKind,
        typer.Option(
            metavar="KIND",
            help=f"Layout of the source: {', '.join(SourceKind)}. geotiff: before.tif and after.tif, or A/ and B/, "
            "with truth.gpkg.",
        ),
    ] = SourceKind.AUTO,
    captions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Captions. Default: LevirCCcaptions.json or captions.json of the source."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="SPLIT", help="Only this split; pairs without one are put into it. Can be repeated."),
    ] = None,
    class_values: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="What mask values mean, such as building=255,road=128; for polygons, the names of their kinds.",
        ),
    ] = None,
    road_masks: Annotated[
        bool,
        typer.Option(
            "--road-masks", help="The masks show roads, too: a mask without a road means that no road changed."
        ),
    ] = False,
    open_questions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add these open questions, as `data open-questions` writes them."),
    ] = None,
    after: Annotated[Path | None, typer.Option(metavar="FILE", help="GeoTIFF of the later date.")] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Polygons of the changes, in any vector format.")
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of --truth that says building or road. Default: kind.")
    ] = None,
    resolution_m: Annotated[
        float, typer.Option(min=0.01, metavar="METRES", help="Pixel size of tiles cut from GeoTIFFs, in metres.")
    ] = 0.5,
    tile_size_px: Annotated[
        int, typer.Option(min=16, metavar="N", help="Side of tiles cut from GeoTIFFs, in pixels.")
    ] = 256,
    is_json: JsonFlag = False,
) -> None:
    """Build instruction data in the style of ChangeChat from image pairs.

    Every pair gets captions, yes-or-no questions, counts, places and dialogues, from its masks and captions.
    """
    from flows.cli.console import make_console
    from flows.cli.work import show_work
    from model.changechat.building import add_records, build_set
    from model.changechat.layouts import Layout, find_pairs
    from model.changechat.reading import read_records
    from model.changechat.writing import write_set

    console = make_console()
    splits = tuple(split or ())
    with show_work(console, "Read pairs") as tell:
        values: ClassValues | None
        extra: dict[str, Any] = {}
        if kind is SourceKind.GEOTIFF or after is not None or truth is not None or _is_scene_folder(source, kind=kind):
            cut = _cut_tiles(
                _list_scenes(source, after=after, truth=truth),
                images=output / "images",
                split=splits[0] if splits else "train",
                grid={"resolution_m": resolution_m, "tile_size_px": tile_size_px},
                kind_column=class_column,
                kinds=_parse_kinds(class_values),
                tell=tell,
            )
            found = _take_tiles(output, cut=cut, captions=captions)
            has_roads = road_masks or any(tiles.has_road_truth for tiles in cut)
            values = _choose_values(None, has_roads=has_roads, is_drawn=True)
            extra = {"ignored_features": sum(tiles.n_ignored for tiles in cut)}
        else:
            layout = None if kind is SourceKind.AUTO else Layout(kind.value)
            found = find_pairs(source, layout=layout, captions=captions, splits=splits)
            values = _choose_values(class_values, has_roads=road_masks or found.layout is Layout.LEVIR_MCI)
        built = build_set(found, class_values=values, on_progress=tell)
    if open_questions is not None:
        built = add_records(built, read_records(open_questions))
    with show_work(console, "Write the set"):
        summary = write_set(built, output)
    _end_with_summary(console, summary, output=output, extra=extra, is_json=is_json)


def _choose_values(text: str | None, *, has_roads: bool, is_drawn: bool = False) -> ClassValues | None:
    """Decide what mask values mean; None leaves that to the masks."""
    from model.changechat.masks import LEVIR_MCI_VALUES, ClassValues, parse_class_values
    from model.errors import InputError

    if text is not None:
        values: ClassValues = parse_class_values(text)
        if has_roads and values.road is None:
            raise InputError(
                f"masks that cover roads, but --class-values {text}",
                expected="a value of roads",
                remedy="name it, such as building=255,road=128, even if no mask holds it",
            )
        return values
    if has_roads:
        return LEVIR_MCI_VALUES
    return ClassValues(building=LEVIR_MCI_VALUES.building, road=None) if is_drawn else None


def _parse_kinds(text: str | None) -> dict[str, str] | None:
    """Read ``building=house+shed,road=lane`` as what each word of the polygons stands for."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    return {word.strip().lower(): kind.strip() for kind, _, words in parts for word in words.split("+")}


def _is_scene_folder(source: Path, *, kind: SourceKind) -> bool:
    return kind is SourceKind.AUTO and source.is_dir() and _find_file(source, "truth", _TRUTH_SUFFIXES) is not None


def _find_file(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    return next((folder / f"{stem}{s}" for s in suffixes if (folder / f"{stem}{s}").is_file()), None)


def _list_scenes(source: Path, *, after: Path | None, truth: Path | None) -> list[tuple[str, Path, Path, Path]]:
    """List name, both dates and polygons of every georeferenced pair of a source."""
    from model.errors import InputError

    folder = source if source.is_dir() else source.parent
    truth = truth or _find_file(folder, "truth", _TRUTH_SUFFIXES)
    before = _find_file(source, "before", _RASTER_SUFFIXES) if source.is_dir() else source
    after = after or _find_file(folder, "after", _RASTER_SUFFIXES)
    if truth is not None and before is not None and after is not None:
        return [(before.stem if source.is_file() else source.resolve().name, before, after, truth)]
    files = sorted((source / "A").glob("*")) if (source / "A").is_dir() else []
    pairs = [
        (file.stem, file, later, truth)
        for file in files
        if truth is not None
        and file.suffix.lower() in _RASTER_SUFFIXES
        and (later := _find_file(source / "B", file.stem, _RASTER_SUFFIXES)) is not None
    ]
    if pairs:
        return pairs
    missing = [name for name, file in (("before", before), ("after", after), ("truth", truth)) if file is None]
    raise InputError(
        f"{source} has no file for {', '.join(missing)}",
        expected="before.tif and after.tif, or GeoTIFFs of one name in A/ and B/, and polygons such as truth.gpkg",
        remedy="name the files: BEFORE.tif --after AFTER.tif --truth POLYGONS.gpkg",
    )


def _cut_tiles(
    scenes: Sequence[tuple[str, Path, Path, Path]],
    *,
    images: Path,
    split: str,
    grid: Mapping[str, Any],
    kind_column: str | None,
    kinds: Mapping[str, str] | None,
    tell: TellWork,
) -> list[TruthTiles]:
    from pipeline.config.run import load_config
    from pipeline.training_data.truth_tiles import remove_tiles, write_truth_tiles

    remove_tiles(images)
    cut = []
    for name, before, after, truth in scenes:
        scene_values = {"before": str(before), "after": str(after), "output": str(images), "grid": dict(grid)}
        cut.append(
            write_truth_tiles(
                load_config(None, values=scene_values),
                truth=truth,
                folder=images / split,
                name=name,
                kind_column=kind_column,
                kinds=kinds,
                on_progress=partial(tell, title=f"Cut {name}"),
            )
        )
    return cut


def _take_tiles(output: Path, *, cut: Sequence[TruthTiles], captions: Path | None) -> Source:
    """Find the tiles that were cut, and put those left out beside them."""
    from model.changechat.layouts import Layout, Problem, find_pairs
    from model.changechat.schema import SPLITS

    folders = [folder.name for folder in (output / "images").iterdir() if folder.is_dir()]
    splits = [name for name in folders if name not in SPLITS]
    found: Source = find_pairs(
        output, layout=Layout.LEVIR_MCI, captions=captions, splits=[*SPLITS, *splits] if splits else ()
    )
    unseen = [
        Problem(split=found.pairs[0].split, id=name, reason=_UNSEEN, detail=why)
        for tiles in cut
        for name, why in tiles.skipped.items()
    ]
    return replace(found, skipped=(*found.skipped, *unseen))


def _end_with_summary(
    console: Console, summary: Mapping[str, Any], *, output: Path, extra: Mapping[str, Any], is_json: bool
) -> None:
    """Show what was built, say it in one line of JSON and end; 1 where pairs could not be used."""
    from flows.cli.console import make_table, print_result, show_files

    kinds = next(iter(summary["records"].values()))
    table = make_table("split", "pairs", *kinds, title="Records")
    for split, counts in summary["records"].items():
        table.add_row(split, str(summary["pairs"][split]), *(str(count) for count in counts.values()))
    console.print(table)
    for name in ("skipped", "notes"):
        for reason, count in summary[name]["by_reason"].items():
            console.print(f"{name}: {count} x {reason}", markup=False, highlight=False)
    if summary["empty_splits"]:
        console.print(f"Splits without images: {', '.join(summary['empty_splits'])}", markup=False)
    has_failed = bool(set(summary["skipped"]["by_reason"]) - {_UNSEEN})
    result = {
        "output": str(output),
        **{name: summary[name] for name in ("layout", "images", "pairs", "records", "empty_splits")},
        "skipped": summary["skipped"]["by_reason"],
        "notes": summary["notes"]["by_reason"],
        **extra,
        "files": list(summary["files"]),
        "exit_code": int(has_failed),
    }
    show_files(console, [str(output)])
    print_result(result, is_json=is_json)
    raise typer.Exit(int(has_failed))

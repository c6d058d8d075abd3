"""The fifth verb: what the answers mean, one row for every tile of the grid.

A tile that nobody looked at says so in its status and leaves `is_changed` empty, and so does one that is too coarse
for the model to see what may have changed in it: not seen is never not changed. An answer that cannot be read is a row
as well, and its words are kept in `reason`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from model.home import ModelFit
from model.interface import ModelIdentity, Prompt
from pipeline.answers.meaning import GivenAnswers
from pipeline.answers.parts import AnswerParts
from pipeline.dates import parse_moment
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.decide import judge_tiles
from pipeline.grid.grid import Grid, name_tile
from pipeline.summary import StageSummary
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile, TileTable
from pipeline.tiles.tile_dates import TileDates

STAGE = "extract_findings"


def extract_findings(
    answers: AnswerParts,
    *,
    tiles: Sequence[Tile],
    store: TileStore,
    prompts: Sequence[Prompt],
    identity: ModelIdentity,
    run_id: str,
    before_datetime: str | None,
    after_datetime: str | None,
    fit: ModelFit | None = None,
    dates: TileDates | None = None,
) -> tuple[gpd.GeoDataFrame, StageSummary]:
    """Turn the answers into one row per tile of the grid.

    Args:
        answers: This run's answers.
        tiles: Every tile of the grid, as selected.
        store: The tile store, for its grid.
        prompts: The questions of the run.
        identity: Which weights answered.
        run_id: Identifier of the run, derived from content.
        before_datetime: ISO 8601 time of the before scene, UTC if it names no zone.
        after_datetime: Likewise of the after scene.
        fit: How the tiles lie beside what the model was made for, by their size; None where nobody tells.
        dates: Which dates each tile is made of, row-major over the grid; None where all have those of the scenes.

    Returns:
        The columns of `make_findings_schema`, in the order of `tiles`, with pandas' nullable types.

    Raises:
        InputError: a prompt has the name of another column, or an answer part is damaged.
    """
    start = time.perf_counter()
    schema = make_findings_schema(prompts, is_composed=dates is not None)
    table = TileTable.gather(tiles)
    given, bytes_read = gather_answers(answers.read_batches(), tiles=table, prompts=prompts)
    columns = judge_tiles(
        table, prompts=prompts, answers=given, failures=answers.failures, fit=fit, certainty=identity.certainty
    )
    del given
    constants = {
        "before_datetime": None if before_datetime is None else parse_moment(before_datetime),
        "after_datetime": None if after_datetime is None else parse_moment(after_datetime),
        "model_id": identity.model_id,
        "run_id": run_id,
    }
    for name, value in constants.items():
        columns[name] = pa.repeat(pa.scalar(value, schema.field(name).type), len(table))
    columns |= _describe_tiles(table) | (_describe_dates(table, dates=dates, grid=store.grid) if dates else {})
    geometry = outline_tiles(table, grid=store.grid)
    frame = make_frame(columns, schema=schema, geometry=geometry, crs=store.grid.crs)
    return frame, _summarise(columns["status"], seconds=time.perf_counter() - start, bytes_read=bytes_read)


def _describe_tiles(tiles: TileTable) -> dict[str, pa.Array]:
    """Give the columns that tell which tiles these are, and how much of each was seen."""
    names = [name_tile(row, col) for row, col in zip(tiles.rows.tolist(), tiles.cols.tolist(), strict=True)]
    return {
        "tile_id": pa.array(names, pa.string()),
        "row": pa.array(tiles.rows),
        "col": pa.array(tiles.cols),
        "valid_fraction": pa.array(tiles.valid_fractions),
        "cloud_fraction": pa.array(tiles.cloud_fractions, mask=np.isnan(tiles.cloud_fractions)),
    }


def _describe_dates(tiles: TileTable, *, dates: TileDates, grid: Grid) -> dict[str, pa.Array]:
    """Give the columns that tell when tiles of composites were acquired."""
    places = tiles.rows.astype(np.int64) * grid.n_cols + tiles.cols
    columns = {
        name: pa.array(moments[places]).cast(pa.timestamp("us", "UTC")) for name, moments in dates.columns.items()
    }
    return columns | {"n_scenes": pa.array(dates.n_scenes[places])}


def gather_answers(
    batches: Iterable[pa.Table], *, tiles: TileTable, prompts: Sequence[Prompt]
) -> tuple[dict[str, GivenAnswers], int]:
    """Line up answers with tiles.

    Args:
        batches: Tables with the columns of `ANSWERS_SCHEMA`; answers of other tiles and to other prompts are left out.
        tiles: The tiles.
        prompts: The questions.

    Returns:
        The answers by the name of the prompt, and the bytes that they took.
    """
    texts: dict[str, list[pa.ChunkedArray]] = {prompt.name: [] for prompt in prompts}
    indexes: dict[str, list[npt.NDArray[np.int32]]] = {prompt.name: [] for prompt in prompts}
    confidences = {prompt.name: np.zeros(len(tiles), dtype=np.float32) for prompt in prompts}
    familiarities = {prompt.name: np.full(len(tiles), np.nan, dtype=np.float32) for prompt in prompts}
    n_bytes = 0
    for batch in batches:
        n_bytes += batch.nbytes
        for prompt in prompts:
            rows = batch.filter(pc.field("prompt_name") == prompt.name)
            index = _locate_tiles(rows["tile_id"], tiles=tiles)
            is_known = index >= 0
            texts[prompt.name].append(rows["text"].filter(pa.array(is_known)))
            indexes[prompt.name].append(index[is_known])
            for values, column in ((confidences, "confidence"), (familiarities, "familiarity")):
                values[prompt.name][index[is_known]] = rows[column].to_numpy()[is_known]
    given = {}
    for name in list(texts):
        # One prompt's words at a time: all of them twice would be what takes most room.
        chunks = [chunk for part in texts.pop(name) for chunk in part.chunks]
        encoded = pa.chunked_array(chunks, pa.string()).dictionary_encode().combine_chunks()
        codes = np.full(len(tiles), -1, dtype=np.int32)
        codes[np.concatenate([np.empty(0, np.int32), *indexes[name]])] = encoded.indices.to_numpy()
        given[name] = GivenAnswers(
            texts=encoded.dictionary,
            codes=codes,
            confidences=confidences[name],
            familiarities=familiarities.pop(name),
        )
    return given, n_bytes


def _locate_tiles(tile_ids: pa.ChunkedArray, *, tiles: TileTable) -> npt.NDArray[np.int32]:
    parts = pc.extract_regex(tile_ids, pattern=r"^r(?P<row>\d{4,9})_c(?P<col>\d{4,9})$")
    rows, cols = (
        pc.struct_field(parts, name).cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64)
        for name in ("row", "col")
    )
    return tiles.locate(rows, cols)


def outline_tiles(tiles: TileTable, *, grid: Grid) -> npt.NDArray[np.object_]:
    """Give the footprints of tiles in the grid's CRS, each equal to what `Grid.tile_polygon` gives."""
    lefts, _, rights, _ = np.array([grid.tile_bounds(0, col) for col in range(grid.n_cols)]).T
    _, bottoms, _, tops = np.array([grid.tile_bounds(row, 0) for row in range(grid.n_rows)]).T
    outlines: npt.NDArray[np.object_] = shapely.box(
        lefts[tiles.cols], bottoms[tiles.rows], rights[tiles.cols], tops[tiles.rows]
    )
    return outlines


def _summarise(statuses: pa.StringArray, *, seconds: float, bytes_read: int) -> StageSummary:
    counts = {count["values"]: count["counts"] for count in statuses.value_counts().to_pylist()}
    n_analysed = counts.pop(TileStatus.ANALYSED.value, 0)
    n_failed = counts.get(TileStatus.FAILED.value, 0) + counts.get(TileStatus.UNREADABLE.value, 0)
    return StageSummary(
        stage=STAGE,
        done=n_analysed,
        skipped=len(statuses) - n_analysed - n_failed,
        failed=n_failed,
        total=len(statuses),
        seconds=seconds,
        bytes_read=bytes_read,
        reasons=dict(sorted(counts.items())),
    )

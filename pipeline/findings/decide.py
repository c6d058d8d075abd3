"""What tiles' answers add up to: pure decisions about many tiles at a time.

Answers repeat: of a million tiles most say the same few words. So each text is read once, and all that follows from
its meaning is worked out in columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.certainty import Certainty
from model.home import UNFAMILIAR, ModelFit
from model.interface import NOT_ASKED, Prompt
from pipeline.answers.meaning import COLUMNS_OF_KIND, UNKNOWN, GivenAnswers, Meanings, decide_change, read_texts
from pipeline.grid.grid import name_tile, parse_tile_id
from pipeline.grid.window import BoolArray
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus
from pipeline.tiles.table import TileTable, encode_status, name_statuses

BARE_YES = "a yes alone: nothing is counted and no place is named"
"""Why to doubt a tile that is called changed."""
CONTRADICTION = "answers disagree: not changed, but"
"""Begins the reason of tiles that the model calls unchanged, and yet tells a change of."""
WITHHELD = "the model sees no change, but was not made for ground as coarse: it may have changed"
"""Reason of tiles of which a no is not told."""


def judge_tiles(
    tiles: TileTable,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    failures: Mapping[str, str],
    fit: ModelFit | None = None,
    certainty: Certainty | None = None,
) -> dict[str, pa.Array]:
    """Decide what is known about tiles.

    A model that was not made for ground as coarse may not see what changed there: what it says changed is told, for
    people to look at, and what it says did not is not.

    Args:
        tiles: The tiles as they were selected.
        prompts: The questions of the run.
        answers: The tiles' answers by the name of the prompt.
        failures: Why the model failed, by the id of each tile that it failed on.
        fit: How the tiles lie beside what the model was made for, by their size; None where nobody tells.
        certainty: How far the model's findings can be relied on; None where nobody has measured it.

    Returns:
        Columns of ``tiles.parquet``: status, reason, and what the answers tell, null where nobody looked or the answer
        could not be read. A prompt of kind `ask` has a column of its name.
    """
    is_asked = tiles.status_codes == encode_status(None)
    familiarities = _gather_familiarities(answers, n_tiles=len(tiles))
    reasons = tiles.reasons.copy()
    is_failed = _find_failed(tiles, prompts=prompts, answers=answers, failures=failures, reasons=reasons) & is_asked
    is_judged = is_asked & ~is_failed
    told = {
        prompt.name: read_texts(prompt, texts=answers[prompt.name].texts).take(
            np.where(is_judged, answers[prompt.name].codes, np.int32(UNKNOWN))
        )
        for prompt in prompts
    }
    columns: dict[str, pa.Array] = {}
    for kind in COLUMNS_OF_KIND.values():
        columns |= {name: pa.nulls(len(tiles), data_type) for name, data_type in kind.items()}
    for meanings in told.values():
        columns |= meanings.columns
    is_unreadable = _find_unreadable(is_judged, prompts=prompts, answers=answers, told=told, reasons=reasons)
    verdicts, confidences = decide_change(prompts, answers=answers, told=told, n_tiles=len(tiles))
    _note_not_asked(reasons, prompts=prompts, answers=answers, is_judged=is_judged, confidences=confidences)
    is_clear = is_judged & ~is_unreadable
    _note_contradictions(reasons, columns=columns, is_denied=is_clear & (verdicts == 0))
    is_bare = find_bare(columns, is_affirmed=is_clear & (verdicts == 1))
    reasons[is_bare] = BARE_YES
    # What was measured holds for tiles of the size that the model was made for.
    measured = certainty if fit in {None, ModelFit.INSIDE} else None
    if certainty is not None and certainty.bare_yes is not None:
        confidences[is_bare] = np.nan if measured is None else certainty.bare_yes.probability
    columns |= _bound_counts(columns, is_affirmed=verdicts == 1, certainty=measured)
    codes = tiles.status_codes.copy()
    verdicts[codes == encode_status(TileStatus.IDENTICAL)] = 0
    if fit is ModelFit.COARSE:
        reasons[is_judged & ~is_unreadable & (verdicts == 0)] = WITHHELD
        columns = _withhold(columns, is_told=verdicts == 1)
        confidences[verdicts == 0] = np.nan
        verdicts[verdicts == 0] = UNKNOWN
    for mask, status in (
        (is_judged, TileStatus.ANALYSED),
        (is_unreadable, TileStatus.UNREADABLE),
        (is_failed, TileStatus.FAILED),
    ):
        codes[mask] = encode_status(status)
    return columns | {
        "status": name_statuses(codes),
        "model_fit": _name_fits(fit, familiarities=familiarities),
        "familiarity": pa.array(familiarities, mask=np.isnan(familiarities)),
        "reason": pa.array(reasons, pa.string(), mask=reasons == ""),
        "is_changed": pa.array(verdicts == 1, mask=verdicts == UNKNOWN),
        "change_confidence": pa.array(confidences, mask=np.isnan(confidences)),
    }


def _gather_familiarities(answers: Mapping[str, GivenAnswers], *, n_tiles: int) -> npt.NDArray[np.float32]:
    """Give what any answer about each tile came with; NaN where none tells."""
    told = np.full(n_tiles, np.nan, dtype=np.float32)
    for given in answers.values():
        if given.familiarities is not None:
            told = np.fmax(told, given.familiarities)
    return told


def _name_fits(fit: ModelFit | None, *, familiarities: npt.NDArray[np.float32]) -> pa.Array:
    """Give the fit of each tile: by its size, and of those of the right size by what it looks like."""
    if fit is not ModelFit.INSIDE:
        return pa.repeat(pa.scalar(None if fit is None else fit.value, pa.string()), len(familiarities))
    return pc.if_else(pa.array(familiarities < UNFAMILIAR), ModelFit.UNLIKE.value, fit.value)


def _withhold(columns: Mapping[str, pa.Array], *, is_told: BoolArray) -> dict[str, pa.Array]:
    """Take from columns what the model says of tiles in which it sees no change, and every nothing that it tells."""
    kept = {}
    for name, column in columns.items():
        nothing = {pa.int32(): 0, pa.string(): ""}[column.type]
        is_something = pc.not_equal(column, nothing).fill_null(False)
        kept[name] = pc.if_else(pc.and_(pa.array(is_told), is_something), column, pa.scalar(None, column.type))
    return kept


def _find_failed(
    tiles: TileTable,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    failures: Mapping[str, str],
    reasons: npt.NDArray[np.object_],
) -> BoolArray:
    """Tell which tiles the model failed on or left without an answer, and put down why for those that were asked."""
    lacks = np.array([answers[prompt.name].codes < 0 for prompt in prompts]).reshape(len(prompts), len(tiles))
    is_failed = np.asarray(lacks.any(axis=0))
    rows, cols = np.array([parse_tile_id(tile_id) for tile_id in failures], dtype=np.int64).reshape(-1, 2).T
    indexes = tiles.locate(rows, cols)
    is_failed[indexes[indexes >= 0]] = True
    for index in np.flatnonzero(is_failed & (tiles.status_codes == encode_status(None))).tolist():
        missing = [prompt.name for prompt, is_lacking in zip(prompts, lacks[:, index], strict=True) if is_lacking]
        failure = failures.get(name_tile(int(tiles.rows[index]), int(tiles.cols[index])))
        reasons[index] = failure or f"no answer to {', '.join(missing)}; run again"
    return is_failed


def _find_unreadable(
    is_judged: BoolArray,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    told: Mapping[str, Meanings],
    reasons: npt.NDArray[np.object_],
) -> BoolArray:
    """Tell which tiles have an answer without a meaning, and put down its words."""
    is_unreadable = np.zeros_like(is_judged)
    for prompt in prompts:
        is_doubtful = is_judged & ~told[prompt.name].is_readable
        given = answers[prompt.name]
        for index in np.flatnonzero(is_doubtful).tolist():
            text = given.texts[given.codes[index]].as_py()
            words = f"{prompt.name}: {text if text.strip() else '(no words)'}"
            reasons[index] = f"{reasons[index]}; {words}" if reasons[index] else words
        is_unreadable |= is_doubtful
    return is_unreadable


def _note_not_asked(
    reasons: npt.NDArray[np.object_],
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    is_judged: BoolArray,
    confidences: npt.NDArray[np.float32],
) -> None:
    """Put down of which tiles screening has spared the model further questions, and how sure it was."""
    is_spared = np.zeros_like(is_judged)
    for prompt in prompts:
        given = answers[prompt.name]
        is_spared |= np.append(pc.equal(given.texts, NOT_ASKED.text).to_numpy(zero_copy_only=False), False)[given.codes]
    for index in np.flatnonzero(is_judged & is_spared).tolist():
        # Down, so that no number is told that the threshold would not have let by.
        words = f"not asked on: unchanged, {np.floor(float(confidences[index]) * 100) / 100:.2f}"
        reasons[index] = f"{reasons[index]}; {words}" if reasons[index] else words


def _note_contradictions(
    reasons: npt.NDArray[np.object_], *, columns: Mapping[str, pa.Array], is_denied: BoolArray
) -> None:
    """Note where the model denies a change and yet counts or places one."""
    told = {
        "counts": _is_told(columns, names=("building_count", "road_count"), nothing=0),
        "cells": _is_told(columns, names=("building_cells", "road_cells"), nothing=""),
    }
    for has_counts, has_cells, named in (
        (True, False, "counts"),
        (False, True, "cells"),
        (True, True, "counts and cells"),
    ):
        is_such = is_denied & (told["counts"] == has_counts) & (told["cells"] == has_cells)
        reasons[is_such] = f"{CONTRADICTION} {named} given"


def find_bare(columns: Mapping[str, pa.Array], *, is_affirmed: BoolArray) -> BoolArray:
    """Tell which tiles are called changed while all that they were asked for besides, counts or cells, is none."""
    is_asked, has_any = np.zeros_like(is_affirmed), np.zeros_like(is_affirmed)
    for what, nothing in (("count", 0), ("cells", "")):
        names = ("building_" + what, "road_" + what)
        for name in names:
            is_asked |= columns[name].is_valid().to_numpy(zero_copy_only=False)
        has_any |= _is_told(columns, names=names, nothing=nothing)
    return is_affirmed & is_asked & ~has_any


def _bound_counts(
    columns: Mapping[str, pa.Array], *, is_affirmed: BoolArray, certainty: Certainty | None
) -> dict[str, pa.Array]:
    """Give the intervals of counts where they were measured: in tiles that are called changed."""
    bounds: dict[str, pa.Array] = {}
    for kind in CHANGE_KINDS:
        fit = None if certainty is None else certainty.find_counts(kind)
        counts = columns[f"{kind}_count"]
        is_bound = is_affirmed & counts.is_valid().to_numpy(zero_copy_only=False) & (fit is not None)
        told = counts.fill_null(0).to_numpy()
        ends = (told, told) if fit is None else fit.bound(told)
        for name, values in zip(("low", "high"), ends, strict=True):
            bounds[f"{kind}_count_{name}"] = pa.array(values, pa.int32(), mask=~is_bound)
    return bounds


def _is_told(columns: Mapping[str, pa.Array], *, names: Sequence[str], nothing: int | str) -> BoolArray:
    """Tell where one of two columns has a value that is more than nothing."""
    first, second = (columns[name].fill_null(nothing).to_numpy(zero_copy_only=False) != nothing for name in names)
    return np.asarray(first | second, dtype=np.bool_)

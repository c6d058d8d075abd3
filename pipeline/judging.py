"""What tiles' answers add up to: pure decisions about many tiles at a time.

Answers repeat: of a million tiles most say the same few words. So each text is read once, and all that follows from
its meaning is worked out in columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.interface import Prompt, PromptKind
from model.parsing import ParsedAnswer, ParsedClassify, ParsedCount, ParsedLocate, ParsedText, parse_answer
from pipeline.grid import name_tile, parse_tile_id
from pipeline.tile_table import TileStatus, TileTable, encode_status, name_statuses

_BoolArray = npt.NDArray[np.bool_]
_Verdicts = npt.NDArray[np.int8]
"""1: changed; 0: not changed; -1: says nothing, or not enough to rule change out."""

_UNKNOWN = -1
_TEXTS_AT_ONCE = 65_536

_COLUMNS_OF_KIND: Mapping[PromptKind, Mapping[str, pa.DataType]] = {
    PromptKind.COUNT: {"building_count": pa.int32(), "road_count": pa.int32()},
    PromptKind.LOCATE: {"building_cells": pa.string(), "road_cells": pa.string()},
    PromptKind.DESCRIBE: {"description": pa.string()},
    PromptKind.CLASSIFY: {},
}
"""Columns that the answers to a kind of prompt fill; all other kinds fill one with the prompt's name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenAnswers:
    """The answers of many tiles to one prompt."""

    texts: pa.StringArray
    """Every text that occurs, once."""
    codes: npt.NDArray[np.int32]
    """Per tile the index of its text; -1 where it has no answer."""
    confidences: npt.NDArray[np.float32]
    """Per tile the confidence, between 0 and 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Meanings:
    """What texts, or the tiles that gave them, say in answer to one prompt."""

    is_readable: _BoolArray
    """Whether the text has a meaning that is beyond doubt."""
    verdicts: _Verdicts
    """What it says about change: 1, 0, or -1 for neither."""
    columns: Mapping[str, pa.Array]
    """Values of the columns that the prompt fills; null where the text does not tell."""

    def take(self, codes: npt.NDArray[np.int32]) -> Meanings:
        """Give the meanings of tiles by the index of each one's text; -1 for a tile without one."""
        indices = pa.array(codes, mask=codes < 0)
        return Meanings(
            is_readable=np.append(self.is_readable, False)[codes],
            verdicts=np.append(self.verdicts, np.int8(_UNKNOWN))[codes],
            columns={name: column.take(indices) for name, column in self.columns.items()},
        )


def judge_tiles(
    tiles: TileTable,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    failures: Mapping[str, str],
) -> dict[str, pa.Array]:
    """Decide what is known about tiles.

    Args:
        tiles: The tiles as they were selected.
        prompts: The questions of the run.
        answers: The tiles' answers by the name of the prompt.
        failures: Why the model failed, by the id of each tile that it failed on.

    Returns:
        Columns of ``tiles.parquet``: status, reason, and what the answers tell, null where nobody looked or the answer
        could not be read. A prompt of kind `ask` has a column of its name.
    """
    is_asked = tiles.status_codes == encode_status(None)
    reasons = tiles.reasons.copy()
    is_failed = _find_failed(tiles, prompts=prompts, answers=answers, failures=failures, reasons=reasons) & is_asked
    is_judged = is_asked & ~is_failed
    told = {
        prompt.name: read_texts(prompt, texts=answers[prompt.name].texts).take(
            np.where(is_judged, answers[prompt.name].codes, np.int32(_UNKNOWN))
        )
        for prompt in prompts
    }
    columns: dict[str, pa.Array] = {}
    for kind in _COLUMNS_OF_KIND.values():
        columns |= {name: pa.nulls(len(tiles), data_type) for name, data_type in kind.items()}
    for meanings in told.values():
        columns |= meanings.columns
    is_unreadable = _find_unreadable(is_judged, prompts=prompts, answers=answers, told=told, reasons=reasons)
    verdicts, confidences = decide_change(prompts, answers=answers, told=told, n_tiles=len(tiles))
    _note_contradictions(reasons, columns=columns, is_denied=is_judged & ~is_unreadable & (verdicts == 0))
    codes = tiles.status_codes.copy()
    verdicts[codes == encode_status(TileStatus.IDENTICAL)] = 0
    for mask, status in (
        (is_judged, TileStatus.ANALYSED),
        (is_unreadable, TileStatus.UNREADABLE),
        (is_failed, TileStatus.FAILED),
    ):
        codes[mask] = encode_status(status)
    return columns | {
        "status": name_statuses(codes),
        "reason": pa.array(reasons, pa.string(), mask=reasons == ""),
        "is_changed": pa.array(verdicts == 1, mask=verdicts == _UNKNOWN),
        "change_confidence": pa.array(confidences, mask=np.isnan(confidences)),
    }


def read_texts(prompt: Prompt, *, texts: pa.StringArray) -> Meanings:
    """Read each of some different texts.

    Args:
        prompt: What they answer.
        texts: The model's words.
    """
    fields = _COLUMNS_OF_KIND.get(prompt.kind, {prompt.name: pa.string()})
    parts = []
    for start in range(0, max(1, len(texts)), _TEXTS_AT_ONCE):
        parsed = [parse_answer(prompt.kind, text) for text in texts[start : start + _TEXTS_AT_ONCE].to_pylist()]
        rows = [_list_values(value) for value in parsed]
        parts.append(
            Meanings(
                is_readable=np.array([value is not None for value in parsed], dtype=np.bool_),
                verdicts=np.array([_tell_change(value) for value in parsed], dtype=np.int8),
                columns={
                    name: pa.array([row[index] if row else None for row in rows], data_type)
                    for index, (name, data_type) in enumerate(fields.items())
                },
            )
        )
    return Meanings(
        is_readable=np.concatenate([part.is_readable for part in parts]),
        verdicts=np.concatenate([part.verdicts for part in parts]),
        columns={name: pa.concat_arrays([part.columns[name] for part in parts]) for name in fields},
    )


def _list_values(value: ParsedAnswer | None) -> tuple[Any, ...]:
    """List what an answer tells, in the order of its kind's columns."""
    match value:
        case ParsedCount():
            return value.building_count, value.road_count
        case ParsedLocate():
            return _join_cells(value.building_cells), _join_cells(value.road_cells)
        case ParsedText():
            return (value.text,)
        case _:
            return ()


def _join_cells(cells: tuple[str, ...] | None) -> str | None:
    return None if cells is None else ";".join(cells)


def _tell_change(value: ParsedAnswer | None) -> int:
    """Tell what one answer says about change: 1, 0, or -1 if it says nothing, or not enough to rule change out."""
    match value:
        case ParsedClassify():
            return int(value.is_changed)
        case ParsedCount():
            return _tell_any((value.building_count, value.road_count))
        case ParsedLocate():
            return _tell_any((value.building_cells, value.road_cells))
        case _:
            return _UNKNOWN


def _tell_any(amounts: tuple[object, object]) -> int:
    if any(amounts):
        return 1
    return _UNKNOWN if None in amounts else 0


def _find_failed(
    tiles: TileTable,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    failures: Mapping[str, str],
    reasons: npt.NDArray[np.object_],
) -> _BoolArray:
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
    is_judged: _BoolArray,
    *,
    prompts: Sequence[Prompt],
    answers: Mapping[str, GivenAnswers],
    told: Mapping[str, Meanings],
    reasons: npt.NDArray[np.object_],
) -> _BoolArray:
    """Tell which tiles have an answer without a meaning, and put down its words."""
    is_unreadable = np.zeros_like(is_judged)
    for prompt in prompts:
        is_doubtful = is_judged & ~told[prompt.name].is_readable
        given = answers[prompt.name]
        for index in np.flatnonzero(is_doubtful).tolist():
            words = f"{prompt.name}: {given.texts[given.codes[index]].as_py()}"
            reasons[index] = f"{reasons[index]}; {words}" if reasons[index] else words
        is_unreadable |= is_doubtful
    return is_unreadable


def decide_change(
    prompts: Sequence[Prompt],
    *,
    answers: Mapping[str, GivenAnswers],
    told: Mapping[str, Meanings],
    n_tiles: int,
) -> tuple[_Verdicts, npt.NDArray[np.float32]]:
    """Choose the answer that decides: `classify` if it was asked, else a yes of another before a no.

    Returns:
        The verdicts, and the confidence of the answer that each comes from, NaN where there is none.
    """
    names = {prompt.kind: prompt.name for prompt in prompts}
    kinds = (PromptKind.CLASSIFY,) if PromptKind.CLASSIFY in names else (PromptKind.COUNT, PromptKind.LOCATE)
    witnesses = [names[kind] for kind in kinds if kind in names]
    verdicts = np.full(n_tiles, _UNKNOWN, dtype=np.int8)
    confidences = np.full(n_tiles, np.nan, dtype=np.float32)
    for verdict in (1, 0):
        for name in witnesses:
            is_decided = (verdicts == _UNKNOWN) & (told[name].verdicts == verdict)
            verdicts[is_decided] = verdict
            confidences[is_decided] = answers[name].confidences[is_decided]
    return verdicts, confidences


def _note_contradictions(
    reasons: npt.NDArray[np.object_], *, columns: Mapping[str, pa.Array], is_denied: _BoolArray
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
        reasons[is_such] = f"answers disagree: not changed, but {named} given"


def _is_told(columns: Mapping[str, pa.Array], *, names: Sequence[str], nothing: int | str) -> _BoolArray:
    """Tell where one of two columns has a value that is more than nothing."""
    first, second = (columns[name].fill_null(nothing).to_numpy(zero_copy_only=False) != nothing for name in names)
    return np.asarray(first | second, dtype=np.bool_)

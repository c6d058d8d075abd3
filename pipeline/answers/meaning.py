"""What the answers about a tile mean, and of which kinds of change they leave an outline open.

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
import pyarrow.compute as pc

from model.interface import NOT_ASKED, Prompt, PromptKind
from model.parsing import ParsedAnswer, ParsedClassify, ParsedCount, ParsedLocate, ParsedText, parse_answer
from pipeline.grid.window import BoolArray


def list_witnesses(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Give the prompts whose answers tell whether something changed, or what."""
    kinds = {PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE}
    return tuple(prompt for prompt in prompts if prompt.kind in kinds)


def find_claims(
    prompts: Sequence[Prompt], *, texts: Mapping[str, Sequence[str]], kinds: Sequence[str], n_tiles: int
) -> BoolArray:
    """Tell which kinds of change the answers about some tiles leave open, as `may_have_changed` says.

    Args:
        prompts: What `list_witnesses` gave.
        texts: The tiles' answers by the name of the prompt.
        kinds: Kinds of change, such as building.
        n_tiles: How many tiles there are.

    Returns:
        Flags of shape (tile, kind).
    """
    answers = {}
    for prompt in prompts:
        encoded = pa.array(texts[prompt.name], pa.string()).dictionary_encode()
        answers[prompt.name] = GivenAnswers(
            texts=encoded.dictionary,
            codes=encoded.indices.to_numpy(),
            confidences=np.zeros(n_tiles, dtype=np.float32),
        )
    told = {
        name: read_texts(prompt, texts=given.texts).take(given.codes)
        for prompt, (name, given) in zip(prompts, answers.items(), strict=True)
    }
    verdicts, _ = decide_change(prompts, answers=answers, told=told, n_tiles=n_tiles)
    columns: dict[str, pa.Array] = {}
    for meanings in told.values():
        columns |= meanings.columns
    missing = pa.nulls(n_tiles)
    claims = [
        may_have_changed(
            is_denied=verdicts == 0,
            cells=columns.get(f"{kind}_cells", missing.cast(pa.string())),
            counts=columns.get(f"{kind}_count", missing.cast(pa.int32())),
        )
        for kind in kinds
    ]
    return np.stack(claims, axis=1) if claims else np.zeros((n_tiles, 0), dtype=np.bool_)


def may_have_changed(*, is_denied: BoolArray, cells: pa.Array, counts: pa.Array) -> BoolArray:
    """Tell where the answers leave open that something of a kind changed.

    They do not where they deny any change, name no cell of that kind, or, asked for no cells, count none.

    Args:
        is_denied: Whether a tile is called unchanged.
        cells: The cells of the kind, as ``building_cells``; null where not told.
        counts: The count of the kind; null where not told.
    """
    has_none = pc.if_else(cells.is_null(), pc.equal(counts, 0), pc.equal(cells, "")).fill_null(False)
    return np.asarray(~is_denied & ~has_none.to_numpy(zero_copy_only=False), dtype=np.bool_)


_Verdicts = npt.NDArray[np.int8]
"""1: changed; 0: not changed; -1: says nothing, or not enough to rule change out."""

UNKNOWN = -1
_NO_WORDS = ParsedText(text="")
_WHERE_NOT_ASKED: Mapping[PromptKind, ParsedAnswer] = {
    PromptKind.COUNT: ParsedCount(building_count=0, road_count=0),
    PromptKind.LOCATE: ParsedLocate(building_cells=(), road_cells=()),
}
"""What the rest of the answers of a tile means that was called unchanged and asked no more."""
_TEXTS_AT_ONCE = 65_536

COLUMNS_OF_KIND: Mapping[PromptKind, Mapping[str, pa.DataType]] = {
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
    familiarities: npt.NDArray[np.float32] | None = None
    """Per tile what `Answer.familiarity` tells, NaN where nothing; None: not read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Meanings:
    """What texts, or the tiles that gave them, say in answer to one prompt."""

    is_readable: BoolArray
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
            verdicts=np.append(self.verdicts, np.int8(UNKNOWN))[codes],
            columns={name: column.take(indices) for name, column in self.columns.items()},
        )


def read_texts(prompt: Prompt, *, texts: pa.StringArray) -> Meanings:
    """Read each of some different texts.

    Args:
        prompt: What they answer.
        texts: The model's words.
    """
    fields = COLUMNS_OF_KIND.get(prompt.kind, {prompt.name: pa.string()})
    parts = []
    for start in range(0, max(1, len(texts)), _TEXTS_AT_ONCE):
        words = texts[start : start + _TEXTS_AT_ONCE].to_pylist()
        parsed = [
            _WHERE_NOT_ASKED.get(prompt.kind, _NO_WORDS) if text == NOT_ASKED.text else parse_answer(prompt.kind, text)
            for text in words
        ]
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
            return (value.text or None,)
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
            return UNKNOWN


def _tell_any(amounts: tuple[object, object]) -> int:
    if any(amounts):
        return 1
    return UNKNOWN if None in amounts else 0


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
    verdicts = np.full(n_tiles, UNKNOWN, dtype=np.int8)
    confidences = np.full(n_tiles, np.nan, dtype=np.float32)
    for verdict in (1, 0):
        for name in witnesses:
            is_decided = (verdicts == UNKNOWN) & (told[name].verdicts == verdict)
            verdicts[is_decided] = verdict
            confidences[is_decided] = answers[name].confidences[is_decided]
    return verdicts, confidences

"""What a tile's answers add up to: pure decisions about one tile at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model.interface import Prompt, PromptKind
from model.parsing import ParsedAnswer, ParsedClassify, ParsedCount, ParsedLocate, ParsedText, parse_answer
from pipeline.tiles import Tile, TileStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenAnswer:
    """One answer as it is read back from its part."""

    text: str
    """The model's words."""
    confidence: float
    """Between 0 and 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What is known about one tile; the fields are columns of `FINDINGS_SCHEMA`."""

    status: TileStatus
    """Whether the tile was looked at, and how that went."""
    reason: str | None = None
    """Why the status is not `analysed`, or what to know about the row."""
    is_changed: bool | None = None
    """None where nobody looked or the answer could not be read."""
    change_confidence: float | None = None
    """Confidence of the answer that `is_changed` comes from."""
    description: str | None = None
    """The model's description."""
    building_count: int | None = None
    """Changed buildings."""
    road_count: int | None = None
    """Changed roads."""
    building_cells: str | None = None
    """Cells with changed buildings, joined by semicolons."""
    road_cells: str | None = None
    """Cells with changed roads, joined by semicolons."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Answers to prompts of kind `ask`, by the prompt's name."""


def judge_tile(
    tile: Tile, *, prompts: Sequence[Prompt], answers: Mapping[str, GivenAnswer], failure: str | None
) -> Finding:
    """Decide what is known about a tile.

    Args:
        tile: The tile as it was selected.
        prompts: The questions of the run.
        answers: The tile's answers by the name of the prompt.
        failure: Why the model failed on the tile, if it did.
    """
    if tile.status is not None:
        is_changed = False if tile.status is TileStatus.IDENTICAL else None
        return Finding(status=tile.status, reason=tile.reason or None, is_changed=is_changed)
    missing = [prompt.name for prompt in prompts if prompt.name not in answers]
    if failure is not None or missing:
        return Finding(status=TileStatus.FAILED, reason=failure or f"no answer to {', '.join(missing)}; run again")
    parsed = {p.name: parse_answer(p.kind, answers[p.name].text) for p in prompts}
    unreadable = [f"{name}: {answers[name].text}" for name, value in parsed.items() if value is None]
    finding = _combine(prompts, parsed=parsed, answers=answers)
    if unreadable:
        return replace(finding, status=TileStatus.UNREADABLE, reason="; ".join(unreadable))
    return replace(finding, reason=_find_contradiction(finding))


def _combine(
    prompts: Sequence[Prompt],
    *,
    parsed: Mapping[str, ParsedAnswer | None],
    answers: Mapping[str, GivenAnswer],
) -> Finding:
    """Put what the prompts brought into one finding, as if every answer could be read."""
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    evidence: dict[PromptKind, tuple[bool | None, float]] = {}
    for prompt in prompts:
        value, confidence = parsed[prompt.name], answers[prompt.name].confidence
        evidence[prompt.kind] = (_tell_change(value), confidence)
        match value:
            case ParsedCount():
                values |= {"building_count": value.building_count, "road_count": value.road_count}
            case ParsedLocate():
                values |= {
                    "building_cells": _join_cells(value.building_cells),
                    "road_cells": _join_cells(value.road_cells),
                }
            case ParsedText() if prompt.kind is PromptKind.DESCRIBE:
                values["description"] = value.text
            case ParsedText():
                texts[prompt.name] = value.text
    is_changed, change_confidence = _decide_change(evidence)
    return Finding(
        status=TileStatus.ANALYSED,
        is_changed=is_changed,
        change_confidence=change_confidence,
        texts=texts,
        **values,
    )


def _join_cells(cells: tuple[str, ...] | None) -> str | None:
    return None if cells is None else ";".join(cells)


def _tell_change(value: ParsedAnswer | None) -> bool | None:
    """Tell what one answer says about change; None if it says nothing, or not enough to rule change out."""
    match value:
        case ParsedClassify():
            return value.is_changed
        case ParsedCount():
            return _tell_any((value.building_count, value.road_count))
        case ParsedLocate():
            return _tell_any((value.building_cells, value.road_cells))
        case _:
            return None


def _tell_any(amounts: tuple[object, object]) -> bool | None:
    if any(amounts):
        return True
    return None if None in amounts else False


def _decide_change(
    evidence: Mapping[PromptKind, tuple[bool | None, float]],
) -> tuple[bool | None, float | None]:
    """Choose the answer that decides: `classify` if it was asked, else a yes of another before a no."""
    if PromptKind.CLASSIFY in evidence:
        witnesses = [evidence[PromptKind.CLASSIFY]]
    else:
        witnesses = [evidence[kind] for kind in (PromptKind.COUNT, PromptKind.LOCATE) if kind in evidence]
    for verdict in (True, False):
        for is_changed, confidence in witnesses:
            if is_changed is verdict:
                return is_changed, confidence
    return None, None


def _find_contradiction(finding: Finding) -> str | None:
    """Note where the model denies a change and yet counts or places one."""
    told = {
        "counts": bool(finding.building_count or finding.road_count),
        "cells": bool(finding.building_cells or finding.road_cells),
    }
    named = [name for name, is_told in told.items() if is_told]
    return (
        f"answers disagree: not changed, but {' and '.join(named)} given"
        if finding.is_changed is False and named
        else None
    )

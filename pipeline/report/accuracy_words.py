"""What ``accuracy.json`` tells, in words: for the page, the terminal, Word and the STAC item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.words import KIND_LABELS, format_area, format_number

_NOT_KNOWN = "not known"
N_FIGURES = 4
"""Rows that speak of tiles whatever changed there, the first."""
HEADINGS = ("", "told", "estimated", "95 % interval")
"""What stands over the columns of `AccuracyWords.rows`."""


@dataclass(frozen=True, kw_only=True)
class AccuracyWords:
    """An assessment for people to read."""

    sentences: tuple[str, ...]
    """How it came about."""
    rows: tuple[tuple[str, str, str, str], ...]
    """What is estimated, what the report tells of it, the estimate, and its interval."""
    zones: tuple[tuple[str, str, str, str], ...]
    """Likewise the ground in tiles that changed, zone by zone."""
    problems: tuple[str, ...]
    """Why there are no figures; empty: there are."""
    notes: tuple[str, ...]
    """What there is to know."""


def describe_accuracy(accuracy: Mapping[str, Any]) -> AccuracyWords:
    """Put an assessment into words.

    Args:
        accuracy: The content of ``accuracy.json`` of a run.
    """
    tiles = accuracy.get("tiles")
    return AccuracyWords(
        sentences=tuple(_describe_sample(accuracy)) if accuracy.get("sample") else (),
        rows=tuple(_list_rows(accuracy)) if tiles else (),
        zones=tuple(_write_zone(zone) for zone in accuracy.get("zones", ())),
        problems=tuple(accuracy["problems"]),
        notes=tuple(accuracy["notes"]),
    )


def _describe_sample(accuracy: Mapping[str, Any]) -> Iterator[str]:
    sample, people, population = accuracy["sample"], accuracy["people"], accuracy["population"]
    settled = people["settled"]
    who = "1 person" if people["n_people"] == 1 else f"{people['n_people']:,} people"
    yield (
        f"{who} looked at {sample['n_reviewed']:,} of {sample['n_tiles']:,} tiles that were drawn at random from "
        f"{population['n_tiles']:,}, without the model's answer; {sample['n_used']:,} of them tell something."
    )
    if people["agreement"]:
        best = people["agreement"][0]
        kappa = "not defined, as both said the same throughout" if best["kappa"] is None else f"{best['kappa']:.2f}"
        yield (
            f"Two people agreed on {best['n_agreed']:,} of {best['n_both']:,} tiles (Cohen's kappa {kappa}). Of "
            f"{settled['majority'] + settled['referee'] + settled['open']:,} tiles in dispute {settled['majority']:,} "
            f"went by the majority, {settled['referee']:,} by a referee, and {settled['open']:,} are open."
        )


def _list_rows(accuracy: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    tiles = accuracy["tiles"]
    yield _write_row("Tiles called rightly (overall accuracy)", tiles["overall_accuracy"], write=write_part)
    yield _write_row("Of tiles called changed, those that were (user's)", tiles["users_accuracy"]["changed"])
    yield _write_row("Of tiles that changed, those called so (producer's)", tiles["producers_accuracy"]["changed"])
    told = format_area(tiles["told_ground_m2"]["changed"])
    yield _write_row("Ground of tiles that changed", tiles["ground_m2"]["changed"], told=told, write=format_area)
    for kind, found in accuracy["kinds"].items():
        _, many = KIND_LABELS[kind]
        of_kind = found["tiles"] or {"users_accuracy": {}, "producers_accuracy": {}}
        yield _write_row(f"Of tiles with {many}, those that had (user's)", of_kind["users_accuracy"].get(kind))
        yield _write_row(
            f"Of tiles that had {many}, those called so (producer's)", of_kind["producers_accuracy"].get(kind)
        )
        count, area = found["count"], found["area_m2"]
        yield _write_row(f"Changed {many}", count["estimated"], told=format_number(count["told"]), write=format_number)
        yield _write_row(f"Changed {many}, to each one told", count["ratio"], write=_write_ratio)
        yield _write_row(
            f"Area of changed {many}", area["estimated"], told=format_area(area["told"]), write=format_area
        )
        yield _write_row(f"Area of changed {many}, to each m² told", area["ratio"], write=_write_ratio)


def write_part(value: float) -> str:
    """Write a part of a whole to a tenth of a percent: an interval needs it."""
    return f"{100 * value:.1f} %"


def _write_ratio(value: float) -> str:
    return f"{value:.2f}"


def _write_row(
    label: str, estimate: Mapping[str, float] | None, *, told: str = "", write: Any = write_part
) -> tuple[str, str, str, str]:
    if estimate is None:
        return label, told, _NOT_KNOWN, ""
    if estimate["standard_error"] == 0:
        # No interval, and no certainty either, unless all tiles were looked at: the notes say which.
        return label, told, write(estimate["value"]), "no spread seen"
    return label, told, write(estimate["value"]), f"{write(estimate['low'])} to {write(estimate['high'])}"


def _write_zone(zone: Mapping[str, Any]) -> tuple[str, str, str, str]:
    row = _write_row(
        zone["name"] or zone["zone_id"],
        zone["changed_ground_m2"],
        told=format_area(zone["told_ground_m2"]),
        write=format_area,
    )
    return row if zone["problem"] is None else (*row[:3], zone["problem"])


def summarise_accuracy(accuracy: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the few figures of an assessment that a catalogue has room for; None where there are none."""
    tiles = accuracy.get("tiles")
    if not tiles:
        return None
    return {
        "n_used": accuracy["sample"]["n_used"],
        "overall_accuracy": tiles["overall_accuracy"],
        "users_accuracy_changed": tiles["users_accuracy"]["changed"],
        "producers_accuracy_changed": tiles["producers_accuracy"]["changed"],
        "changed_ground_m2": tiles["ground_m2"]["changed"],
    }

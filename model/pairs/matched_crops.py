"""The crops that LEVIR-CC's captions speak of, found again in panels of LEVIR-CD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.errors import InputError
from model.pairs.crop_captions import CaptionedCrop, read_crop_captions
from model.pairs.folders import LabelledPair, scan_pair_folder


@dataclass(frozen=True, kw_only=True)
class MatchLimits:
    """Which of the crops that were found again are taken."""

    min_margin: float
    """How much better than the next best a panel's match must be."""
    min_share: float
    """Part of the crop that the panel must show."""
    is_changed: bool | None = None
    """Only crops that people flagged so; all of them where this is None."""


def read_matched_crops(folder: Path, *, matches: Path, captions: Path, limits: MatchLimits) -> tuple[LabelledPair, ...]:
    """Cut the crops that people wrote about out of panels, with their captions.

    Args:
        folder: Holds the panels, as `scan_pair_folder` reads them.
        matches: JSON list of panels with the boxes of their crops.
        captions: LEVIR-CC's captions.
        limits: Which of them to take.

    Returns:
        Square pairs: a crop of which an edge is missing is stretched a little.

    Raises:
        InputError: no crop is left.
    """
    written = {crop.name: crop for crop in read_crop_captions(captions, split="train")}
    panels = {pair.name: pair for pair in scan_pair_folder(folder, pattern="*_train_*").pairs}
    found: list[LabelledPair] = []
    for match in json.loads(matches.read_text(encoding="utf-8")):
        panel = panels.get(Path(match["panel"]).stem)
        if panel is not None and match["margin"] >= limits.min_margin:
            upright = _flip(panel, rows=match["flip_rows_first"], columns=match["flip_columns_first"])
            found += _cut_crops(upright, match["crops"], written=written, limits=limits)
    if not found:
        raise InputError(
            f"no crop of {matches} with a margin of {limits.min_margin} and a share of {limits.min_share} in {folder}",
            expected="panels of these names, and captions of their crops",
            remedy="lower min_margin or min_share, or correct the paths",
        )
    return tuple(found)


def _flip(pair: LabelledPair, *, rows: bool, columns: bool) -> LabelledPair:
    step = (slice(None, None, -1 if rows else 1), slice(None, None, -1 if columns else 1))
    return replace(pair, before=pair.before[step], after=pair.after[step], mask=pair.mask[step])


def _cut_crops(
    panel: LabelledPair, crops: list[dict[str, Any]], *, written: dict[str, CaptionedCrop], limits: MatchLimits
) -> Iterator[LabelledPair]:
    for crop in crops:
        known = written.get(crop["levir_cc_name"])
        if known is None or crop["share"] < limits.min_share:
            continue
        if limits.is_changed is None or known.is_changed == limits.is_changed:
            yield _cut_square(panel, box_px=crop["box_px"], name=crop["levir_cc_name"], known=known)


def _cut_square(panel: LabelledPair, *, box_px: list[int], name: str, known: CaptionedCrop) -> LabelledPair:
    left, top, right, bottom = box_px
    part = (slice(top, bottom), slice(left, right))
    size = (max(right - left, bottom - top),) * 2
    before, after = (
        np.asarray(cv2.resize(np.ascontiguousarray(image[part]), size), np.uint8)
        for image in (panel.before, panel.after)
    )
    mask = cv2.resize(np.ascontiguousarray(panel.mask[part]), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return replace(
        panel,
        name=Path(name).stem,
        before=before,
        after=after,
        mask=np.asarray(mask, np.uint8),
        captions=known.captions,
        is_flagged=known.is_changed,
    )

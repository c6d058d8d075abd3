"""What speaks against a run as a whole: tiles unlike what its model knows, and claims with nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from model.home import UNFAMILIAR, ModelFit
from model.interface import Prompt, PromptKind
from pipeline.grid.cells import BoolArray
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus

NOTED_FRACTION = 0.3
"""Part of the analysed tiles that may be doubtful before the run as a whole is told to be."""

_SHOWING_KINDS = {PromptKind.COUNT, PromptKind.LOCATE}


def list_doubts(findings: pd.DataFrame, *, changes: pd.DataFrame, prompts: Sequence[Prompt]) -> list[str]:
    """Say what speaks against a run as a whole; the arguments are those of `note_empty_claims`."""
    doubts = (note_empty_claims(findings, changes=changes, prompts=prompts), note_unlike(findings))
    return [doubt for doubt in doubts if doubt is not None]


def note_unlike(findings: pd.DataFrame) -> str | None:
    """Say so where a large part of the analysed tiles look unlike what the model knows; None where they do not."""
    n_told = int(findings["familiarity"].notna().sum())
    n_unlike = int(findings["model_fit"].eq(ModelFit.UNLIKE.value).sum())
    if n_unlike <= NOTED_FRACTION * n_told:
        return None
    return (
        f"of {n_told:,} analysed tiles, {n_unlike:,} look unlike those that the model was calibrated on (familiarity "
        f"below {UNFAMILIAR:g}): nobody has measured how often it is right there"
    )


def note_empty_claims(findings: pd.DataFrame, *, changes: pd.DataFrame, prompts: Sequence[Prompt]) -> str | None:
    """Say so where a large part of the analysed tiles say yes with nothing to show; None where they do not.

    Args:
        findings: One row per tile of the grid.
        changes: What `dissolve_changes` made of them.
        prompts: The questions of the run; where none asks for counts or places, and there are no outlines either,
            nobody can tell.
    """
    n_analysed = int(findings["status"].eq(TileStatus.ANALYSED.value).sum())
    is_asked = len(changes) > 0 or any(prompt.kind in _SHOWING_KINDS for prompt in prompts)
    n_empty = int(find_empty_claims(findings, changes=changes).sum())
    if not is_asked or n_empty <= NOTED_FRACTION * n_analysed:
        return None
    return (
        f"of {n_analysed:,} analysed tiles, {n_empty:,} are called changed with nothing to show: no building, road, "
        "cell or outline. Do not take these for changes before you have looked at some of them"
    )


def find_empty_claims(findings: pd.DataFrame, *, changes: pd.DataFrame) -> BoolArray:
    """Tell which analysed tiles are called changed without a count, a cell or a part in any change."""
    is_claim = findings["status"].eq(TileStatus.ANALYSED.value) & findings["is_changed"].fillna(value=False).astype(
        bool
    )
    has_part = findings["tile_id"].isin(changes["tile_ids"].str.split(";").explode())
    for kind in CHANGE_KINDS:
        has_part |= findings[f"{kind}_count"].fillna(0).gt(0) | findings[f"{kind}_cells"].fillna("").ne("")
    return np.asarray((is_claim & ~has_part).to_numpy(dtype=np.bool_))

"""The figures of the paper, to stand beside those measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True, kw_only=True)
class PaperFigures:
    """What a publication reports."""

    source: str
    """Whose figures these are, of which model and on what."""
    figures: Mapping[str, float]
    """By the names that figures have here."""


@cache
def load_paper_figures() -> PaperFigures:
    """Read ``paper.yaml``."""
    tree = yaml.safe_load(resources.files("model.evaluation").joinpath("paper.yaml").read_text(encoding="utf-8"))
    return PaperFigures(source=str(tree["source"]), figures=dict(tree["figures"]))

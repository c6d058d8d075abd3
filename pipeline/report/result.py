"""What a report is made of, and what it tells in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.findings.coverage import Coverage
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import PAGE_FILES_FOLDER
from pipeline.storage.object_facts import ObjectFacts
from pipeline.tables.schemas import TileStatus

if TYPE_CHECKING:
    from pipeline.report.reviewed import ReviewSummary

STAGE = "write_report"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run leaves for people and programs."""

    folder: RunFolder
    """Folder of the run."""
    files: Mapping[str, ObjectFacts]
    """Size and sha256 of every file of the report, by name in the folder."""
    reason_counts: Mapping[str, Mapping[str, int]]
    """Tiles per status and kind of reason."""
    changed_tile_count: int
    """Tiles with ``is_changed`` true."""
    change_counts: Mapping[str, int]
    """Changes per kind, all kinds named."""
    left_out_counts: Mapping[str, int] = field(default_factory=dict)
    """Changes per kind that are less sure than is asked for."""
    thing_counts: Mapping[str, float | None] = field(default_factory=dict)
    """What the tiles count per kind, nothing of it twice; None where no tile told a count."""
    coverage: Coverage
    """Of how much ground something is known, and what became of the rest."""
    model_fit_counts: Mapping[str, int] = field(default_factory=dict)
    """Tiles by how they lie beside what the model was made for; empty where nobody tells."""
    notes: Sequence[str] = ()
    """What whoever reads it has to know of all of it."""
    zone_counts: Mapping[str, int] = field(default_factory=dict)
    """Zones per status: seen, partly_seen or not_seen; empty without zones."""
    accuracy: Mapping[str, Any] | None = None
    """What ``accuracy.json`` tells; None where no sample was drawn."""
    reviews: ReviewSummary | None = None
    """How far people have reviewed it; None: not at all."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the folder of what people take away: all but the files beside the page that it reads on demand."""
        return tuple(name for name in self.files if not name.startswith(f"{PAGE_FILES_FOLDER}/"))

    @property
    def status_counts(self) -> Mapping[str, int]:
        """Tiles of the grid per status, all statuses named."""
        return self.coverage.tile_counts

    @property
    def is_complete(self) -> bool:
        """Whether every tile that was to be looked at has an answer that could be read."""
        return not (self.status_counts[TileStatus.FAILED] or self.status_counts[TileStatus.UNREADABLE])

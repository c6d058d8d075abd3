"""Assess a finished run: draw a sample of its tiles, take in what people say of them, put the figures in its report."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
from PIL import Image

from model.errors import FolderError, InputError
from pipeline.accuracy.kept import read_sample, write_sample
from pipeline.accuracy.population import Population, describe_population
from pipeline.accuracy.sample import Sample, draw_sample
from pipeline.reviews.files import NOTE_COLUMNS, TILE_COLUMNS, Reviewed, ReviewFile, read_review_file
from pipeline.reviews.review import Subject
from pipeline.reviews.store import REVIEWS_FOLDER, Added, ReviewLog, add_reviews, read_reviews
from pipeline.runs.read import read_accuracy, read_table
from pipeline.runs.record import RunRecord
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_store
from pipeline.runs.run import rebuild_report
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.storage.opening import find_run_folder, make_folder
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile

SHEET_NAME = "sample.csv"
PICTURES_FOLDER = "pictures"
_DIGITS = 7
# ^ About a centimetre.
_GAP_PX = 8
_TILES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class RegionEvents:
    """What a region's pairs have told of together: a verdict on it holds for all of them."""

    folder: RunFolder
    """Folder of the region, which keeps the verdicts."""
    name: str
    """Name of the region."""
    ids: frozenset[str]
    """The events' first sightings."""


@dataclass(frozen=True, kw_only=True)
class AssessedRun:
    """A finished run whose report is assessed."""

    folder: RunFolder
    record: RunRecord
    events: RegionEvents | None = None
    """Those of its region; None: it is in none."""

    @classmethod
    def open(cls, uri: str, *, events: RegionEvents | None = None) -> AssessedRun:
        """Find a finished run.

        Args:
            uri: Its folder.
            events: Those of its region.

        Raises:
            InputError: the folder holds none.
        """
        folder = find_run_folder(uri)
        return cls(folder=folder, record=read_record(folder), events=events)

    @property
    def store(self) -> TileStore:
        """Its tiles' pixels."""
        return restore_store(self.record, folder=self.folder)

    def read_population(self) -> Population:
        """Read the tiles that can be assessed."""
        return describe_population(read_table(self.folder, TILES_NAME), grid=self.store.grid)

    def draw(self, n: int, *, seed: int) -> Sample:
        """Draw a sample and keep it; one that was drawn before can only grow while there are reviews.

        Raises:
            InputError: it cannot have this size, or it does not hold the tiles that were reviewed already.
        """
        record = self.record
        sample = draw_sample(
            self.read_population(), n=n, seed=seed, run_id=record.run_id, model_id=record.model["model_id"]
        )
        former = read_sample(self.folder)
        if former is not None and former.run_id == sample.run_id and former.tiles.keys() - sample.tiles.keys():
            _refuse_other_sample(former, log=read_reviews(self.folder), uri=self.folder.uri)
        write_sample(sample, folder=self.folder)
        return sample

    def write_sheet(self, sample: Sample, *, output: str | None) -> tuple[list[str], list[str]]:
        """Write what a person fills in, and a picture of each tile at both dates; the model's answers are in neither.

        Args:
            sample: The sample.
            output: Folder to write to; None: beside the reviews in the run's folder.

        Returns:
            Places of the file and of the folder with the pictures, and what there is to know.

        Raises:
            InputError: the folder cannot be written to.
        """
        folder = self.folder if output is None else make_folder(output)
        prefix = f"{REVIEWS_FOLDER}/" if output is None else ""
        tiles = self.read_population().tiles.loc[list(sample.tiles)]
        places = [(int(row), int(col)) for row, col in zip(tiles["row"], tiles["col"], strict=True)]
        folder.put(prefix + SHEET_NAME, make_sheet(self.store, ids=list(sample.tiles), places=places, sample=sample))
        written, notes = [folder.join(prefix + SHEET_NAME), folder.join(prefix + PICTURES_FOLDER)], []
        try:
            for start in range(0, len(places), _TILES_AT_ONCE):
                ids = list(sample.tiles)[start : start + _TILES_AT_ONCE]
                pngs = draw_pairs(self.store, ids=ids, places=places[start : start + _TILES_AT_ONCE])
                for tile_id, png in zip(ids, pngs, strict=True):
                    folder.put(f"{prefix}{PICTURES_FOLDER}/{tile_id}.png", png)
        except (FileNotFoundError, FolderError) as problem:
            notes.append(f"no pictures of some tiles ({problem}): look at the scenes")
        return written, notes

    def take_in(
        self, path: str, *, person: str, now: dt.datetime, settles: bool = False
    ) -> tuple[ReviewFile, list[Added]]:
        """Keep what a person has filled in.

        Args:
            path: The file.
            person: Who.
            now: The present, UTC.
            settles: Whether this person's word settles what others disagree about.

        Raises:
            InputError: the file cannot be read, or the folder cannot be written to.
        """
        sample, events = read_sample(self.folder), self.events
        told = self.read_population().tiles["is_changed"]
        is_own = sample is not None and sample.run_id == self.record.run_id
        about = Reviewed(
            run_id=self.record.run_id,
            model_id=self.record.model["model_id"],
            verdicts={str(tile_id): bool(is_changed) for tile_id, is_changed in told.items()},
            sampled=set(sample.tiles) if sample is not None and is_own else set(),
            change_ids=set(read_table(self.folder, CHANGES_NAME)["change_id"]) if events is None else events.ids,
            change_subject=Subject.CHANGE if events is None else Subject.EVENT,
        )
        found = read_review_file(path, person=person, about=about, now=now, settles=settles)
        own = [review for review in found.reviews if review.subject is not Subject.EVENT]
        added = [add_reviews(self.folder, own)] if own else []
        if events is not None and len(own) < len(found.reviews):
            # Of the region, not of one of its runs.
            others = [replace(each, run_id=events.name) for each in found.reviews if each.subject is Subject.EVENT]
            added.append(add_reviews(events.folder, others))
        return found, added

    def estimate(self) -> dict[str, Any]:
        """Make the report anew with what the reviews say of its accuracy; its tables stay, byte for byte.

        Returns:
            What ``accuracy.json`` holds.

        Raises:
            InputError: no sample was drawn, or the report cannot be made anew.
        """
        if read_sample(self.folder) is None:
            raise InputError(
                f"{self.folder.uri} has no sample",
                expected="a sample of its tiles that people have looked at",
                remedy=f"draw one with `deltavlm assess {self.folder.uri} --n 200`",
            )
        rebuild_report(self.folder.uri)
        return read_accuracy(self.folder)


def _refuse_other_sample(former: Sample, *, log: ReviewLog, uri: str) -> None:
    """Refuse to lose tiles of a sample that people have begun to look at."""
    seen = {each.subject_id for each in log.list_latest() if each.is_blind and each.subject is Subject.TILE}
    if n_seen := len(seen & former.tiles.keys()):
        raise InputError(
            f"{uri} has a sample of {len(former.tiles):,} tiles with seed {former.seed}, {n_seen:,} of them reviewed",
            expected="the same sample, or a larger one with its seed, which holds it",
            remedy=f"give --seed {former.seed} and an --n of {len(former.tiles):,} or more",
        )


def make_sheet(store: TileStore, *, ids: Sequence[str], places: Sequence[tuple[int, int]], sample: Sample) -> bytes:
    """Give the CSV file that a person fills in: which tiles, where they are, and columns for what is there to see."""
    shapes = gpd.GeoSeries([store.grid.tile_polygon(*place) for place in places], crs=store.grid.crs)
    transformer = pyproj.Transformer.from_crs(store.grid.crs, "OGC:CRS84", always_xy=True)
    lons, lats = transformer.transform(shapes.centroid.x.to_numpy(), shapes.centroid.y.to_numpy())
    outlines = shapes.to_crs("OGC:CRS84").to_wkt(rounding_precision=_DIGITS)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["tile_id", "run_id", "lon", "lat", "outline", *TILE_COLUMNS, *NOTE_COLUMNS])
    blank = [""] * (len(TILE_COLUMNS) + len(NOTE_COLUMNS))
    for tile_id, lon, lat, outline in zip(ids, np.round(lons, _DIGITS), np.round(lats, _DIGITS), outlines, strict=True):
        writer.writerow([tile_id, sample.run_id, lon, lat, outline, *blank])
    # Excel takes a file without this mark for one in the machine's own letters.
    return text.getvalue().encode("utf-8-sig")


def draw_pairs(store: TileStore, *, ids: Sequence[str], places: Sequence[tuple[int, int]]) -> list[bytes]:
    """Draw tiles as PNG files, before at the left and after at the right, as the model saw them.

    Raises:
        FileNotFoundError: there is no store.
        FolderError: it cannot be read.
    """
    tiles = [
        Tile(row=row, col=col, tile_id=tile_id, valid_fraction=1.0, status=None, reason="")
        for tile_id, (row, col) in zip(ids, places, strict=True)
    ]
    pictures = []
    for before, after in store.read_pairs(tiles):
        gap = np.full((3, before.shape[1], _GAP_PX), 255, dtype=np.uint8)
        content = io.BytesIO()
        joined = np.concatenate([before, gap, after], axis=2).transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(joined)).save(content, format="PNG")
        pictures.append(content.getvalue())
    return pictures

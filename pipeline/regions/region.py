"""One pass over a region: which pairs there are to do, where their runs go, and what the region tells afterwards."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import geopandas as gpd
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.redaction import redact_text
from model.registry import identify_named_model
from pipeline.config.region import RegionConfig
from pipeline.config.region_sources import StacSourceConfig
from pipeline.config.run import RunConfig
from pipeline.grid.blocks import project_shape
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.polygons.zones import read_excluded, read_zones
from pipeline.regions.block_plans import choose_states, find_place_windows, join_windows, plan_blocks
from pipeline.regions.blocks import RegionBlock, describe_block, find_blocks
from pipeline.regions.events.changelog import CHANGELOG_NAME, read_changelog
from pipeline.regions.events.reviewed import read_event_reviews
from pipeline.regions.events.table import TellingRules
from pipeline.regions.left_out import LEFT_OUT_NAME, encode_left_out
from pipeline.regions.pair_records import PairRecord, PairState, read_states, take_current, write_record
from pipeline.regions.pairs import find_crs, hash_cell, hash_settings
from pipeline.regions.plan import PassPlan, Place, plan_place
from pipeline.regions.record import (
    REGION_NAME,
    PassSummary,
    make_region_record,
    read_file_facts,
    withdraw_region_record,
    write_region_record,
)
from pipeline.regions.report import REPORT_FOLDER, make_region_files
from pipeline.regions.retention import apply_retention
from pipeline.regions.search import choose_search_area, list_pieces, make_scene_config
from pipeline.regions.stac_collection import COLLECTION_NAME
from pipeline.regions.tables import ZONE_SUMS_NAME, RegionTables, make_tables
from pipeline.scenes.signing import check_signer
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import RunLock, hold_lock
from pipeline.storage.names import ACCURACY_NAME, LOCK_NAME, is_pair_table
from pipeline.storage.opening import find_folder, make_folder

_OWN_NAMES = frozenset({REGION_NAME, LEFT_OUT_NAME, "blocks", "pairs", "plans", "report"})


@dataclass(frozen=True, kw_only=True)
class RegionReport:
    """What a region tells after a pass."""

    folder: RunFolder
    """Folder of the region."""
    states: tuple[PairState, ...]
    """The pairs that count, in the order of time."""
    tables: RegionTables
    """Changes and time line."""
    summary: PassSummary
    """What the pass did."""
    names: tuple[str, ...]
    """Names in the folder of the report's files."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing of what the pass had to do failed."""
        return not self.summary.failed


@dataclass(frozen=True, kw_only=True)
class SettledRegion:
    """A region of which all is settled that comes before its pairs: enough to plan a pass, and nothing is written."""

    config: RegionConfig
    """What was asked for."""
    area: BaseGeometry
    """The area of interest in WGS84 degrees."""
    crs: str
    """CRS of the grid and of the tables."""
    cell: str
    """Key of the place: area of interest and grid."""
    blocks: tuple[RegionBlock, ...]
    """The blocks; empty in a region that is a single one."""
    settings: str
    """Key of the settings that shape the answers."""
    rules: TellingRules
    """Which events are told."""
    folder: RunFolder
    """Where the region leaves its files."""

    @classmethod
    def settle(cls, config: RegionConfig) -> SettledRegion:
        """Check the area and the model; the region's folder need not be there.

        Raises:
            InputError: area, zones or what is excluded cannot be read, or there is no such model or signer.
        """
        polygons = AreaOfInterest.read(config.aoi)
        area = polygons.to_degrees()
        crs = find_crs(config.grid.crs, area=area)
        rules = read_rules(config)
        identity = identify_named_model(config.model.name)
        if isinstance(config.source, StacSourceConfig):
            check_signer(config.source.sign)
        return SettledRegion(
            config=config,
            area=area,
            crs=crs,
            cell=hash_cell(area, grid=config.grid, crs=crs),
            blocks=find_blocks(config, area=polygons, crs=crs),
            settings=hash_settings(config, identity=identity),
            rules=rules,
            folder=find_folder(config.output, retry_timeout_s=config.storage.retry_timeout_s),
        )

    def plan(self, now: dt.datetime) -> PassPlan:
        """Look for scenes and decide which pairs this pass has to do.

        Args:
            now: The present, with its zone.

        Raises:
            InputError: the source cannot be read or searched, or a pair's record is damaged.
        """
        source, known = self.config.source, read_states(self.folder)
        self._check_block_size(known)
        area = choose_search_area(source, area=self.area)
        places = [Place(area=each.area, cell=each.cell, block=each.block) for each in self.blocks]
        places = places or [Place(area=area, cell=self.cell)]
        states = choose_states(known, places=places)
        windows = [find_place_windows(own, config=self.config, now=now) for own in states]
        pieces, unusable = list_pieces(
            source,
            area=area,
            windows=join_windows(windows),
            allow_private=self.config.storage.allow_private_hosts,
        )
        plan = partial(
            plan_place, config=self.config, settings=self.settings, now=now, planned_at=dt.datetime.now(dt.UTC)
        )
        if self.blocks:
            return plan_blocks(
                places, pieces=pieces, states=states, windows=windows, plan_place=plan, unusable=unusable
            )
        return plan(places[0], pieces=pieces, states=states[0], unusable=unusable)

    def _check_block_size(self, states: Sequence[PairState]) -> None:
        """Refuse blocks of another size than those that are there: their names would mean other ground."""
        sides = {block.side_m for state in states if (block := state.record.block) is not None}
        own = {each.block.side_m for each in self.blocks}
        if own and sides - own:
            raise InputError(
                f"blocks.size_km makes blocks of {max(own) / 1000:g} km; region {self.folder.uri} has some of "
                f"{max(sides - own) / 1000:g} km",
                expected="the size that the region began with",
                remedy=f"set blocks.size_km to {max(sides - own) / 1000:g} with the former tiles, or choose another "
                "output",
            )

    @property
    def n_at_once(self) -> int:
        """Give how many blocks, or pairs of a region that is a single one, are worked on at the same time."""
        blocks = self.config.blocks
        return blocks.n_blocks_at_once if self.blocks and blocks is not None else self.config.max_concurrent_pairs

    def make_run_config(self, record: PairRecord) -> RunConfig:
        """Give the config of a pair's run.

        Raises:
            FolderError: its folder is a link, or lies behind one.
        """
        self.folder.check_plain(record.run_name)
        before, after = (
            make_scene_config(scene, source=self.config.source, composite=self.config.make_composite())
            for scene in (record.pair.before, record.pair.after)
        )
        block = record.block
        return self.config.make_run_config(
            before=before,
            after=after,
            output=self.folder.join(record.run_name),
            crs=self.crs if block is None else block.crs,
            block=None if block is None else describe_block(block, config=self.config),
        )


@dataclass(frozen=True, kw_only=True)
class Region(SettledRegion):
    """One pass over one region: what is settled before its first pair, and what is done on top of it."""

    lock: RunLock
    """The right to write in its folder."""

    @classmethod
    @contextmanager
    def prepare(cls, config: RegionConfig) -> Iterator[Self]:
        """Check the area and the model, then make the region's folder and hold it while the context lasts.

        Raises:
            InputError: as `settle`; or the folder cannot be written to, or is in the hands of another pass.
        """
        settled = SettledRegion.settle(config)
        folder = open_region_folder(config.output, retry_timeout_s=config.storage.retry_timeout_s)
        with hold_lock(folder, timeout_s=config.storage.lock_timeout_s) as lock:
            yield cls(**{**vars(settled), "folder": folder.guarded(lock.check, owner=lock.owner)}, lock=lock)

    @contextmanager
    def attempt(self, record: PairRecord) -> Iterator[None]:
        """Write down that a pair is begun; and, if the context ends in an error, why.

        An error ends the pair alone and goes no further; what stops the whole pass is no attempt.

        Raises:
            FolderError: the region's folder has gone to another pass, or cannot be written to.
        """
        self.lock.check()
        begun = replace(record, attempts=record.attempts + 1, reason=None)
        write_record(begun, folder=self.folder)
        try:
            yield
        except Exception as problem:
            write_record(replace(begun, reason=word_failure(problem)), folder=self.folder)
        except BaseException:
            write_record(record, folder=self.folder)
            raise

    def merge(self, plan: PassPlan, *, now: dt.datetime) -> RegionReport:
        """Make the region's report anew from all its pairs, let go of what is too old, and write ``region.json`` last.

        Raises:
            InputError: the log of the region's events is damaged.
            FolderError: the region's folder has gone to another pass, or cannot be written to.
        """
        self.lock.check()
        facts = read_file_facts(self.folder).get(CHANGELOG_NAME)
        log = read_changelog(self.folder, crs=self.crs, facts=facts)
        states, tables, files = self._write_report(log, now=now)
        if apply_retention(states, folder=self.folder, config=self.config.retention, now=now):
            # The report that made it safe to let go of runs still pointed to them.
            states, tables, files = self._write_report(log, now=now)
        summary = PassSummary.of(plan, states=states, tables=tables, now=now, n_logged=len(log))
        left_out = encode_left_out(plan.left_out)
        _put_if_new(self.folder, LEFT_OUT_NAME, left_out)
        record = make_region_record(
            self.config,
            cell=self.cell,
            settings=self.settings,
            crs=self.crs,
            states=states,
            files=files | {LEFT_OUT_NAME: left_out},
            last=summary,
        )
        write_region_record(record, folder=self.folder)
        return RegionReport(
            folder=self.folder, states=states, tables=tables, summary=summary, names=tuple(sorted(files))
        )

    def _write_report(
        self, log: gpd.GeoDataFrame, *, now: dt.datetime
    ) -> tuple[tuple[PairState, ...], RegionTables, dict[str, bytes]]:
        """Make the report of what the region's folder holds now; gives the pairs, what they tell, and the files."""
        states = tuple(take_current(read_states(self.folder)))
        tables = make_tables(
            states,
            folder=self.folder,
            crs=self.crs,
            log=log,
            rules=self.rules,
            now=now,
            reviews=read_event_reviews(self.folder, name=self.config.name),
        )
        files = make_region_files(
            states,
            tables=tables,
            folder=self.folder,
            name=self.config.name,
            crs=self.crs,
            bounds=project_shape(self.area, crs=self.crs).bounds if self.blocks else None,
            blocks=self.blocks,
        )
        former = {
            COLLECTION_NAME,
            ACCURACY_NAME,
            ZONE_SUMS_NAME,
            *filter(is_pair_table, self.folder.list_names(REPORT_FOLDER)),
        }
        withdraw_region_record(self.folder)
        # The log comes last: until it is there, the next pass finds all that this one has to tell.
        for name in sorted(files, key=lambda name: name == CHANGELOG_NAME):
            _put_if_new(self.folder, name, files[name])
        self.folder.delete(sorted(former - files.keys()))
        return states, tables, files


def read_rules(config: RegionConfig) -> TellingRules:
    """Read what decides which events are told.

    Raises:
        InputError: a file of polygons cannot be read.
    """
    return TellingRules(
        min_area_m2=config.report.min_area_m2,
        excluded=None if config.exclude is None else read_excluded(config.exclude),
        zones=None if config.zones is None else read_zones(config.zones),
        waits_for_confirmation=config.waits_for_confirmation,
    )


def word_failure(problem: Exception) -> str:
    """Say in a line why a pair failed; a fault of the program is not told as one of its scenes."""
    words = redact_text(str(problem).partition("\n")[0])
    return words if isinstance(problem, InputError) else f"a fault of the program: {type(problem).__name__}: {words}"


def open_region_folder(uri: str, *, retry_timeout_s: float) -> RunFolder:
    """Make the folder of a region, or take up the one that is there; nothing is written into it.

    Raises:
        InputError: the place cannot be made or read, or holds files that belong to no region.
    """
    folder = make_folder(uri, retry_timeout_s=retry_timeout_s)
    check_region_folder(folder)
    return folder


def check_region_folder(folder: RunFolder) -> None:
    """Refuse a folder that holds files which belong to no region.

    Raises:
        InputError: it does.
    """
    names = {name for name in folder.list_top() if not name.startswith(LOCK_NAME)}
    if (names and not names & _OWN_NAMES) or "run.json" in names or "tiles.zarr" in names:
        raise InputError(
            f"output {folder.uri} holds {len(names)} other files, such as {min(names)}",
            expected="an empty folder or the folder of this region",
            remedy="choose another output",
        )


def _put_if_new(folder: RunFolder, name: str, data: bytes) -> None:
    try:
        is_there = folder.read(name) == data
    except FileNotFoundError:
        is_there = False
    if not is_there:
        folder.put(name, data)

"""The whole way of the data: from two scenes to a report in six calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import geopandas as gpd
from distributed import Client

from model.errors import InputError
from model.interface import ModelIdentity, Prompt
from model.registry import identify_named_model
from pipeline.answers.collect import collect_answers
from pipeline.answers.outlines import choose_outline_kinds
from pipeline.answers.parts import AnswerParts
from pipeline.config.run import RunConfig
from pipeline.findings.extract import extract_findings, make_findings_schema
from pipeline.polygons.zones import Zones
from pipeline.report.stac_item import write_item
from pipeline.report.write import Report, write_report
from pipeline.runs.inputs import check_inputs
from pipeline.runs.record import (
    RunRecord,
    check_readable,
    check_unchanged,
    compute_run_id,
    discard_record,
    hash_aoi,
    make_record,
    name_absolutely,
    read_run_zones,
    recall_dtype,
    recall_record,
    restore_answers,
    restore_pair,
    restore_store,
    withdraw_record,
    write_record,
)
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.folder import RunFolder, find_run_folder, open_run_folder
from pipeline.storage.lock import RunLock, hold_lock
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.tiles.select import select_tiles
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile, TileTable
from pipeline.tiles.write import write_tiles
from pipeline.workers.checks import check_workers
from pipeline.workers.models import settle_dtype

OpenCluster = Callable[[], AbstractContextManager[Client]]
"""Starts or finds workers; called only once the input is known to be right."""


def detect_changes(
    config: RunConfig, *, open_cluster: OpenCluster, on_progress: ProgressCallback = ignore_progress
) -> Report:
    """Turn a before and an after scene into a change report; what the folder holds already is not done again.

    Args:
        config: The run.
        open_cluster: Gives the Dask client while its context lasts.
        on_progress: Called with what each stage, or each part of a long stage, has done.

    Raises:
        InputError: the input cannot be worked on; if that shows at once, nothing is written.
    """
    check_inputs(config)
    pair, found = find_pair(config)
    on_progress(found)
    with Run.prepare(config, pair=pair) as run:
        with open_cluster() as client:
            run = run.settle(client)
            store, written = run.write_tiles(client, on_progress=on_progress)
            tiles, selected = run.select_tiles(store)
            on_progress(selected)
            answers, collected = run.collect_answers(tiles, store=store, client=client, on_progress=on_progress)
        findings, extracted = run.extract_findings(answers, tiles=tiles, store=store)
        on_progress(extracted)
        report, reported = run.write_report(findings, store=store, answers=answers)
        on_progress(reported)
        stages = [found, written, selected, collected, extracted, reported]
        run.write_record(report, store=store, answers=answers, stages=stages)
    return report


def rebuild_report(uri: str, *, zones: Mapping[str, str | None] | None = None) -> Report:
    """Write the report of a finished run anew from its answers; needs neither model nor scenes.

    While it is written the run counts as unfinished; if that is stopped, this can be called again.

    Args:
        uri: Folder of the run.
        zones: The settings ``zones``, ``zones_id_column`` and ``zones_name_column`` in the place of the run's own;
            None: those it was made with.

    Raises:
        InputError: the folder holds no finished run, part of its store is gone, or its area of interest or its zones
            are gone, others, or cannot be used.
    """
    folder = find_run_folder(uri)
    record = recall_record(folder)
    with hold_lock(folder) as lock:
        run = Run.restore(record, folder=folder, lock=lock, zones=zones)
        store, answers = restore_store(record, folder=folder), restore_answers(record, folder=folder)
        if missing := store.list_missing_shards(aoi=run.config.aoi):
            raise InputError(
                f"{uri} lacks {len(missing)} shards of its tile store, such as {missing[0]}",
                expected="the store that the run has left",
                remedy="run `deltavlm run` again with this --output: it writes what is missing",
            )
        tiles, _ = run.select_tiles(store)
        findings, _ = run.extract_findings(answers, tiles=tiles, store=store)
        report, _ = run.write_report(findings, store=store, answers=answers)
        stages = [StageSummary(**stage) for stage in record.stages]
        run.write_record(report, store=store, answers=answers, stages=stages)
    return report


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of one `RunConfig`: what is settled before its first tile, and the verbs on top of it."""

    config: RunConfig
    """What was asked for."""
    pair: ScenePair
    """The scenes and their grid."""
    identity: ModelIdentity
    """Which weights answer."""
    aoi_hash: str | None
    """Hash of the area of interest's geometry; None without one."""
    zones: Zones | None = None
    """What the findings are summed over; None without."""
    folder: RunFolder
    """Where the run leaves its files."""
    lock: RunLock
    """The right to write there."""

    @classmethod
    @contextmanager
    def prepare(cls, config: RunConfig, *, pair: ScenePair) -> Iterator[Self]:
        """Check what else could be wrong about the input, then make the folder and hold it while the context lasts.

        Raises:
            InputError: there is no such model, the area of interest or the zones cannot be read, a prompt's name is
                taken, or the folder cannot be written to or is being written by another run.
        """
        make_findings_schema([prompt.to_prompt() for prompt in config.prompts])
        config = config.model_copy(update=name_absolutely({"aoi": config.aoi, "zones": config.zones}))
        identity = identify_named_model(config.model.name)
        aoi_hash, zones = hash_aoi(config.aoi, grid=pair.grid), read_run_zones(config)
        folder = open_run_folder(config.output, retry_timeout_s=config.storage.retry_timeout_s)
        with hold_lock(folder, timeout_s=config.storage.lock_timeout_s) as lock:
            run = cls(
                config=config, pair=pair, identity=identity, aoi_hash=aoi_hash, zones=zones, folder=folder, lock=lock
            )
            run = run.with_dtype(recall_dtype(folder, name_run=lambda dtype: run.with_dtype(dtype).run_id))
            discard_record(folder, run_id=run.run_id, shard_size_tiles=config.tiles.shard_size_tiles)
            yield run

    def with_dtype(self, dtype: str) -> Self:
        """Give the run with a definite precision, where its config leaves that open."""
        if self.config.model.dtype != "auto":
            return self
        model = self.config.model.model_copy(update={"dtype": dtype})
        return replace(self, config=self.config.model_copy(update={"model": model}))

    def settle(self, client: Client) -> Self:
        """Check the workers, and take from them what only they know: the precision that ``auto`` is.

        Raises:
            InputError: a worker has other packages, does not see the run's folder or a scene, or would answer in
                another precision than the others.
        """
        check_workers(client, folder=self.folder, scenes=[*self.pair.before.uris, *self.pair.after.uris])
        run = self.with_dtype(settle_dtype(client, self.config.model).dtype)
        discard_record(run.folder, run_id=run.run_id, shard_size_tiles=run.config.tiles.shard_size_tiles)
        return run

    @classmethod
    def restore(
        cls, record: RunRecord, *, folder: RunFolder, lock: RunLock, zones: Mapping[str, str | None] | None = None
    ) -> Self:
        """Take up a finished run, with other zones if they are given.

        Raises:
            InputError: its area of interest or its zones cannot be read or are others by now.
        """
        config = RunConfig.model_validate(record.config)
        if zones is not None:
            config = RunConfig.model_validate({**record.config, **name_absolutely(zones)})
        check_readable(config)
        pair = restore_pair(record)
        run = cls(
            config=config,
            pair=pair,
            identity=ModelIdentity(path="", mask_labels=tuple(record.mask_labels), **record.model),
            aoi_hash=hash_aoi(config.aoi, grid=pair.grid),
            zones=read_run_zones(config),
            folder=folder,
            lock=lock,
        )
        run._check_same(record, has_own_zones=zones is None)
        return run

    def _check_same(self, record: RunRecord, *, has_own_zones: bool) -> None:
        """Refuse what is not the recorded run any more, but for zones that were to be others.

        Raises:
            InputError: its polygons have changed, or this program has.
        """
        hashes = {"aoi": self.aoi_hash, "zones": self.zones_hash if has_own_zones else None}
        check_unchanged(self.config, inputs=record.inputs, hashes=hashes, run_id=record.run_id)
        if self._name((record.inputs.get("zones") or {}).get("sha256")) != record.run_id:
            raise InputError(
                f"run {record.run_id} was made by another version of this program",
                expected="answers of this version",
                remedy="run `deltavlm run` again with this --output",
            )

    @property
    def run_id(self) -> str:
        """Name of the run by the content its report depends on."""
        return self._name(self.zones_hash)

    def _name(self, zones_hash: str | None) -> str:
        return compute_run_id(
            self.config,
            content_key=self.pair.content_key,
            aoi_hash=self.aoi_hash,
            zones_hash=zones_hash,
            identity=self.identity,
        )

    @cached_property
    def zones_hash(self) -> str | None:
        """Hash of the zones with their attributes; None without any."""
        return self.zones.compute_hash() if self.zones is not None else None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The questions."""
        return tuple(prompt.to_prompt() for prompt in self.config.prompts)

    def write_tiles(self, client: Client, *, on_progress: ProgressCallback) -> tuple[TileStore, StageSummary]:
        """Call the second verb."""
        return write_tiles(
            self.pair,
            folder=self.folder,
            config=self.config.tiles,
            client=client,
            max_in_flight=self.config.cluster.max_batches_in_flight,
            aoi=self.config.aoi,
            on_progress=self._watch(on_progress),
        )

    def select_tiles(self, store: TileStore) -> tuple[TileTable, StageSummary]:
        """Call the third verb."""
        return select_tiles(
            store,
            aoi=self.config.aoi,
            min_valid_fraction=self.config.tiles.min_valid_fraction,
            max_cloud_fraction=self.config.tiles.max_cloud_fraction,
        )

    def collect_answers(
        self, tiles: Sequence[Tile], *, store: TileStore, client: Client, on_progress: ProgressCallback
    ) -> tuple[AnswerParts, StageSummary]:
        """Call the fourth verb."""
        return collect_answers(
            tiles,
            store=store,
            prompts=self.prompts,
            model=self.config.model,
            identity=self.identity,
            client=client,
            max_in_flight=self.config.cluster.max_batches_in_flight,
            outline_kinds=choose_outline_kinds(self.config.model.outlines, mask_labels=self.identity.mask_labels),
            on_progress=self._watch(on_progress),
        )

    def extract_findings(
        self, answers: AnswerParts, *, tiles: Sequence[Tile], store: TileStore
    ) -> tuple[gpd.GeoDataFrame, StageSummary]:
        """Call the fifth verb."""
        return extract_findings(
            answers,
            tiles=tiles,
            store=store,
            prompts=self.prompts,
            identity=self.identity,
            run_id=self.run_id,
            before_datetime=self.pair.before.datetime,
            after_datetime=self.pair.after.datetime,
        )

    def write_report(
        self, findings: gpd.GeoDataFrame, *, store: TileStore, answers: AnswerParts
    ) -> tuple[Report, StageSummary]:
        """Call the sixth verb, and describe its files as a STAC item; the run is unfinished until `write_record`."""
        self.lock.check()
        report, summary = write_report(
            findings,
            store=store,
            folder=self.folder,
            prompts=self.prompts,
            zones=self.zones,
            outlines=answers.read_outlines(),
            before_name=self.pair.before.scene_id,
            after_name=self.pair.after.scene_id,
            before_writing=lambda: withdraw_record(self.folder),
        )
        report, n_bytes = write_item(
            report,
            pair=self.pair,
            prompts=self.prompts,
            identity=self.identity,
            run_id=self.run_id,
            zones_schema=self.zones.schema if self.zones is not None else None,
        )
        return report, replace(
            summary, done=len(report.names), total=len(report.names), bytes_written=summary.bytes_written + n_bytes
        )

    def write_record(
        self, report: Report, *, store: TileStore, answers: AnswerParts, stages: Sequence[StageSummary]
    ) -> None:
        """Put ``run.json``, which says that the run is complete."""
        self.lock.check()
        record = make_record(
            report,
            run_id=self.run_id,
            config=self.config,
            pair=self.pair,
            aoi_hash=self.aoi_hash,
            zones_hash=self.zones_hash,
            identity=self.identity,
            store=store,
            answers=answers,
            stages=stages,
        )
        write_record(record, folder=self.folder)

    def _watch(self, on_progress: ProgressCallback) -> ProgressCallback:
        """Give the callback that also stops a run which has lost its lock."""

        def tell(part: StageSummary) -> None:
            self.lock.check()
            on_progress(part)

        return tell

"""A run before its first tile and after its last: its input checked, its folder held, its record put."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.home import ModelFit
from model.interface import ModelIdentity, Prompt
from model.registry import identify_named_model
from pipeline.answers.parts import AnswerParts
from pipeline.config.loading import RECORDED
from pipeline.config.run import RunConfig
from pipeline.findings.columns import make_findings_schema
from pipeline.polygons.aoi import GridArea, read_grid_area
from pipeline.report.result import Report
from pipeline.runs.inputs import RunPolygons
from pipeline.runs.model_fit import check_model_fit, judge_model_fit
from pipeline.runs.polygons import check_readable, check_unchanged, name_absolutely, read_run_zones
from pipeline.runs.record import RECORD_NAME, RunRecord, compute_run_id, make_record
from pipeline.runs.record_files import discard_record, recall_dtype, write_record
from pipeline.runs.restore import restore_identity, restore_pair
from pipeline.scenes.pair import ScenePair, make_block
from pipeline.storage.folder import RunFolder
from pipeline.storage.lock import RunLock, hold_lock
from pipeline.storage.opening import open_run_folder
from pipeline.summary import ProgressCallback, StageSummary
from pipeline.tiles.ground import find_extent
from pipeline.tiles.store import TileStore

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.polygons.zones import Zones


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of one `RunConfig`: what is settled before its first tile."""

    config: RunConfig
    """What was asked for."""
    pair: ScenePair
    """The scenes and their grid."""
    identity: ModelIdentity
    """Which weights answer."""
    area: GridArea | None
    """The area of interest; None without one."""
    zones: Zones | None = None
    """What the findings are summed over; None without."""
    folder: RunFolder
    """Where the run leaves its files."""
    lock: RunLock
    """The right to write there."""
    fit: ModelFit | None = None
    """How its tiles lie beside what the model was made for; None where nobody tells."""
    notes: tuple[str, ...] = ()
    """What whoever reads the report has to know of all of it."""

    @classmethod
    @contextmanager
    def prepare(cls, config: RunConfig, *, pair: ScenePair, polygons: RunPolygons) -> Iterator[Self]:
        """Check what else could be wrong about the input, then make the folder and hold it while the context lasts.

        Args:
            config: What was asked for.
            pair: The scenes and their grid.
            polygons: What was read of the area of interest and of the zones.

        Raises:
            InputError: there is no such model, or it was not made for such scenes or tiles; the area of interest lies
                off the grid, a prompt's name is taken, or the folder cannot be written to or is being written by
                another run.
        """
        make_findings_schema([prompt.to_prompt() for prompt in config.prompts], is_composed=config.is_composed)
        config = config.model_copy(update=name_absolutely({"aoi": config.aoi, "zones": config.zones}))
        identity = identify_named_model(config.model.name)
        note = check_model_fit(pair, identity=identity, config=config.model)
        area = None if polygons.aoi is None else polygons.aoi.lay_on(pair.grid, block=make_block(config))
        folder = open_run_folder(config.output, retry_timeout_s=config.storage.retry_timeout_s)
        with hold_lock(folder, timeout_s=config.storage.lock_timeout_s) as lock:
            folder = folder.guarded(lock.check, owner=lock.owner)
            run = cls(
                config=config,
                pair=pair,
                identity=identity,
                area=area,
                zones=polygons.zones,
                folder=folder,
                lock=lock,
                fit=judge_model_fit(pair, identity=identity),
                notes=(note,) if note is not None else (),
            )
            run = run.with_dtype(recall_dtype(folder, name_run=lambda dtype: run.with_dtype(dtype).run_id))
            discard_record(folder, run_id=run.run_id, shard_size_tiles=config.tiles.shard_size_tiles)
            yield run

    def with_dtype(self, dtype: str) -> Self:
        """Give the run with a definite precision, where its config leaves that open."""
        if self.config.model.precision != "auto":
            return self
        model = self.config.model.model_copy(update={"dtype": dtype})
        return replace(self, config=self.config.model_copy(update={"model": model}))

    def settle(self, client: Client) -> Self:
        """Check the workers, and take from them what only they know: the precision that ``auto`` is.

        Raises:
            InputError: a worker has other packages, does not see the run's folder or a scene, or would answer in
                another precision than the others.
        """
        # Not at the top: Dask takes half a second to import, and a finished run asks no worker.
        from pipeline.workers.checks import check_workers
        from pipeline.workers.models import settle_dtype

        check_workers(client, folder=self.folder, scenes=[*self.pair.before.uris, *self.pair.after.uris])
        run = self.with_dtype(settle_dtype(client, self.config.model).dtype)
        discard_record(run.folder, run_id=run.run_id, shard_size_tiles=run.config.tiles.shard_size_tiles)
        return run

    @property
    def is_finished(self) -> bool:
        """Whether its folder holds its record: then its precision is known, and only damage can leave work to do."""
        return self.folder.has(RECORD_NAME)

    @classmethod
    def restore(
        cls, record: RunRecord, *, folder: RunFolder, lock: RunLock, zones: Mapping[str, str | None] | None = None
    ) -> Self:
        """Take up a finished run, with other zones if they are given.

        Raises:
            InputError: its area of interest or its zones cannot be read or are others by now.
        """
        config = RunConfig.model_validate(record.config, context=RECORDED)
        if zones is not None:
            config = RunConfig.model_validate({**record.config, **name_absolutely(zones)}, context=RECORDED)
        check_readable(config)
        pair = restore_pair(record)
        run = cls(
            config=config,
            pair=pair,
            identity=restore_identity(record),
            area=read_grid_area(config.aoi, grid=pair.grid, block=make_block(config)),
            zones=read_run_zones(config),
            folder=folder,
            lock=lock,
            fit=None if record.model_fit is None else ModelFit(record.model_fit),
            notes=tuple(record.notes),
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
            dates=(self.pair.before.datetime, self.pair.after.datetime),
        )

    @property
    def aoi_hash(self) -> str | None:
        """Hash of the area of interest's geometry; None without one."""
        return self.area.sha256 if self.area is not None else None

    @cached_property
    def zones_hash(self) -> str | None:
        """Hash of the zones with their attributes; None without any."""
        return self.zones.compute_hash() if self.zones is not None else None

    @cached_property
    def extent(self) -> BaseGeometry:
        """What both scenes reach, in the CRS of the grid."""
        return find_extent(self.pair)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The questions."""
        return tuple(prompt.to_prompt() for prompt in self.config.prompts)

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
            fit=self.fit,
            store=store,
            answers=answers,
            stages=stages,
        )
        write_record(record, folder=self.folder)

    def watch(self, on_progress: ProgressCallback) -> ProgressCallback:
        """Give the callback that also stops a run which has lost its lock."""

        def tell(part: StageSummary) -> None:
            self.lock.check()
            on_progress(part)

        return tell

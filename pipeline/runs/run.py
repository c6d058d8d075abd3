"""The whole way of the data: from two scenes to a report in six calls, the same for the command line and for Prefect.

What goes around each of them is all that differs between the two: a bar that moves, or a task that is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, cast

from model.errors import InputError
from pipeline.answers.collect import collect_answers
from pipeline.answers.outlines import choose_outline_kinds
from pipeline.answers.parts import AnswerParts
from pipeline.config.run import RunConfig
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.report.result import Report
from pipeline.runs.inputs import check_inputs
from pipeline.runs.kept import recall_pair, recall_report
from pipeline.runs.prepare import Run
from pipeline.runs.record_files import recall_notes, recall_record
from pipeline.runs.restore import restore_answers, restore_store
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.lock import hold_lock
from pipeline.storage.opening import find_run_folder
from pipeline.summary import REPAIRS, ProgressCallback, StageSummary, ignore_progress
from pipeline.tiles.select import select_tiles
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile, TileTable
from pipeline.tiles.write import write_tiles
from pipeline.workers.late_client import LateClient

if TYPE_CHECKING:
    import geopandas as gpd
    from distributed import Client


OpenCluster: TypeAlias = "Callable[[], AbstractContextManager[Client]]"
"""Starts or finds workers; called only once the input is known to be right, and for a finished run only if need be."""

Result = TypeVar("Result")

StageCall = Callable[[ProgressCallback], tuple[Result, StageSummary]]
"""Carries out a stage, and tells the callback of its parts; called again, it does what is missing."""


class StageHook(Protocol):
    """What goes around each stage: it calls it, and again if it likes."""

    def __call__(self, stage: str, call: StageCall[Result], /) -> tuple[Result, StageSummary]:
        """Carry out a stage, such as ``find_pair``, and give what its call gave."""
        ...


def detect_changes(
    config: RunConfig,
    *,
    open_cluster: OpenCluster,
    on_progress: ProgressCallback = ignore_progress,
    around_stage: StageHook | None = None,
) -> Report:
    """Turn a before and an after scene into a change report; what the folder holds already is not done again.

    Args:
        config: The run.
        open_cluster: Gives the Dask client while its context lasts.
        on_progress: Called with what each stage, or each part of a long stage, has done.
        around_stage: Carries out each stage in a way of its own, such as several tries; ``on_progress`` then is not
            called.

    Raises:
        InputError: the input cannot be worked on; if that shows at once, nothing is written.
    """
    polygons = check_inputs(config)
    stages = Stages(around=around_stage or tell_progress(on_progress))
    pair = stages.find_pair(config, aoi=polygons.aoi)
    with Run.prepare(config, pair=pair, polygons=polygons) as run:
        with ExitStack() as stack:
            if run.is_finished:
                # As a rule nothing is missing, and workers take longer to start than all else.
                client = cast("Client", LateClient(lambda: _open_workers(run, open_cluster, stack=stack)[1]))
            else:
                run, client = _open_workers(run, open_cluster, stack=stack)
            store = stages.write_tiles(run, client=client)
            tiles = stages.select_tiles(run, store=store)
            answers = stages.collect_answers(run, tiles=tiles, store=store, client=client)
        if (kept := stages.recall_report(run, answers=answers)) is not None:
            return kept
        findings = stages.extract_findings(run, answers=answers, tiles=tiles, store=store)
        report = stages.write_report(run, findings=findings, tiles=tiles, store=store, answers=answers)
        run.write_record(report, store=store, answers=answers, stages=stages.summaries)
    return report


def _open_workers(run: Run, open_cluster: OpenCluster, *, stack: ExitStack) -> tuple[Run, Client]:
    client = stack.enter_context(open_cluster())
    return run.settle(client), client


def rebuild_report(
    uri: str, *, zones: Mapping[str, str | None] | None = None, on_progress: ProgressCallback = ignore_progress
) -> Report:
    """Write the report of a finished run anew from its answers; needs neither model nor scenes.

    While it is written the run counts as unfinished; if that is stopped, this can be called again.

    Args:
        uri: Folder of the run.
        zones: The settings ``zones``, ``zones_id_column`` and ``zones_name_column`` in the place of the run's own;
            None: those it was made with.
        on_progress: Called with what each stage has done.

    Raises:
        InputError: the folder holds no finished run, part of its store is gone, or its area of interest or its zones
            are gone, others, or cannot be used.
    """
    folder = find_run_folder(uri)
    record = recall_record(folder)
    with hold_lock(folder) as lock:
        folder = folder.guarded(lock.check, owner=lock.owner)
        run = Run.restore(record, folder=folder, lock=lock, zones=zones)
        store, answers = restore_store(record, folder=folder), restore_answers(record, folder=folder)
        if missing := store.list_missing_shards(area=run.area):
            raise InputError(
                f"{uri} lacks {len(missing)} shards of its tile store, such as {missing[0]}",
                expected="the store that the run has left",
                remedy="run `deltavlm run` again with this --output: it writes what is missing",
            )
        stages = Stages(around=tell_progress(on_progress))
        tiles = stages.select_tiles(run, store=store)
        findings = stages.extract_findings(run, answers=answers, tiles=tiles, store=store)
        report = stages.write_report(run, findings=findings, tiles=tiles, store=store, answers=answers)
        former = [StageSummary(**stage) for stage in record.stages]
        run.write_record(report, store=store, answers=answers, stages=former)
    return report


def tell_progress(on_progress: ProgressCallback) -> StageHook:
    """Give the hook that calls a stage and tells of its parts, or of the whole where it has none."""

    def carry_out(_: str, call: StageCall[Result]) -> tuple[Result, StageSummary]:
        parts: list[str] = []

        def tell(part: StageSummary) -> None:
            parts.append(part.stage)
            on_progress(part)

        result, summary = call(tell)
        if not parts:
            on_progress(summary)
        return result, summary

    return carry_out


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages of one run, in the order of the methods."""

    around: StageHook = field(default_factory=lambda: tell_progress(ignore_progress))
    """Carries out each of them."""
    summaries: list[StageSummary] = field(default_factory=list)
    """What each has done so far."""

    def find_pair(self, config: RunConfig, *, aoi: AreaOfInterest | None) -> ScenePair:
        """Find the scenes and lay the grid, before there is anything of the run."""
        return self._carry_out("find_pair", lambda _: find_pair(config, aoi=aoi, known=recall_pair(config)))

    def write_tiles(self, run: Run, *, client: Client) -> TileStore:
        """Write what is missing of the tile store."""
        return self._carry_out(
            "write_tiles",
            lambda tell: write_tiles(
                run.pair,
                folder=run.folder,
                config=run.config.tiles,
                client=client,
                max_in_flight=run.config.cluster.max_batches_in_flight,
                area=run.area,
                limits=run.config.limits,
                on_progress=run.watch(tell),
            ),
        )

    def select_tiles(self, run: Run, *, store: TileStore) -> TileTable:
        """Choose the tiles that are asked about."""
        return self._carry_out(
            "select_tiles",
            lambda _: select_tiles(
                store,
                area=run.area,
                min_valid_fraction=run.config.tiles.min_valid_fraction,
                max_cloud_fraction=run.config.tiles.max_cloud_fraction,
                extent=run.extent,
            ),
        )

    def collect_answers(self, run: Run, *, tiles: Sequence[Tile], store: TileStore, client: Client) -> AnswerParts:
        """Ask what has not been answered yet."""
        return self._carry_out(
            "collect_answers",
            lambda tell: collect_answers(
                tiles,
                store=store,
                prompts=run.prompts,
                model=run.config.model,
                identity=run.identity,
                client=client,
                max_in_flight=run.config.cluster.max_batches_in_flight,
                dates=(run.pair.before.datetime, run.pair.after.datetime),
                outline_kinds=choose_outline_kinds(run.config.model.outlines, mask_labels=run.identity.mask_labels),
                limits=run.config.limits,
                on_progress=run.watch(tell),
            ),
        )

    def recall_report(self, run: Run, *, answers: AnswerParts) -> Report | None:
        """Give the report as a finished run has left it, if there is nothing to change about it."""
        kept = recall_report(run.folder, config=run.config, run_id=run.run_id, answers=answers)
        return None if kept is None else self._carry_out("write_report", lambda _: kept)

    def extract_findings(
        self, run: Run, *, answers: AnswerParts, tiles: Sequence[Tile], store: TileStore
    ) -> gpd.GeoDataFrame:
        """Make a row of every tile."""
        # What makes tables and pages takes seconds to import, and a run that is complete needs none of it.
        from pipeline.runs.reporting import extract_run_findings

        return self._carry_out(
            "extract_findings", lambda _: extract_run_findings(run, answers=answers, tiles=tiles, store=store)
        )

    def write_report(
        self, run: Run, *, findings: gpd.GeoDataFrame, tiles: TileTable, store: TileStore, answers: AnswerParts
    ) -> Report:
        """Write the report, and the STAC item that describes its files; the run is unfinished until its record."""
        from pipeline.runs.reporting import write_run_report

        return self._carry_out(
            "write_report",
            lambda _: write_run_report(
                run, findings=findings, tiles=tiles, store=store, answers=answers, notes=self._list_notes(run)
            ),
        )

    def _list_notes(self, run: Run) -> list[str]:
        """List what is known of all of the run, what its stages told among it, also when they were done before.

        How often is left to the stages' own entries in the record: of a run in several goes each tells a part.
        """
        told = [note for summary in self.summaries for note in summary.notes if note not in REPAIRS]
        return list(dict.fromkeys([*run.notes, *recall_notes(run.folder, run_id=run.run_id), *told]))

    def _carry_out(self, stage: str, call: StageCall[Result]) -> Result:
        result, summary = self.around(stage, call)
        self.summaries.append(summary)
        return result

"""What a finished run need not find out again: how its dates lie, and a report that would be made just as it is.

Both hold only for the very program that found them out, as its versions and a hash of its code tell.
"""

from __future__ import annotations

import time

from model.errors import InputError
from pipeline.answers.parts import AnswerParts
from pipeline.config.run import RunConfig, describe_settings
from pipeline.report.result import STAGE, Report
from pipeline.reviews.store import REVIEWS_FOLDER
from pipeline.runs.record import RECORD_NAME
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_pair
from pipeline.runs.versions import list_versions
from pipeline.scenes.pair import ScenePair
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import describe_objects
from pipeline.storage.opening import find_folder
from pipeline.summary import StageSummary


def recall_pair(config: RunConfig) -> ScenePair | None:
    """Give the pair of the finished run that lies where a run is to write, if it was registered in the same way.

    Args:
        config: The run that is to be made.

    Returns:
        The pair as that run has recorded it, of whatever scenes; None where there is none.
    """
    folder = find_folder(config.output, retry_timeout_s=config.storage.retry_timeout_s)
    try:
        if not folder.has(RECORD_NAME):
            return None
        record = read_record(folder)
        is_same = record.config["registration"] == describe_settings(config)["registration"]
        return restore_pair(record) if is_same and record.versions == list_versions() else None
    except (InputError, KeyError, TypeError, ValueError):
        return None


def recall_report(
    folder: RunFolder, *, config: RunConfig, run_id: str, answers: AnswerParts
) -> tuple[Report, StageSummary] | None:
    """Give the report that a run's folder holds, if it is whole and would be made anew just as it is.

    Args:
        folder: Folder of the run.
        config: The run, whose record would tell the same settings.
        run_id: Name of the run by all that its report depends on.
        answers: The run's answers.

    Returns:
        The report, and what was done about it; None where it has to be made: there is none, its files or the answers
        are others than recorded, another version of this program made it, or people have reviewed it since.
    """
    start = time.perf_counter()
    try:
        record = read_record(folder)
        if record.reviews is not None or folder.list_sizes(REVIEWS_FOLDER):
            return None
        made_by = (record.run_id, record.versions, record.config)
        if made_by != (run_id, list_versions(), describe_settings(config)):
            return None
        parts = answers.describe()
        files = {name: facts for name, facts in record.files.items() if name not in parts}
        found = describe_objects(folder, names=tuple(files)) | parts
    except (InputError, FileNotFoundError):
        return None
    if found != record.files:
        return None
    report = Report(
        folder=folder,
        files={name: dict(facts) for name, facts in files.items()},
        reason_counts=record.reason_counts,
        changed_tile_count=record.changed_tile_count,
        change_counts=record.change_counts,
        left_out_counts=record.left_out_counts,
        thing_counts=record.thing_counts,
        coverage=record.coverage,
        model_fit_counts=record.model_fit_counts,
        notes=record.notes,
        zone_counts=record.zone_counts,
    )
    n_files, seconds = len(report.names), time.perf_counter() - start
    return report, StageSummary(stage=STAGE, done=n_files, total=n_files, seconds=seconds)

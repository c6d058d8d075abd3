"""What a run's folder keeps of an assessment: the sample beside the reviews, and what comes of both."""

from __future__ import annotations

from typing import Any

from model.errors import InputError
from pipeline.accuracy.assess import FORMAT_VERSION, assess_report
from pipeline.accuracy.figures import ReportFacts
from pipeline.accuracy.sample import Sample
from pipeline.reviews.store import REVIEWS_FOLDER, read_reviews
from pipeline.storage.folder import RunFolder

SAMPLE_NAME = f"{REVIEWS_FOLDER}/sample.json"


def has_sample(folder: RunFolder) -> bool:
    """Tell whether a sample was drawn in a run's folder."""
    return folder.has(SAMPLE_NAME)


def read_sample(folder: RunFolder) -> Sample | None:
    """Read the sample that was drawn in a run's folder; None where none was.

    Raises:
        InputError: it is damaged.
    """
    try:
        data = folder.read(SAMPLE_NAME)
    except FileNotFoundError:
        return None
    return Sample.from_json(data, source=folder.join(SAMPLE_NAME))


def write_sample(sample: Sample, *, folder: RunFolder) -> None:
    """Keep a sample in the place of a former one."""
    folder.put(SAMPLE_NAME, sample.to_json())


def find_accuracy(folder: RunFolder, *, facts: ReportFacts) -> dict[str, Any] | None:
    """Give what is known of a report's accuracy, from what its folder keeps; None where no sample was drawn.

    Raises:
        FolderError: the folder cannot be read.
    """
    try:
        sample = read_sample(folder)
    except InputError as problem:
        # A report is made all the same, and says so.
        unknown = {"format_version": FORMAT_VERSION, "run_id": facts.run_id, "model_id": facts.model_id}
        return {**unknown, "sample": None, "problems": [f"{SAMPLE_NAME}: {problem.found}"], "notes": []}
    return None if sample is None else assess_report(sample, facts=facts, log=read_reviews(folder))

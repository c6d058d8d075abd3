"""What a recorded run was made of and holds, given back from its record."""

from __future__ import annotations

from model.certainty import Certainty
from model.errors import InputError
from model.interface import ModelIdentity
from pipeline.answers.parts import AnswerParts
from pipeline.grid.grid import Grid
from pipeline.runs.record import RunRecord
from pipeline.scenes.composite import restore_scene
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.registration import Registration
from pipeline.scenes.stretch import Stretch
from pipeline.storage.folder import RunFolder
from pipeline.tiles.store import TileStore


def restore_identity(record: RunRecord) -> ModelIdentity:
    """Give the model of a recorded run, but for where its files are.

    Raises:
        InputError: the record tells something else than was measured of the model.
    """
    try:
        certainty = None if record.certainty is None else Certainty.from_dict(record.certainty)
    except ValueError as problem:
        raise InputError(
            f"what run {record.run_id} tells of its model's certainty cannot be read ({problem})",
            expected="the record of this version",
            remedy="run `deltavlm run` again with this --output",
        ) from None
    return ModelIdentity(
        model_id=record.model["model_id"],
        weight_hash=record.model["weight_hash"],
        path="",
        mask_labels=tuple(record.mask_labels),
        certainty=certainty,
    )


def restore_pair(record: RunRecord) -> ScenePair:
    """Give the scenes and the grid of a recorded run.

    Raises:
        InputError: the record tells of no such scenes.
    """
    try:
        return ScenePair(
            before=restore_scene(record.inputs["before"]),
            after=restore_scene(record.inputs["after"]),
            grid=Grid.from_dict(record.grid),
            resampling=record.config["tiles"]["resampling"],
            stretch=Stretch.from_dict(record.inputs["stretch"]),
            registration=Registration.from_dict(found) if (found := record.inputs.get("registration")) else None,
            content_key=record.content_key,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(
            f"what run {record.run_id} tells of its scenes cannot be read ({type(problem).__name__}: {problem})",
            expected="the record of this version",
            remedy="run `deltavlm run` again with this --output",
        ) from None


def restore_store(record: RunRecord, *, folder: RunFolder) -> TileStore:
    """Give the tile store of a recorded run."""
    return TileStore(
        folder=folder,
        grid=Grid.from_dict(record.grid),
        content_key=record.content_key,
        shard_size_tiles=int(record.config["tiles"]["shard_size_tiles"]),
        failed_shards={(row, col): why for row, col, why in record.failed_shards},
        gaps={(row, col): why for row, col, why in record.gaps},
    )


def restore_answers(record: RunRecord, *, folder: RunFolder) -> AnswerParts:
    """Give the answers of a recorded run."""
    names, outline_names = (
        tuple(sorted(name for name in record.files if name.startswith(prefix))) for prefix in ("answers/", "outlines/")
    )
    return AnswerParts(folder=folder, names=names, outline_names=outline_names, failures=record.failures)

"""Look before the leap: what a run would do and everything wrong about it, or what a run's folder holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.interface import ModelIdentity
from model.redaction import redact_uri
from model.registry import identify_named_model
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import SCENE_KEYS, RunConfig
from pipeline.config.scene import SceneConfig
from pipeline.config.sound import SoundPart, load_sound_part
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.runs.inputs import list_checks
from pipeline.runs.model_fit import check_model_fit
from pipeline.runs.record import RECORD_NAME
from pipeline.runs.record_files import PENDING_NAME, read_record
from pipeline.scenes.pair import ScenePair, choose_search_area, make_block, make_pair
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import find_run_folder
from pipeline.workers.memory import advise_precision

Figure = str | int | float
ClusterCheck = Callable[[ClusterConfig], None]


@dataclass(kw_only=True)
class Facts:
    """What a check found out."""

    figures: dict[str, Figure] = field(default_factory=dict)
    """What there is to know, by what it is called; units stand in the names."""
    problems: list[str] = field(default_factory=list)
    """What would keep the run from succeeding, or is damaged; empty: nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)

    @contextmanager
    def gather_problems(self) -> Iterator[None]:
        """Turn an input error inside the context into one of the problems, and go on."""
        try:
            yield
        except InputError as problem:
            self.problems.append(str(problem))


def check_config(
    path: str | Path | None,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    check_cluster: ClusterCheck | None = None,
) -> Facts:
    """Find every problem of a run and say how large it would be; reads headers and writes nothing.

    Args:
        path: YAML file with the keys of `RunConfig`; None: there is none.
        values: Keys on top of the file; None values are left out. An output is not needed.
        assignments: ``key=value`` settings on top.
        check_cluster: What raises InputError where the workers asked for cannot be had; starts none.

    Raises:
        InputError: the file cannot be read, or an assignment has no ``=``.
    """
    sound = load_sound_part(path, values=values, assignments=assignments)
    config, facts = sound.config, Facts(problems=list(sound.problems))
    results: dict[str, Any] = {}
    for setting, check in list_checks(config).items():
        if setting not in sound.unknown:
            with facts.gather_problems():
                results[setting] = check()
    if check_cluster is not None and "cluster" not in sound.unknown:
        with facts.gather_problems():
            check_cluster(config.cluster)
    aoi: AreaOfInterest | None = results.get("aoi")
    scenes, pair = _read_scenes(sound, area=choose_search_area(config, aoi=aoi), facts=facts), None
    if len(scenes) == len(SCENE_KEYS):
        with facts.gather_problems():
            pair = make_pair(**scenes, config=config)
            facts.figures |= _measure(pair, config=config)
            if aoi is not None:
                aoi.lay_on(pair.grid, block=make_block(config))
    if results.get("zones") is not None:
        facts.figures["n_zones"] = len(results["zones"])
    if "model" in results:
        facts.figures["worker_memory_bytes_at_least"] = results["model"]
        with facts.gather_problems():
            identity = _check_weights(config)
            if (advice := advise_precision(config)) is not None:
                facts.figures["precision_note"] = advice
            if pair is not None and (note := check_model_fit(pair, identity=identity, config=config.model)):
                facts.figures["model_note"] = note
    return facts


def _read_scenes(sound: SoundPart, *, area: BaseGeometry | None, facts: Facts) -> dict[str, Scene]:
    """Read the scenes that can be read; what is wrong with the others goes to the problems."""
    scenes = {}
    for date in SCENE_KEYS:
        scene: SceneConfig = getattr(sound.config, date)
        if date not in sound.unknown:
            with facts.gather_problems():
                allow_private = sound.config.storage.allow_private_hosts
                scenes[date] = read_scene(scene, date=date, area=area, allow_private=allow_private)
    return scenes


def _measure(pair: ScenePair, *, config: RunConfig) -> dict[str, Figure]:
    grid = pair.grid
    shard = config.tiles.shard_size_tiles
    n_tiles = grid.n_rows * grid.n_cols
    height_px, width_px = grid.shape_px
    scenes = (("before", pair.before), ("after", pair.after))
    notes: dict[str, Figure] = {f"{date}_notes": "; ".join(scene.notes) for date, scene in scenes if scene.notes}
    return notes | {
        "before": " ".join(map(redact_uri, pair.before.uris)),
        "before_datetime": pair.before.datetime or "unknown",
        "after": " ".join(map(redact_uri, pair.after.uris)),
        "after_datetime": pair.after.datetime or "unknown",
        "grid_crs": grid.crs,
        "resolution_m": grid.resolution_m,
        "overlap_width_px": grid.width_px,
        "overlap_height_px": grid.height_px,
        "n_tiles": n_tiles,
        "n_rows": grid.n_rows,
        "n_cols": grid.n_cols,
        "n_batches_at_most": -(-grid.n_rows // shard) * -(-grid.n_cols // shard),
        "n_answers_at_most": n_tiles * len(config.prompts),
        # Two dates of three bands and one of validity, a byte each.
        "store_bytes_before_compression": height_px * width_px * 2 * 4,
    }


def _check_weights(config: RunConfig) -> ModelIdentity:
    """Hash the weights of the model as the run would, and read its config where it has one.

    Returns:
        Which model it is.

    Raises:
        InputError: there is no such model, or its files are damaged.
    """
    identity = identify_named_model(config.model.name)
    if not identity.path or not (Path(identity.path) / "config.json").is_file():
        return identity
    # Not before it is asked for: it brings torch.
    from model.loading import read_config

    try:
        read_config(identity.path)
    except InputError as problem:
        raise problem.about("model.name: ") from None
    return identity


def check_run(uri: str) -> Facts:
    """Tell what a run's folder holds, and which of its files are not what ``run.json`` says.

    Raises:
        InputError: the folder holds no run, finished or not.
    """
    folder = find_run_folder(uri)
    n_marks, n_parts = len(folder.list_names("marks")), len(folder.list_names("answers"))
    facts = Facts(figures={"state": "unfinished", "n_shards_written": n_marks, "n_answer_parts": n_parts})
    if folder.has(RECORD_NAME):
        record = read_record(folder)
        statuses = {f"n_tiles_{status}": count for status, count in record.status_counts.items() if count}
        changes = {f"n_changes_{kind}": count for kind, count in record.change_counts.items()}
        facts.figures |= {"state": "complete", "run_id": record.run_id, "model_id": record.model["model_id"]}
        facts.figures |= statuses | changes
        facts.figures |= {
            f"n_tiles_{status}: {reason}": count
            for status, counts in record.reason_counts.items()
            for reason, count in counts.items()
        }
        facts.problems += [
            f"{name} {fault}" for name in record.files if (fault := _find_fault(folder, name, record.files[name]))
        ]
    elif folder.has(PENDING_NAME):
        with facts.gather_problems():
            read_record(folder)
    elif not n_marks and not n_parts:
        raise InputError(f"{uri} holds no run", expected="a run's folder or a config", remedy="correct the path")
    return facts


def _find_fault(folder: RunFolder, name: str, expected: Any) -> str | None:
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return "is missing"
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        return f"has {len(data)} bytes of other content than the {expected['size_bytes']} of run.json"
    return None

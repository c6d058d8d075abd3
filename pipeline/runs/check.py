"""Look before the leap: what a run would do and everything wrong about it, or what a run's folder holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.redaction import redact_uri
from model.registry import identify_named_model
from pipeline.config.run import RunConfig, load_config
from pipeline.findings.extract import make_findings_schema
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.runs.record import PENDING_NAME, RECORD_NAME, read_record, read_run_zones
from pipeline.scenes.pair import ScenePair, choose_search_area, make_pair
from pipeline.scenes.reader import read_scene
from pipeline.storage.folder import RunFolder, check_foreign, find_folder, find_run_folder
from pipeline.uris import is_remote

Figure = str | int | float


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


def check_config(path: str, *, assignments: Sequence[str] = ()) -> Facts:
    """Find every problem of a run and say how large it would be; reads headers and writes nothing.

    Args:
        path: YAML file with the keys of `RunConfig`.
        assignments: ``key=value`` settings on top.

    Raises:
        InputError: the file is no config at all, so that nothing more can be said.
    """
    config = load_config(path, assignments=assignments)
    facts = Facts()
    scenes, aoi = [], None
    with facts.gather_problems():
        aoi = None if config.aoi is None else AreaOfInterest.read(config.aoi)
    area = choose_search_area(config, aoi=aoi)
    for date, scene in (("before", config.before), ("after", config.after)):
        with facts.gather_problems():
            scenes.append(read_scene(scene, date=date, area=area))
    if len(scenes) == 2:
        with facts.gather_problems():
            pair = make_pair(*scenes, config=config)
            facts.figures |= _measure(pair, config=config)
            if aoi is not None:
                aoi.lay_on(pair.grid)
    with facts.gather_problems():
        if (zones := read_run_zones(config)) is not None:
            facts.figures["n_zones"] = len(zones)
    checks: list[Callable[[], object]] = [
        lambda: _check_model(config),
        lambda: make_findings_schema([prompt.to_prompt() for prompt in config.prompts]),
        lambda: _check_writable(config.output),
    ]
    for check in checks:
        with facts.gather_problems():
            check()
    return facts


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


def _check_model(config: RunConfig) -> None:
    """Look for the model, and read its config where it has one.

    Raises:
        InputError: there is no such model, or its files are damaged.
    """
    path = identify_named_model(config.model.name).path
    if not path or not (Path(path) / "config.json").is_file():
        return
    # Not before it is asked for: it brings torch.
    from model.loading import read_config

    try:
        read_config(path)
    except InputError as problem:
        raise problem.about("model.name: ") from None


def _check_writable(output: str) -> None:
    if is_remote(output) or Path(output).is_dir():
        check_foreign(find_folder(output))
    if is_remote(output):
        return
    place = Path(output).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"output {output} cannot be written to ({place})",
            expected="a folder that can be made or written to",
            remedy="choose another --output or change its permissions",
        )


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

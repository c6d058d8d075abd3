"""From the settings of a scene to the scene, of one date or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.scene import CompositeConfig, SceneConfig
from pipeline.grid.grid import Grid
from pipeline.scenes.composite import CompositeScene, compose
from pipeline.scenes.files import SceneFiles
from pipeline.scenes.locate import resolve_dates
from pipeline.scenes.reader import open_scene, read_scene
from pipeline.scenes.scene import Scene
from pipeline.scenes.stretch import Samples
from pipeline.scenes.stretch_sample import MAX_SAMPLE_PX, read_sample
from pipeline.scenes.threads import map_at_once

_LISTED = 5


def find_scene(
    config: SceneConfig, *, date: str, area: BaseGeometry | None = None, allow_private: bool = False
) -> Scene:
    """Read what the rasters of a scene tell about themselves, of one date or of several.

    Dates of a composite that cannot be read are left out, with a note.

    Args:
        config: Where it is, and what the user knows better than the files.
        date: ``before`` or ``after``, to name the config key in errors.
        area: Where a scene that has to be searched for is to be, in WGS84 longitude and latitude.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: as of `read_scene`; of several dates, not one can be worked on.
    """
    if config.composite is None:
        return read_scene(config, date=date, area=area, allow_private=allow_private)
    try:
        return _compose(config, config.composite, date=date, area=area, allow_private=allow_private)
    except InputError as refusal:
        raise refusal.about(f"{date}: ") from None


def _compose(
    config: SceneConfig, rule: CompositeConfig, *, date: str, area: BaseGeometry | None, allow_private: bool
) -> CompositeScene:
    found, notes = resolve_dates(config, composite=rule, date=date, area=area, allow_private=allow_private)

    def open_one(files: SceneFiles) -> Scene | InputError:
        try:
            return open_scene(files, config=config, date=date, allow_private=allow_private, is_quick=True)
        except InputError as problem:
            return problem

    opened = map_at_once(open_one, found)
    scenes = [scene for scene in opened if isinstance(scene, Scene)]
    outcomes = zip(found, opened, strict=True)
    problems = [(files.scene_id, problem) for files, problem in outcomes if isinstance(problem, InputError)]
    if not scenes:
        raise problems[0][1]
    own = dict.fromkeys(note for scene in scenes for note in scene.notes)
    notes = [*notes, *_describe_problems(problems, n_dates=len(found)), *own]
    return compose(scenes, rule=rule.rule, cloud_buffer_m=rule.cloud_buffer_m, notes=notes)


def _describe_problems(problems: Sequence[tuple[str, InputError]], *, n_dates: int) -> Iterator[str]:
    if problems:
        yield f"is made of {n_dates - len(problems)} of {n_dates} dates: {len(problems)} could not be read"
        yield from (f"does without {name}: {problem.found}" for name, problem in problems[:_LISTED])


def read_scene_sample(scene: Scene, *, grid: Grid) -> Samples:
    """Read physical values as `read_sample` does; of several dates, of one after the other until they are enough.

    Raises:
        InputError: a file cannot be read; of several dates, not one can.
    """
    if not isinstance(scene, CompositeScene):
        return read_sample(scene, grid=grid)
    enough = min(MAX_SAMPLE_PX, grid.height_px * grid.width_px) / 2
    samples: list[Samples] = []
    problems = []
    for date in scene.dates:
        try:
            samples.append(read_sample(date, grid=grid))
        except InputError as problem:
            problems.append(problem)
        if sum(len(sample[0]) for sample in samples) >= enough:
            break
    if not samples:
        raise problems[0]
    return [np.concatenate(bands) for bands in zip(*samples, strict=True)]

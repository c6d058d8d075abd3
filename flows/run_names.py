"""What a run is called in Prefect's lists: its folder, and the two dates or scenes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from model.redaction import redact_text, shorten_text
from model.safe_text import clean_line
from pipeline.config.run import RunConfig
from pipeline.config.scene import SceneConfig, list_scene_uris

UNNAMED = "detect-changes"
MAX_NAME_LENGTH = 120


def name_run(config: RunConfig | dict[str, Any] | None) -> str:
    """Name a run before anything is read; wrong input, which ends it at once, has a name as well.

    Args:
        config: The run as Prefect has it: the config itself, or its plain values.
    """
    try:
        run = RunConfig.model_validate(config)
    except ValidationError:
        return UNNAMED
    folder = PurePosixPath(urlsplit(run.output).path).name or UNNAMED
    text = redact_text(f"{folder}: {name_scene(run.before)} to {name_scene(run.after)}")
    return shorten_text(clean_line(text), max_length=MAX_NAME_LENGTH)


def name_scene(scene: SceneConfig) -> str:
    """Name a scene by its day, else by the time that is searched, else by its file."""
    if scene.datetime is not None:
        return scene.datetime.date().isoformat()
    if scene.stac is not None:
        return scene.stac.datetime or PurePosixPath(urlsplit(scene.stac.href).path).stem or "STAC"
    return PurePosixPath(urlsplit(list_scene_uris(scene)[0]).path).stem

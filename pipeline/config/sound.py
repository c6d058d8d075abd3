"""The sound part of a run's config that has mistakes, so that the rest of the run can be looked at, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.settings import Mistake, explain_mistakes, try_settings
from pipeline.config.loading import COMMAND_LINE
from pipeline.config.run import (
    DESCRIBED_IN,
    REQUIRED_KEYS,
    SCENE_KEYS,
    ZONE_KEYS,
    RunConfig,
    explain_missing,
    read_run_tree,
)

_MAX_ROUNDS = 8
_STAND_IN = "missing"
_KEPT = (*REQUIRED_KEYS, *ZONE_KEYS, "aoi", "model")


@dataclass(frozen=True, kw_only=True)
class SoundPart:
    """What can be looked at of a config, and what is wrong with the rest."""

    config: RunConfig
    """Defaults stand in for what is wrong."""
    problems: tuple[str, ...]
    """What is wrong."""
    unknown: frozenset[str]
    """Scenes and output that are missing or wrong: there is nothing to look at."""


def load_sound_part(
    path: str | Path | None, *, values: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> SoundPart:
    """Load a config as `load_config` does, but leave out what is wrong instead of giving up; it needs no output.

    Raises:
        InputError: the file cannot be read, or an assignment has no ``=``.
    """
    tree = read_run_tree(path, values=values, assignments=assignments)
    unknown = {key for key in REQUIRED_KEYS if tree.get(key) is None}
    problems: list[str] = []
    if missing := [key for key in SCENE_KEYS if key in unknown]:
        problems.append(str(explain_missing(missing, tree=tree, path=path)))
    tree |= dict.fromkeys(unknown, _STAND_IN)
    for _ in range(_MAX_ROUNDS):
        config, mistakes = try_settings(RunConfig, tree)
        if config is not None:
            return SoundPart(config=config, problems=tuple(problems), unknown=frozenset(unknown))
        for mistake in mistakes:
            told = explain_mistakes([mistake], source=path or COMMAND_LINE, described_in=DESCRIBED_IN)
            problems.append(str(told))
            unknown |= _leave_out(tree, mistake)
    least = RunConfig.model_validate(dict.fromkeys(REQUIRED_KEYS, _STAND_IN))
    return SoundPart(config=least, problems=tuple(dict.fromkeys(problems)), unknown=frozenset(REQUIRED_KEYS))


def _leave_out(tree: dict[str, Any], mistake: Mistake) -> set[str]:
    """Take a mistake out of a tree; gives the required key that has to be done without, if it is one."""
    keys = mistake.keys
    if not keys:
        # Settings that do not go together, whichever they are.
        for key in set(tree) - set(_KEPT):
            del tree[key]
        return set()
    if keys[0] in REQUIRED_KEYS and not mistake.is_unknown_key:
        tree[keys[0]] = _STAND_IN
        return {keys[0]}
    _delete(tree, keys)
    return set()


def _delete(tree: dict[str, Any], keys: Sequence[str]) -> None:
    """Delete the deepest of nested keys that is there."""
    below = tree.get(keys[0])
    if isinstance(below, Mapping) and len(keys) > 1 and keys[1] in below:
        tree[keys[0]] = inner = dict(below)
        _delete(inner, keys[1:])
    else:
        tree.pop(keys[0], None)

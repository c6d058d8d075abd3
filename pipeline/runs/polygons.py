"""The polygons that a run is told of, its area of interest and its zones.

They are known by their hashes: read again, they have to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError
from model.redaction import MASK
from pipeline.config.run import RunConfig

if TYPE_CHECKING:
    from pipeline.polygons.zones import Zones

_TITLES = {"aoi": "area of interest", "zones": "zones"}
_REMEDIES = {
    "aoi": "put the former file back, or run `deltavlm run` again",
    "zones": "put the former file back, or name the one to take with `deltavlm report RUN --zones`",
}


def name_absolutely(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings with files of polygons named so that a report can be made anew from any working directory."""
    files = {key: settings[key] for key in _TITLES if settings.get(key) is not None and "://" not in settings[key]}
    return {**settings, **{key: str(Path(file).absolute()) for key, file in files.items()}}


def read_run_zones(config: RunConfig) -> Zones | None:
    """Read the zones that a config names; None without.

    Raises:
        InputError: they cannot be used.
    """
    if config.zones is None:
        return None
    # pandas and geopandas take as long to import as a finished run needs to see that it is finished.
    from pipeline.polygons.zones import read_zones

    return read_zones(config.zones, id_column=config.zones_id_column, name_column=config.zones_name_column)


def check_readable(config: RunConfig) -> None:
    """Refuse a recorded place of polygons that lost its credentials on the way into the record.

    Raises:
        InputError: there is such a one.
    """
    for key, title in _TITLES.items():
        uri = getattr(config, key)
        if uri is not None and MASK in uri:
            raise InputError(
                f"{title} {uri} cannot be read again: the run's record keeps no credentials",
                expected="polygons that can be read without",
                remedy="run `deltavlm run` again with the whole URI: only the report is made anew",
            )


def check_unchanged(
    config: RunConfig, *, inputs: Mapping[str, Any], hashes: Mapping[str, str | None], run_id: str
) -> None:
    """Refuse files with other polygons than those that a run was made with.

    Args:
        config: The run, which names the files.
        inputs: What the run's record tells of its inputs.
        hashes: Hashes of what the files hold now, under ``aoi`` and ``zones``; None is not looked at.
        run_id: Name of the recorded run.

    Raises:
        InputError: they are others.
    """
    for key, found in hashes.items():
        recorded = (inputs.get(key) or {}).get("sha256")
        if found is not None and found != recorded:
            raise InputError(
                f"{_TITLES[key]} {getattr(config, key)} has changed since run {run_id}",
                expected="the polygons that the run was made with",
                remedy=_REMEDIES[key],
            )

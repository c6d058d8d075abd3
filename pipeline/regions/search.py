"""The one place that looks for a region's scenes: in STAC, or in a folder; no raster is opened."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from obstore.exceptions import BaseError as ObstoreError
from obstore.store import HTTPStore, ObjectStore
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.config.region_sources import FolderSourceConfig, SourceConfig, StacSourceConfig
from pipeline.config.scene import CompositeConfig, SceneConfig
from pipeline.dates import Interval, compile_name_pattern
from pipeline.regions.dates import DatedScene
from pipeline.scenes.days import LeftOut, ScenePiece
from pipeline.storage.listing import list_objects
from pipeline.storage.object_store import open_store
from pipeline.uris import is_remote

_RETRY_TIMEOUT_S = 30.0
_SLACK = dt.timedelta(minutes=1)
# ^ What a new processing may move the time of an acquisition by.
_HIDDEN_FOLDERS = frozenset(
    {"$recycle.bin", "lost+found", "@eadir", "#recycle", "__macosx", "system volume information"}
)
# ^ Where systems keep what was thrown away, and what is theirs. What begins with a dot is hidden as well.


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file below a folder of scenes."""

    name: str
    """Path below the folder, with / between."""
    version: str
    """Etag, or size and time of the last change."""


def list_pieces(
    source: SourceConfig, *, area: BaseGeometry, windows: Sequence[Interval], allow_private: bool = False
) -> tuple[list[ScenePiece], list[LeftOut]]:
    """Find everything in some windows of time that may be a scene or a part of one.

    Args:
        source: Where to look.
        area: What scenes are to cover, in WGS84 degrees.
        windows: When it was acquired; one that ends before it starts holds nothing.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Returns:
        What was found, and what was found and cannot be used, with the reason.

    Raises:
        InputError: the source cannot be read or searched.
    """
    sound = [window for window in windows if _is_sound(window)]
    if isinstance(source, StacSourceConfig):
        return _search(source, area=area, windows=sound, allow_private=allow_private)
    return read_names(list_files(source.folder), source=source, windows=sound)


def choose_search_area(source: SourceConfig, *, area: BaseGeometry) -> BaseGeometry:
    """Give what scenes are to cover: the area of interest, or the box that the search has of its own."""
    from pipeline.scenes.stac.filters import choose_area

    found = choose_area(source.search, area=area) if isinstance(source, StacSourceConfig) else area
    return area if found is None else found


def read_names(
    files: Sequence[FoundFile], *, source: FolderSourceConfig, windows: Sequence[Interval]
) -> tuple[list[ScenePiece], list[LeftOut]]:
    """Make pieces of the files whose names have the form of scenes' and a date within some windows."""
    pattern = compile_name_pattern(source.files)
    pieces: list[ScenePiece] = []
    left_out: list[LeftOut] = []
    for file in files:
        if not pattern.matches(file.name):
            continue
        if (written := file.name.encode("utf-8", "backslashreplace").decode()) != file.name:
            left_out.append(LeftOut(name=written, reason="its name is not in UTF-8"))
            continue
        try:
            moment = pattern.read_datetime(file.name)
        except ValueError as problem:
            left_out.append(LeftOut(name=file.name, reason=str(problem)))
            continue
        if any(window.touches(moment, moment) for window in windows):
            pieces.append(ScenePiece(piece_id=file.name, start=moment, version=file.version))
    return pieces, left_out


def list_files(folder: str) -> list[FoundFile]:
    """List all files below a folder, by name, but those that are hidden or were thrown away.

    Raises:
        InputError: there is no such folder, or its server does not list it.
    """
    found = _walk(folder) if not is_remote(folder) else _list_objects(folder)
    return sorted((file for file in found if not _is_hidden(file.name)), key=lambda file: file.name)


def _list_objects(folder: str) -> list[FoundFile]:
    try:
        store = _open_folder(folder)
        entries = list_objects(store)
    except (ObstoreError, OSError) as failure:
        raise InputError(
            f"source.folder {redact_uri(folder)} cannot be listed ({str(failure).partition(chr(10))[0][:300]})",
            expected="a bucket that may be listed and is no longer than that, or a server with WebDAV",
            remedy="check the address and the credentials in the environment (AWS_*), or describe the scenes in STAC",
        ) from None
    return [FoundFile(name=entry["path"], version=_describe_version(entry)) for entry in entries]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part.casefold() in _HIDDEN_FOLDERS for part in name.split("/"))


def make_scene_config(
    scene: DatedScene, *, source: SourceConfig, composite: CompositeConfig | None = None
) -> SceneConfig:
    """Say to a run which scene is meant.

    Args:
        scene: One day's, or several that make one.
        source: Where scenes are.
        composite: The rule that several go together by.
    """
    settings = source.scene.model_dump()
    dates = scene.dates or (scene,)
    starts = tuple(date.start for date in dates)
    if composite is not None:
        settings["composite"] = composite.model_copy(update={"datetimes": starts})
    if isinstance(source, StacSourceConfig):
        # Catalogs without collections call the same place by the same id on every date: the day is part of the name.
        days = Interval(start=min(starts) - _SLACK, end=max(starts) + dt.timedelta(days=1))
        known: dict[str, Any] = {"ids": tuple(dict.fromkeys(scene.piece_ids)), "datetime": days.format()}
        collections = {date.collection for date in dates}
        if None not in collections:
            known["collections"] = tuple(sorted(filter(None, collections)))
        # By their ids they are few, however many else would fit; and whether they fit was decided already.
        search = source.search.model_copy(update={**known, "max_cloud_percent": None, "query": None})
        return SceneConfig(stac=search, sign=source.sign, **settings)
    uris = tuple(_locate(source.folder, name) for name in scene.piece_ids)
    uri = uris[0] if len(uris) == 1 else uris
    if composite is None:
        return SceneConfig(uri=uri, datetime=scene.start, **settings)
    begun = {name: date.start for date in dates for name in date.piece_ids}
    moments = tuple(begun[name] for name in scene.piece_ids)
    return SceneConfig(uri=uri, **settings | {"composite": composite.model_copy(update={"datetimes": moments})})


def _search(
    source: StacSourceConfig, *, area: BaseGeometry, windows: Sequence[Interval], allow_private: bool
) -> tuple[list[ScenePiece], list[LeftOut]]:
    # What reads STAC takes a while to import, and folders do without.
    from pipeline.scenes.stac.scene import list_items

    pieces: list[ScenePiece] = []
    left_out: list[LeftOut] = []
    for window in windows:
        search = source.search.model_copy(update={"datetime": window.format()})
        items, others = list_items(search, area=area, allow_private=allow_private)
        pieces += items
        left_out += others
    return pieces, left_out


def _walk(folder: str) -> Iterator[FoundFile]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(
            f"source.folder {folder} is no folder", expected="a folder with scenes", remedy="correct the path"
        )
    seen: set[str] = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        # A link may lead back to a folder above it.
        seen.add(os.path.realpath(parent))
        folders[:] = [
            name
            for name in sorted(folders)
            if not _is_hidden(name) and os.path.realpath(Path(parent, name)) not in seen
        ]
        for name in names:
            path = Path(parent, name)
            try:
                facts = path.stat()
            except OSError:
                # Gone since it was listed, or a link that leads nowhere.
                continue
            yield FoundFile(
                name=path.relative_to(root).as_posix(), version=f"{facts.st_size} {facts.st_mtime_ns // 1_000_000_000}"
            )


def _open_folder(folder: str) -> ObjectStore:
    if folder.startswith("s3://"):
        return open_store(folder, retry_timeout_s=_RETRY_TIMEOUT_S)
    return HTTPStore.from_url(
        folder,
        client_options={"allow_http": folder.startswith("http://")},
        retry_config={"retry_timeout": dt.timedelta(seconds=_RETRY_TIMEOUT_S)},
    )


def _describe_version(entry: Mapping[str, Any]) -> str:
    return str(entry.get("e_tag") or f"{entry['size']} {entry['last_modified']}")


def _locate(folder: str, name: str) -> str:
    if "://" not in folder:
        return str(Path(folder).expanduser().absolute() / name)
    is_web = not folder.startswith("s3://")
    return f"{folder.rstrip('/')}/{quote(name) if is_web else name}"


def _is_sound(window: Interval) -> bool:
    return window.start is None or window.end is None or window.start <= window.end

"""Small pictures for Prefect's pages: the map with its changes outlined, and a change at both dates."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw

from pipeline.grid.window import Window
from pipeline.report.colours import KIND_COLOURS
from pipeline.report.page.map import MapFrame, frame_close_up
from pipeline.report.page.pictures import find_visible, read_pictures
from pipeline.tiles.store import TileStore
from pipeline.tiles.thumbnails import encode_jpeg

MAX_OUTLINES = 2000
_GAP_PX = 6


@dataclass(frozen=True, kw_only=True)
class PictureSizes:
    """How large the pictures of one summary are, longest sides in pixels; 0: none of them."""

    map_px: int
    """The map."""
    close_up_px: int
    """A change at one date."""


PICTURE_SIZES = (
    PictureSizes(map_px=560, close_up_px=220),
    PictureSizes(map_px=480, close_up_px=160),
    PictureSizes(map_px=320, close_up_px=110),
    PictureSizes(map_px=160, close_up_px=60),
    PictureSizes(map_px=0, close_up_px=0),
)
"""The largest that fits into an artifact is taken."""


@dataclass(frozen=True, kw_only=True)
class SummaryPictures:
    """The pictures of one summary, as data URIs."""

    map_uri: str | None = None
    """The later date with all changes outlined; None: left out."""
    close_ups: tuple[str, ...] = field(default=())
    """The largest changes in their order, each as one picture of both dates side by side; none where left out."""


def draw_pictures(
    changes: gpd.GeoDataFrame,
    *,
    findings: gpd.GeoDataFrame,
    store: TileStore,
    n_close_ups: int,
    sizes: PictureSizes,
) -> SummaryPictures:
    """Draw the map and the first of the changes.

    Args:
        changes: Rows of `CHANGES_SCHEMA`, the largest first.
        findings: One row per tile of the grid.
        store: The tile store, for the pixels.
        n_close_ups: How many changes are shown by themselves.
        sizes: How large.
    """
    if not sizes.map_px:
        return SummaryPictures()
    is_visible = find_visible(findings, grid=store.grid)
    frame = MapFrame(grid=store.grid)
    whole = read_pictures(store, is_visible=is_visible, window=frame.window, max_size_px=sizes.map_px)
    map_uri = outline_changes(whole.after_uri, changes.head(MAX_OUTLINES), frame=frame, window=frame.window)
    return SummaryPictures(
        map_uri=map_uri,
        close_ups=tuple(
            _draw_close_up(changes.iloc[[place]], is_visible=is_visible, store=store, size_px=sizes.close_up_px)
            for place in range(min(n_close_ups, len(changes)))
        ),
    )


def _draw_close_up(
    change: gpd.GeoDataFrame, *, is_visible: npt.NDArray[np.bool_], store: TileStore, size_px: int
) -> str:
    window = frame_close_up(change.geometry.iloc[0], grid=store.grid)
    pair = read_pictures(store, is_visible=is_visible, window=window, max_size_px=size_px)
    after_uri = outline_changes(pair.after_uri, change, frame=MapFrame(grid=store.grid), window=window)
    before, after = (np.asarray(_open_picture(uri), dtype=np.uint8) for uri in (pair.before_uri, after_uri))
    gap = np.full((before.shape[0], _GAP_PX, 3), 255, dtype=np.uint8)
    return _make_uri(np.concatenate([before, gap, after], axis=1))


def outline_changes(uri: str, changes: gpd.GeoDataFrame, *, frame: MapFrame, window: Window) -> str:
    """Draw the outlines of changes onto a picture.

    Args:
        uri: The picture, as a data URI.
        changes: Rows with ``kind`` and a geometry in the grid's CRS.
        frame: From those coordinates to the grid's pixels.
        window: What the picture shows.

    Returns:
        A JPEG as a data URI.
    """
    image = _open_picture(uri)
    pen = ImageDraw.Draw(image)
    scale = image.width / window.width
    for kind, geometry in zip(changes["kind"], changes.geometry, strict=True):
        for ring in _list_rings(geometry):
            corners = [frame.to_pixel(x, y) for x, y in ring.coords]
            points = [((col - window.left) * scale, (row - window.top) * scale) for col, row in corners]
            pen.line(points, fill=KIND_COLOURS[kind], width=2, joint="curve")
    return _make_uri(np.asarray(image, dtype=np.uint8))


def _open_picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def _make_uri(image: npt.NDArray[np.uint8]) -> str:
    return f"data:image/jpeg;base64,{encode_jpeg(image)}"


def _list_rings(geometry: Any) -> Iterable[shapely.LinearRing]:
    for polygon in shapely.get_parts(geometry):
        yield polygon.exterior
        yield from polygon.interiors

"""Two acquisitions of one place: what they are, and whether they can be compared."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.grid import RegistrationConfig
from pipeline.config.limits import use_limits
from pipeline.config.run import RunConfig
from pipeline.dates import parse_moment
from pipeline.grid.blocks import LatticeBlock
from pipeline.grid.grid import Grid, build_grid, compute_warp_scale
from pipeline.grid.window import BoolArray, UInt8Array, Window
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.scenes.compose import find_scene, read_scene_sample
from pipeline.scenes.composite import CompositeScene
from pipeline.scenes.composite_blocks import read_composite
from pipeline.scenes.mosaic import Block, read_block
from pipeline.scenes.registration import Registration, derive_content_key, measure_registration
from pipeline.scenes.scene import Asset, Scene
from pipeline.scenes.stretch import BandLimits, Stretch, decide_stretch, needs_samples
from pipeline.scenes.warp import FINER_BEFORE_OVERVIEW, measure_coarseness
from pipeline.summary import StageSummary

STORE_FORMAT_VERSION = 2
"""Raised whenever equal input would give other pixels in the store than before."""

DATES = ("before", "after")
"""What the two scenes are called."""

_FINEST_SCALE = 32
_NOTED_SCALE = 2.0


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """Two scenes of one area and the grid they are compared on."""

    before: Scene
    """The earlier scene."""
    after: Scene
    """The later scene."""
    grid: Grid
    """What both dates are warped onto."""
    resampling: str
    """``auto`` or the name of one of rasterio's resampling methods."""
    stretch: Stretch
    """How values other than bytes become bytes."""
    content_key: str
    """sha256 in hex over all that the pixels of the store depend on; never over paths."""
    registration: Registration | None = None
    """How the later date lies beside the earlier one; None where nobody measured it."""

    @property
    def is_composed(self) -> bool:
        """Whether each scene is made of several dates."""
        return isinstance(self.before, CompositeScene)

    @property
    def has_classes(self) -> bool:
        """Whether anything tells of clouds on either date."""
        return self.before.has_classes or self.after.has_classes

    def read_block(self, date: str, *, window: Window) -> Block:
        """Read a rectangle of the grid as one date shows it.

        Args:
            date: ``before`` or ``after``.
            window: What to read, in pixels of the grid.

        Raises:
            InputError: a file cannot be read to the end.
        """
        is_moved = date == "after" and self.registration is not None
        grid = self.grid.move(*self.registration.correction_px) if is_moved and self.registration else self.grid
        return self.read_block_on(grid, date=date, window=window)

    def read_block_on(self, grid: Grid, *, date: str, window: Window) -> Block:
        """Read a rectangle of another grid, from where the date's files say they lie."""
        scene: Scene = getattr(self, date)
        limits: BandLimits | None = getattr(self.stretch, date)
        if isinstance(scene, CompositeScene):
            return read_composite(scene, grid=grid, window=window, resampling=self.resampling, limits=limits)
        return read_block(scene, grid=grid, window=window, resampling=self.resampling, limits=limits)


def find_pair(
    config: RunConfig, *, aoi: AreaOfInterest | None = None, known: ScenePair | None = None
) -> tuple[ScenePair, StageSummary]:
    """Look at both scenes and lay the grid over what they share; nothing is written.

    Args:
        config: The run.
        aoi: The area of interest, where it was read before; left out, it is read if there is one.
        known: A pair that was registered as this one is to be; if it is of the same pixels, it is not measured again
            how the dates lie.

    Raises:
        InputError: a scene cannot be used, the two do not make a pair, or the grid or the area of interest
            does not fit them.
    """
    start = time.perf_counter()
    with use_limits(config.limits):
        if aoi is None and config.aoi is not None:
            aoi = AreaOfInterest.read(config.aoi)
        area = choose_search_area(config, aoi=aoi)
        before, after = (
            find_scene(scene, date=date, area=area, allow_private=config.storage.allow_private_hosts)
            for date, scene in (("before", config.before), ("after", config.after))
        )
        pair = make_pair(before, after, config=config)
        if aoi is not None:
            # Laid on the grid again where it is used; here only so that a wrong one ends the run at once.
            aoi.lay_on(pair.grid, block=make_block(config))
        pair = _take_known(pair, known=known) or register_dates(pair, config=config.registration)
    notes = dict.fromkeys(list_notes(pair), 1)
    return pair, StageSummary(stage="find_pair", done=2, total=2, seconds=time.perf_counter() - start, notes=notes)


def choose_search_area(config: RunConfig, *, aoi: AreaOfInterest | None) -> BaseGeometry | None:
    """Give where scenes are to be that have to be searched for, in WGS84 degrees; None where nothing is searched."""
    is_searched = any(scene.stac is not None for scene in (config.before, config.after))
    return aoi.to_degrees() if is_searched and aoi is not None else None


def make_pair(before: Scene, after: Scene, *, config: RunConfig) -> ScenePair:
    """Lay the grid of a run over what two scenes share.

    Raises:
        InputError: the two do not make a pair, or the grid does not fit them.
    """
    _check_two_dates(before, after)
    lay_grid = partial(
        build_grid,
        before.footprint,
        after.footprint,
        crs=config.grid.crs,
        resolution_m=config.grid.resolution_m,
        tile_size_px=config.grid.tile_size_px,
        overlap_px=config.tiles.overlap_px,
        anchor=config.grid.anchor,
    )
    block = make_block(config)
    grid = lay_grid(block=block)
    _check_size(grid, max_tiles=config.grid.max_tiles)
    _check_resolution(before, after, grid=grid)
    samples = None
    if needs_samples(before, after, config=config.tiles.stretch):
        # Of all that the scenes share, also where the run keeps to a block: its neighbours then have the same stretch.
        whole = (lay_grid() if block is not None else grid).coarsen(1)
        samples = read_scene_sample(before, grid=whole), read_scene_sample(after, grid=whole)
    stretch = decide_stretch(before, after, config=config.tiles.stretch, samples=samples)
    resampling = config.tiles.resampling
    return ScenePair(
        before=before,
        after=after,
        grid=grid,
        resampling=resampling,
        stretch=stretch,
        content_key=compute_content_key(before, after, grid=grid, resampling=resampling, stretch=stretch),
    )


def _take_known(pair: ScenePair, *, known: ScenePair | None) -> ScenePair | None:
    """Give a pair with the registration of another, if the other is of the same pixels on the same grid."""
    if known is None or known.registration is None:
        return None
    content_key = derive_content_key(pair.content_key, registration=known.registration)
    if content_key != known.content_key:
        return None
    return replace(pair, registration=known.registration, content_key=content_key)


def make_block(config: RunConfig) -> LatticeBlock | None:
    """Give the block that a run keeps to; None: it goes over all that its scenes share."""
    if config.block is None:
        return None
    return LatticeBlock(
        crs=config.grid.crs,
        east=config.block.east,
        north=config.block.north,
        side_px=config.block.size_tiles * (config.grid.tile_size_px - config.tiles.overlap_px),
        resolution_m=config.grid.resolution_m,
        is_in_zone=config.block.is_in_zone,
    )


def register_dates(pair: ScenePair, *, config: RegistrationConfig) -> ScenePair:
    """Measure how the later date lies beside the earlier one, if asked for, and have it read from there, if asked for.

    Raises:
        InputError: a scene cannot be read.
    """
    if not config.estimate:
        return pair

    def read(date: str, grid: Grid, window: Window) -> tuple[UInt8Array, BoolArray]:
        block = pair.read_block_on(grid, date=date, window=window)
        return block.pixels, block.is_valid

    assets = [*_list_colour_assets(pair.before), *_list_colour_assets(pair.after)]
    registration = measure_registration(
        read,
        grid=pair.grid,
        coarseness=max(measure_coarseness(asset, grid=pair.grid) for asset in assets),
        config=config,
    )
    return replace(
        pair,
        registration=registration,
        content_key=derive_content_key(pair.content_key, registration=registration),
    )


def list_notes(pair: ScenePair) -> list[str]:
    """Say what people should know of a pair that can be used: a stretch, and pixels of another size than the grid's."""
    notes, ground_m = [], pair.grid.ground_resolution_m
    for date in DATES:
        scene: Scene = getattr(pair, date)
        notes += [f"{date} {note}" for note in scene.notes]
        sizes = sorted(measure_coarseness(asset, grid=pair.grid) for asset in _list_colour_assets(scene))
        if sizes[-1] > _NOTED_SCALE or sizes[0] < 1 / _NOTED_SCALE:
            pixels = " to ".join(dict.fromkeys(f"{size * ground_m:.3g}" for size in (sizes[0], sizes[-1])))
            notes.append(
                f"{date} has pixels of {pixels} m, the grid of {ground_m:.3g} m: "
                + ("it shows less detail than its tiles seem to" if sizes[-1] > 1 else "its detail is averaged away")
            )
    words = [pair.stretch.describe(), pair.grid.scale_note, pair.registration and pair.registration.describe()]
    return [*notes, *(text for text in words if text)]


def compute_content_key(before: Scene, after: Scene, *, grid: Grid, resampling: str, stretch: Stretch) -> str:
    """Hash all that the pixels of the store depend on: content and meaning of both scenes' files, and the grid."""
    content: dict[str, Any] = {
        "version": STORE_FORMAT_VERSION,
        "grid": grid.to_dict(),
        "resampling": resampling,
        "stretch": stretch.to_dict(),
        "before": before.describe_content(),
        "after": after.describe_content(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_two_dates(before: Scene, after: Scene) -> None:
    if before.describe_content()["parts"] == after.describe_content()["parts"]:
        places = [" + ".join(scene.uris) for scene in (before, after)]
        raise InputError(
            f"before and after are the same file ({' and '.join(dict.fromkeys(places))})",
            expected="two scenes of two dates",
            remedy="name the other date's file",
        )
    if before.datetime and after.datetime and parse_moment(before.datetime) > parse_moment(after.datetime):
        raise InputError(
            f"before was acquired on {before.datetime}, after on {after.datetime}",
            expected="the earlier scene first",
            remedy="swap the two, or set before.datetime and after.datetime if the files' tags are wrong",
        )


def _list_colour_assets(scene: Scene) -> list[Asset]:
    assets = {source.asset.uri: source.asset for part in scene.parts for source in part.colours}
    return list(assets.values())


def _check_size(grid: Grid, *, max_tiles: int) -> None:
    n_tiles = grid.n_rows * grid.n_cols
    if n_tiles > max_tiles:
        raise InputError(
            f"the grid has {n_tiles:,} tiles ({grid.n_rows:,} rows, {grid.n_cols:,} columns)",
            expected=f"at most the {max_tiles:,} of grid.max_tiles",
            remedy="check with gdalinfo that the scenes are as large as they say; then raise grid.resolution_m, or "
            f"--set grid.max_tiles={n_tiles}",
        )


def _check_resolution(before: Scene, after: Scene, *, grid: Grid) -> None:
    for asset in [*_list_colour_assets(before), *_list_colour_assets(after)]:
        scale = min(compute_warp_scale(asset.crs, transform=asset.affine, grid=grid))
        words = f"grid.resolution_m is {grid.resolution_m:g}, but a pixel of {asset.uri} is about "
        if scale > _FINEST_SCALE:
            raise InputError(
                f"{words}{scale * grid.resolution_m:.3g} m wide",
                expected=f"a grid at most {_FINEST_SCALE} times finer than the scenes",
                remedy="set grid.resolution_m to about the pixel size of the scenes",
            )
        overview = asset.take_overview(at_most=1 / scale)
        if 1 / min(compute_warp_scale(asset.crs, transform=overview.affine, grid=grid)) > FINER_BEFORE_OVERVIEW:
            # Every pixel under a block of the grid has to be read and held at once.
            raise InputError(
                f"{words}{scale * grid.resolution_m:.3g} m wide",
                expected=f"a grid at most {FINER_BEFORE_OVERVIEW} times coarser than the scenes or their overviews",
                remedy="lower grid.resolution_m, or give the file overviews with gdaladdo -r average",
            )

"""Whether a model was made for scenes and tiles like a run's."""

from __future__ import annotations

from model.errors import InputError
from model.home import ModelFit, ModelHome, Range
from model.interface import ModelIdentity
from pipeline.config.model import ModelConfig
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.warp import measure_coarseness

_STEP_PX = 16
# ^ Tile sizes are multiples of it.


def judge_model_fit(pair: ScenePair, *, identity: ModelIdentity) -> ModelFit | None:
    """Tell how a pair's tiles lie beside what a model was made for; None where nobody tells what that is."""
    if identity.home is None:
        return None
    tile_m = pair.grid.tile_size_px * pair.grid.ground_resolution_m
    return identity.home.judge(tile_m=tile_m, pixel_m=measure_pixel(pair))


def check_model_fit(pair: ScenePair, *, identity: ModelIdentity, config: ModelConfig) -> str | None:
    """Compare what a model was made for with the scenes and the tiles of a run.

    Args:
        pair: The scenes and their grid.
        identity: The model.
        config: Tells whether the run goes on where the model was not made for it.

    Returns:
        What is to be said about the run where it goes on nevertheless; None where the model was made for it, or where
        nobody tells what it was made for.

    Raises:
        InputError: the model was not made for this, and the run is to stop.
    """
    home, fit = identity.home, judge_model_fit(pair, identity=identity)
    if home is None or fit is ModelFit.INSIDE:
        return None
    tile_m, pixel_m = pair.grid.tile_size_px * pair.grid.ground_resolution_m, measure_pixel(pair)
    found = f"{identity.model_id} was not made for tiles of {_round(tile_m)} m in pixels of {_round(pixel_m)} m"
    expected = f"tiles of {_tell(home.tile_m)} in pixels of {_tell(home.pixel_m)}"
    if config.outside == "stop":
        remedy = _find_remedy(pair, home=home, pixel_m=pixel_m)
        raise InputError(found, expected=expected, remedy=f"{remedy}; or go on with --set model.outside=warn")
    note = f"{found}, but for {expected}: nobody has measured what its answers are worth here"
    return f"{note}; where it sees no change, nothing is known" if fit is ModelFit.COARSE else note


def measure_pixel(pair: ScenePair) -> float:
    """Give the side of the pixels that a pair really shows, in metres: of the grid, or of the coarser scene."""
    assets = {
        source.asset.uri: source.asset
        for scene in (pair.before, pair.after)
        for part in scene.parts
        for source in part.colours
    }
    coarsest = max(measure_coarseness(asset, grid=pair.grid) for asset in assets.values())
    return pair.grid.ground_resolution_m * max(1.0, coarsest)


def _round(length_m: float) -> str:
    return f"{float(f'{length_m:.3g}'):,.12g}"


def _tell(ends: Range) -> str:
    return f"{ends[0]:g} to {ends[1]:g} m"


def _find_remedy(pair: ScenePair, *, home: ModelHome, pixel_m: float) -> str:
    """Say which tiles would fit where the pixels do, and else that it takes another model."""
    resolution_m = pair.grid.ground_resolution_m
    size_px = _STEP_PX * max(1, round(sum(home.tile_m) / 2 / resolution_m / _STEP_PX))
    if home.judge(tile_m=size_px * resolution_m, pixel_m=pixel_m) is ModelFit.INSIDE:
        return f"set grid.tile_size_px to {size_px}"
    return "take scenes with such pixels, or with model.name a model that was made for these"

"""How far the later date of a pair lies beside the earlier one, measured in blocks spread over both.

Each block is compared by phase correlation: of the strength of edges, because edges stay where fields, shadows and
seasons change colour, with every spatial frequency given the same weight up to a limit beyond which there is mostly
noise. A block counts if its correlation stands far out of the noise. The blocks together count if one shift fits at
least half of them; where they disagree, as in pictures of towns from two directions, there is no single shift, and
that is what is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy
import skimage

from pipeline.config.grid import RegistrationConfig
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, Window

FloatArray = npt.NDArray[np.float32]

ReadBlock = Callable[[str, Grid, Window], tuple[npt.NDArray[np.uint8], BoolArray]]
"""Gives pixels, uint8 (3, height, width), and validity of ``before`` or ``after`` in a window of a grid."""

NOTED_SHIFT_PX = 1.0
"""People are told of a larger shift, and of blocks that disagree by more; in pixels that are measured in."""

N_BLOCKS = 16
# ^ Enough that some lie on water, under clouds or on what was built and the others still agree; reading them is short.
BLOCK_SIZE_PX = 512
# ^ Wide beside the shifts that are looked for, so that both dates show mostly the same in a block.

_MIN_BLOCKS = 3
_MIN_AGREEING_FRACTION = 0.5
_MIN_BLOCK_PX = 96
_MIN_VALID_FRACTION = 0.5
_MIN_TEXTURE = 1.0
# ^ Standard deviation of the edges' strength in grey levels per pixel; a cloud or a lake has less.
_MIN_PEAK = 7.5
# ^ Times the correlation around it. The highest of 1,500 blocks of noise of 128 px and more, smooth or not, was 6.6.
_PEAK_RADIUS_PX = 4
_UPSAMPLING = 20
# ^ Shifts come in twentieths of a pixel, about as exact as they are.
_EDGE_SIGMA_PX = 1.0
_FREQUENCY_SIGMA = 0.2
# ^ In cycles per pixel.
_HIDDEN_PX = 4
# ^ So far from pixels that are not valid, edges may be theirs.


@dataclass(frozen=True, kw_only=True)
class BlockShift:
    """What one block tells."""

    top_px: int
    """First row of the block in pixels of the grid."""
    left_px: int
    """First column."""
    row_px: float
    """How far things lie further down on the later date, in pixels of the grid."""
    col_px: float
    """How far they lie further to the right."""

    def scale(self, factor: int, *, top_px: int, left_px: int) -> BlockShift:
        """Give the same in pixels so many times smaller, counted from so far up and left."""
        return BlockShift(
            top_px=top_px + factor * self.top_px,
            left_px=left_px + factor * self.left_px,
            row_px=round(factor * self.row_px, 3),
            col_px=round(factor * self.col_px, 3),
        )


@dataclass(frozen=True, kw_only=True)
class Registration:
    """How the later date lies beside the earlier one, in pixels of the grid; things further down have more rows."""

    row_px: float | None
    """Shift that fits most blocks, along rows; None: unknown, or no single shift fits."""
    col_px: float | None
    """Likewise along columns."""
    spread_px: float | None
    """Median distance of the blocks' shifts from their median; None where too few blocks told one."""
    agreeing_fraction: float | None
    """Part of these blocks that lie near their median, within a pixel that was measured in."""
    n_blocks: int
    """Blocks that were looked at."""
    resolution_m: float
    """Side of a pixel of the grid in metres on the ground."""
    coarseness: int
    """Side of the pixels that were measured in, in pixels of the grid: more than 1 where the scenes are coarser."""
    block_size_px: int
    """Side of a block in pixels of the grid."""
    is_corrected: bool
    """Whether the later date is read from where the shift says it lies."""
    blocks: tuple[BlockShift, ...]
    """Blocks that told a shift."""

    @property
    def distance_px(self) -> float | None:
        """Length of the shift."""
        return None if self.row_px is None or self.col_px is None else float(np.hypot(self.row_px, self.col_px))

    @property
    def correction_px(self) -> tuple[float, float]:
        """Rows and columns by which the grid is moved for the later date."""
        return (self.row_px or 0.0, self.col_px or 0.0) if self.is_corrected else (0.0, 0.0)

    def describe(self) -> str | None:
        """Say what people should know; None where the dates are aligned as far as that can be measured."""
        noted_px = NOTED_SHIFT_PX * self.coarseness
        if self.row_px is not None and self.col_px is not None and (self.distance_px or 0) > noted_px:
            found = (
                f"the later date lies {abs(self.row_px):.1f} px {'below' if self.row_px > 0 else 'above'} and "
                f"{abs(self.col_px):.1f} px {'right' if self.col_px > 0 else 'left'} of the earlier one "
                f"({np.hypot(self.row_px, self.col_px) * self.resolution_m:.1f} m)"
            )
            return f"{found}; " + (
                "this was corrected" if self.is_corrected else "registration.correct: true corrects it"
            )
        if self.distance_px is None and self.spread_px is not None and self.spread_px > noted_px:
            return (
                f"no single shift aligns the dates: places differ by {self.spread_px:.1f} px "
                f"({self.spread_px * self.resolution_m:.1f} m) from their median, as with leaning houses or relief"
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, lengths in metres among them; `from_dict` takes them back."""
        distance_m = None if self.distance_px is None else self.distance_px * self.resolution_m
        return {**asdict(self), "n_blocks_used": len(self.blocks), "distance_m": distance_m}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take back what `to_dict` gave."""
        own = {name: value for name, value in values.items() if name not in {"n_blocks_used", "distance_m"}}
        return cls(**{**own, "blocks": tuple(BlockShift(**block) for block in own["blocks"])})


def measure_registration(read: ReadBlock, *, grid: Grid, coarseness: float, config: RegistrationConfig) -> Registration:
    """Read blocks of both dates and measure how they lie to each other.

    Where the scenes' pixels are larger than the grid's, blocks are read with pixels as large as theirs: between
    those there is nothing to be seen.

    Args:
        read: Reads a block of one date.
        grid: The grid of the pair.
        coarseness: How many times larger than the grid's the pixels of the coarser scene are.
        config: How far to look, and whether the shift is put right.

    Raises:
        InputError: a scene cannot be read.
    """
    factor = max(1, int(coarseness + 0.25))
    coarse = grid.coarsen(factor)
    windows = choose_blocks(coarse)
    blocks = []
    for window in windows:
        (before, is_before), (after, is_after) = read("before", coarse, window), read("after", coarse, window)
        is_valid = is_before & is_after
        shift = estimate_shift(before, after, is_valid=is_valid, max_shift_px=config.max_shift_px)
        if shift is not None:
            blocks.append(BlockShift(top_px=window.top, left_px=window.left, row_px=shift[0], col_px=shift[1]))
    shift, spread_px, agreeing_fraction = agree_on_shift(blocks, n_blocks=len(windows))
    return Registration(
        row_px=round(factor * shift[0], 3) if shift else None,
        col_px=round(factor * shift[1], 3) if shift else None,
        spread_px=None if spread_px is None else round(factor * spread_px, 3),
        agreeing_fraction=agreeing_fraction,
        n_blocks=len(windows),
        resolution_m=grid.ground_resolution_m,
        coarseness=factor,
        block_size_px=factor * windows[0].height if windows else 0,
        is_corrected=config.correct and shift is not None,
        blocks=tuple(block.scale(factor, top_px=grid.top_px, left_px=grid.left_px) for block in blocks),
    )


def choose_blocks(grid: Grid) -> list[Window]:
    """Spread blocks evenly over a grid; none where that is too small to tell anything."""
    height, width = grid.height_px, grid.width_px
    shorter = min(height, width)
    size = min(BLOCK_SIZE_PX, shorter // 2 if shorter >= 4 * _MIN_BLOCK_PX else shorter)
    # ^ Two by two at least, unless they got too small for that.
    if size < _MIN_BLOCK_PX:
        return []
    n_rows = min(max(1, round(np.sqrt(N_BLOCKS * height / width))), N_BLOCKS)
    # Blocks may overlap by half: each is looked at through a window that fades towards its edge.
    n_rows = min(n_rows, 2 * height // size - 1)
    n_cols = min(max(1, N_BLOCKS // n_rows), 2 * width // size - 1)
    tops, lefts = (
        np.linspace(0, length - size, count) if count > 1 else np.array([(length - size) / 2])
        for length, count in ((height, n_rows), (width, n_cols))
    )
    return [Window(round(top), round(left), size, size) for top in tops.tolist() for left in lefts.tolist()]


def estimate_shift(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], *, is_valid: BoolArray, max_shift_px: float
) -> tuple[float, float] | None:
    """Tell how far things lie further down and to the right on the later date; None where that cannot be told.

    Subpixel peaks as in Guizar-Sicairos, Thurman and Fienup, Optics Letters 33, 156 (2008).

    Args:
        before: uint8 (3, height, width).
        after: The same of the later date.
        is_valid: Where both dates show something, (height, width).
        max_shift_px: A larger shift is no answer.
    """
    if is_valid.mean() < _MIN_VALID_FRACTION:
        return None
    is_clear, taper = _fade_out(is_valid)
    spectra = []
    for pixels in (before, after):
        edges = _compute_edges(pixels)
        if not is_clear.any() or edges[is_clear].std() < _MIN_TEXTURE:
            return None
        spectra.append(scipy.fft.fft2((edges - np.average(edges, weights=taper)) * taper))
    weights = np.sqrt(_weigh_frequencies(is_valid.shape))
    # Frequencies that are hardly there are mostly noise and the window's own: those are not raised to full weight.
    first, second = (spectrum / (np.abs(spectrum) + np.abs(spectrum).mean()) * weights for spectrum in spectra)
    if _measure_peak(first * second.conj(), reach_px=max_shift_px) < _MIN_PEAK:
        return None
    shift, _, _ = skimage.registration.phase_cross_correlation(
        first, second, space="fourier", upsample_factor=_UPSAMPLING, normalization=None
    )
    # The library tells how to move the later date onto the earlier one.
    row_px, col_px = -float(shift[0]), -float(shift[1])
    return (row_px + 0.0, col_px + 0.0) if max(abs(row_px), abs(col_px)) <= max_shift_px else None


def _measure_peak(product: npt.NDArray[np.complex64], *, reach_px: float) -> float:
    """Tell how many times higher the peak of a correlation is than what lies around it.

    Windows make the correlation of noise itself higher for small shifts, so only such shifts are looked at.
    """
    correlation = np.abs(scipy.fft.fftshift(scipy.fft.ifft2(product)))
    middles = [length // 2 for length in correlation.shape]
    reaches = [min(int(np.ceil(reach_px)), length // 4) for length in correlation.shape]
    near = correlation[tuple(slice(m - r, m + r + 1) for m, r in zip(middles, reaches, strict=True))]
    row, col = np.unravel_index(near.argmax(), near.shape)
    rows, cols = np.ogrid[: near.shape[0], : near.shape[1]]
    is_beside = np.maximum(abs(rows - row), abs(cols - col)) > _PEAK_RADIUS_PX
    return float(near.max() / np.sqrt((near[is_beside] ** 2).mean()))


def _fade_out(is_valid: BoolArray) -> tuple[BoolArray, FloatArray]:
    """Tell which edges are the ground's own, and give weights, 0 to 1, that fade towards the border and what is hidden.

    A soft border: the edge of what is valid lies in the same place on both dates and would correlate on its own.
    """
    window = np.outer(*(np.hanning(length).astype(np.float32) for length in is_valid.shape))
    if is_valid.all():
        return is_valid, window
    is_clear = scipy.ndimage.binary_erosion(is_valid, iterations=_HIDDEN_PX, border_value=1)
    softened = scipy.ndimage.gaussian_filter(is_clear.astype(np.float32), _HIDDEN_PX) * is_clear
    return is_clear, np.asarray(softened * window, dtype=np.float32)


def _compute_edges(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    grey = pixels.astype(np.float32).mean(axis=0)
    return np.asarray(scipy.ndimage.gaussian_gradient_magnitude(grey, _EDGE_SIGMA_PX), dtype=np.float32)


def _weigh_frequencies(shape: tuple[int, ...]) -> FloatArray:
    rows, cols = (scipy.fft.fftfreq(length).astype(np.float32) for length in shape)
    squared = rows[:, np.newaxis] ** 2 + cols[np.newaxis, :] ** 2
    return np.asarray(np.exp(-squared / (2 * _FREQUENCY_SIGMA**2)), dtype=np.float32)


def agree_on_shift(
    blocks: Sequence[BlockShift], *, n_blocks: int
) -> tuple[tuple[float, float] | None, float | None, float | None]:
    """Decide what the blocks tell together.

    Args:
        blocks: Blocks that told a shift.
        n_blocks: Blocks that were looked at.

    Returns:
        The median (row, column) of the blocks near the median of all, None unless they are half of all at least;
        the median distance from the median of all, and the part that is near; None where too few told anything.
    """
    if len(blocks) < max(1, min(_MIN_BLOCKS, n_blocks)):
        return None, None, None
    shifts = np.array([(block.row_px, block.col_px) for block in blocks])
    distances = np.hypot(*(shifts - np.median(shifts, axis=0)).T)
    is_near = distances <= NOTED_SHIFT_PX
    agreeing_fraction = float(is_near.mean())
    if agreeing_fraction < _MIN_AGREEING_FRACTION:
        return None, float(np.median(distances)), agreeing_fraction
    row_px, col_px = np.median(shifts[is_near], axis=0).tolist()
    return (row_px, col_px), float(np.median(distances)), agreeing_fraction


def derive_content_key(content_key: str, *, registration: Registration | None) -> str:
    """Give the key of a pair's pixels with the later date moved: another one, as the pixels are others."""
    if registration is None or registration.correction_px == (0.0, 0.0):
        return content_key
    row_px, col_px = registration.correction_px
    return hashlib.sha256(f"{content_key} moved {row_px!r} {col_px!r}".encode()).hexdigest()

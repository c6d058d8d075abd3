"""Two pictures of one place as the pair that a model takes, and its masks as a picture."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from model.errors import InputError, refuse_unwritable
from model.interface import ChangeMasks
from model.whole_files import write_whole

FORMATS = ("PNG", "JPEG", "TIFF")
"""What is read; Pillow knows more, and hands some of it to other programs."""
MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
"""Sides that a tile of a run may have."""

ROAD_VALUE, CHANGED_VALUE = 128, 255
"""Values of a mask's pixels, as in ChangeChat-105k's masks: a road, and a building or whatever else changed."""

ImageSource = str | Path | npt.NDArray[np.uint8]
"""A file, or pixels of shape (y, x, band=3)."""


def make_pair(before: ImageSource, after: ImageSource) -> npt.NDArray[np.uint8]:
    """Put two pictures of one place together.

    Args:
        before: The earlier date: a PNG, JPEG or TIFF file, or uint8 RGB of shape (y, x, 3).
        after: The later date, of the same size.

    Returns:
        uint8 of shape (date=2, band=3, y, x).

    Raises:
        InputError: a file is not there or cannot be read, holds something else than 8-bit RGB, or the sizes
            differ.
    """
    images = [_take_image(source, name=name) for source, name in ((before, "before"), (after, "after"))]
    sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in images]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"before is {sizes[0]} pixels and after {sizes[1]}",
            expected="one size, the same ground in both",
            remedy="crop them to the same area, or use `deltavlm run`, which puts georeferenced scenes onto one grid",
        )
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def _take_image(source: ImageSource, *, name: str) -> npt.NDArray[np.uint8]:
    if isinstance(source, str | Path):
        image = read_image(source)
        name = str(source)
    else:
        image = _check_array(np.asarray(source), name=name)
    _check_size(image.shape[1], image.shape[0], name=name)
    return image


def _check_array(image: npt.NDArray[Any], *, name: str) -> npt.NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in {3, 4}:
        raise InputError(
            f"{name} is {image.dtype} of shape {image.shape}",
            expected="uint8 RGB of shape (y, x, 3)",
            remedy="scale to 0-255 or move the bands last: np.moveaxis(image, 0, -1)",
        )
    return np.asarray(image[..., :3], np.uint8)


def _check_size(width_px: int, height_px: int, *, name: str) -> None:
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise InputError(
            f"{name} is {width_px} x {height_px} pixels",
            expected=f"at least {MIN_SIDE_PX} a side",
            remedy="cut a larger part, such as 256 x 256",
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise InputError(
            f"{name} is {width_px} x {height_px} pixels",
            expected=f"at most {MAX_SIDE_PX} a side, as the model sees one place at once",
            remedy="cut the part in question, or use `deltavlm run` on whole scenes",
        )


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read a picture as RGB of shape (y, x, 3); transparency is dropped, a palette resolved.

    Raises:
        InputError: there is no such file, or it cannot be read, or holds something else than 8-bit RGB.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}",
            expected="a PNG, JPEG or TIFF file",
            remedy="correct the path",
        )
    try:
        with warnings.catch_warnings():
            # Odd tags are no matter of ours, and the size is checked below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_size(*image.size, name=str(path))
                _check_depth(image, path=path)
                return np.asarray(image.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:
        # ^ Pillow's plugins raise SyntaxError for what they cannot make sense of.
        reason = "no image of a known form" if isinstance(problem, UnidentifiedImageError) else str(problem)
        raise InputError(
            f"{path} cannot be read ({reason})",
            expected="a whole PNG, JPEG or TIFF image of 8-bit RGB",
            remedy="check that the file is complete, or convert it to PNG",
        ) from None


def _check_depth(image: Image.Image, *, path: Path) -> None:
    # Pillow reads 16-bit colour as RGB and keeps the upper byte: what it was tells the raw mode of the tiles alone.
    is_deep = image.mode in {"F", "I"} or image.mode.startswith("I;") or "16" in _read_raw_mode(image)
    if is_deep:
        raise InputError(
            f"{path} holds more than 8 bits a band",
            expected="8-bit RGB",
            remedy="scale both dates alike to 0-255 first, such as gdal_translate -ot Byte -scale 0 3000 0 255",
        )
    if image.mode not in {"RGB", "RGBA", "RGBX", "P", "YCbCr"}:
        raise InputError(
            f"{path} is of mode {image.mode} with {len(image.getbands())} band(s)",
            expected="8-bit RGB",
            remedy="give a colour image: the model has not seen others",
        )


def _read_raw_mode(image: Image.Image) -> str:
    """Name how the bytes lie in the file, such as ``RGB;16B``."""
    tiles = getattr(image, "tile", None) or [()]
    arguments = tiles[0][-1] if tiles[0] else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def paint_mask(masks: ChangeMasks) -> npt.NDArray[np.uint8]:
    """Paint the masks of the first tile over each other, the likeliest label on top.

    Returns:
        uint8 of shape (y, x): 0 unchanged, `ROAD_VALUE` for roads, `CHANGED_VALUE` for all else.
    """
    probabilities = masks.probabilities[0]
    values = np.array([ROAD_VALUE if label == "road" else CHANGED_VALUE for label in masks.labels], np.uint8)
    painted: npt.NDArray[np.uint8] = values[probabilities.argmax(axis=0)]
    return np.where(probabilities.max(axis=0) >= 0.5, painted, np.uint8(0))


def write_mask(masks: ChangeMasks, file: str | Path) -> None:
    """Write the masks of the first tile as a PNG with the values of `paint_mask`.

    Raises:
        InputError: the file's name does not end in .png, or its folder cannot be written to.
    """
    file = Path(file)
    check_mask_file(file)
    sink = io.BytesIO()
    Image.fromarray(paint_mask(masks)).save(sink, format="PNG")
    with refuse_unwritable(file, remedy="make room, or name another file"):
        write_whole(file, sink.getvalue())


def check_mask_file(file: Path) -> None:
    """Refuse a name that a mask cannot be written under.

    Raises:
        InputError: it does not end in .png, or its folder is not there.
    """
    if file.suffix.lower() != ".png" or not file.parent.is_dir():
        raise InputError(
            str(file), expected="a file that ends in .png, in a folder that is there", remedy="name another file"
        )

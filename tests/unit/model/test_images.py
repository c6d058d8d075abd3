"""Pictures as pairs: what is read exactly, and what is refused with a word on what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from model.errors import InputError
from model.images import make_pair, paint_mask, read_image, write_mask
from model.interface import ChangeMasks

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = PIXELS, *, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def cut(path: Path, n_bytes: int) -> Path:
    path.write_bytes(path.read_bytes()[:n_bytes])
    return path


def save_with_opencv(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("name", ["image.png", "image.tif", "IMAGE.PNG"])
def test_files_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / name)), PIXELS)


def test_jpeg_is_read_as_opencv_reads_it(tmp_path: Path) -> None:
    file = save(tmp_path / "image.jpg")

    np.testing.assert_array_equal(read_image(file), cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))


def test_transparency_is_dropped_and_a_palette_resolved(tmp_path: Path) -> None:
    clear = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    two_colours = np.where(PIXELS[..., :1] > 127, (200, 30, 30), (10, 90, 10)).astype(np.uint8)

    np.testing.assert_array_equal(read_image(save(tmp_path / "clear.png", clear)), PIXELS)
    palette = save(tmp_path / "palette.png", two_colours, mode="P")
    with Image.open(palette) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(palette), expected)


def test_a_pair_has_the_dates_first_and_the_bands_before_the_pixels(tmp_path: Path) -> None:
    after = PIXELS[::-1]

    pair = make_pair(save(tmp_path / "before.png"), np.dstack([after, after[..., 0]]))

    assert pair.shape == (2, 3, 40, 56)
    assert pair.flags.c_contiguous
    np.testing.assert_array_equal(pair[0, 1], PIXELS[..., 1])
    np.testing.assert_array_equal(pair[1, 2], after[..., 2])


DEEP = PIXELS.astype(np.uint16) * 200
BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.png", r"none\.png is not there"),
    "folder": (lambda folder: folder, "is a folder"),
    "empty": (lambda folder: cut(save(folder / "x.png"), 0), "no image of a known form"),
    "text": (lambda folder: cut(save(folder / "x.bmp"), 0), "no image of a known form"),
    "gif": (lambda folder: save(folder / "x.gif"), "expected a whole PNG, JPEG or TIFF"),
    "truncated png": (lambda folder: cut(save(folder / "x.png"), 3000), "truncated"),
    "truncated jpeg": (lambda folder: cut(save(folder / "x.jpg"), 900), "truncated"),
    "truncated tiff": (lambda folder: cut(save(folder / "x.tif"), 3000), "truncated|known form"),
    "grey": (lambda folder: save(folder / "x.png", PIXELS[..., 0]), "mode L with 1 band"),
    "grey with alpha": (lambda folder: save(folder / "x.png", mode="LA"), "mode LA with 2 band"),
    "one bit": (lambda folder: save(folder / "x.png", mode="1"), "mode 1"),
    "ink": (lambda folder: save(folder / "x.jpg", mode="CMYK"), "mode CMYK"),
    "16 bits": (lambda folder: save_with_opencv(folder / "x.png", DEEP), "more than 8 bits.*scale both dates alike"),
    "16 bits tiff": (lambda folder: save_with_opencv(folder / "x.tif", DEEP), "more than 8 bits"),
    "16 bits grey": (lambda folder: save_with_opencv(folder / "x.png", DEEP[..., 0]), "more than 8 bits"),
    "floats": (
        lambda folder: save_with_opencv(folder / "x.tif", PIXELS[..., 0].astype(np.float32)),
        "more than 8 bits",
    ),
    "tiny": (lambda folder: save(folder / "x.png", PIXELS[:15]), "56 x 15 pixels; expected at least 16"),
    "huge": (lambda folder: save(folder / "x.png", np.zeros((20, 4097, 3), np.uint8)), "expected at most 4096"),
    "bomb": (lambda folder: save(folder / "x.png", np.zeros((9500, 9500, 3), np.uint8)), "expected at most 4096"),
    "other size": (lambda folder: save(folder / "x.png", PIXELS[:, :55]), "before is 56 x 40 pixels and after 55 x 40"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_refused_with_a_remedy(case: str, tmp_path: Path) -> None:
    make, words = BAD_FILES[case]
    after = make(tmp_path)

    with pytest.raises(InputError, match=words) as refusal:
        make_pair(PIXELS, after)

    assert "; expected " in str(refusal.value)
    assert str(refusal.value).count("; ") >= 2


@pytest.mark.parametrize(
    "image",
    [None, PIXELS.transpose(2, 0, 1), PIXELS[..., 0], PIXELS / 255, DEEP, PIXELS[None], [[1, 2]]],
    ids=["none", "bands first", "grey", "floats", "16 bits", "batch", "list"],
)
def test_bad_array_is_refused_by_the_name_of_its_date(image) -> None:
    with pytest.raises(ValueError, match=r"^before is .*; expected uint8 RGB of shape \(y, x, 3\); scale"):
        make_pair(image, PIXELS)


def test_the_likeliest_mask_is_painted_on_top(tmp_path: Path) -> None:
    probabilities = np.array([[[[0.9, 0.2, 0.6, 0.5]], [[0.1, 0.3, 0.7, 0.4]]]], np.float32)
    masks = ChangeMasks(labels=("building", "road"), probabilities=probabilities)

    write_mask(masks, tmp_path / "mask.png")

    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), [[255, 0, 128, 255]])
    np.testing.assert_array_equal(paint_mask(masks), [[255, 0, 128, 255]])


@pytest.mark.parametrize("name", ["mask.tif", "mask", "none/mask.png"])
def test_a_mask_goes_into_a_png_in_a_folder_that_is_there(name: str, tmp_path: Path) -> None:
    masks = ChangeMasks(labels=("change",), probabilities=np.zeros((1, 1, 2, 2), np.float32))

    with pytest.raises(ValueError, match=r"; expected a file that ends in \.png"):
        write_mask(masks, tmp_path / name)

    assert list(tmp_path.iterdir()) == []

"""Writes made tile pairs as a folder that training and evaluation read, and a contact sheet of them for people.

The pixels come from `model.synthesis`. Training itself takes them from there, without a folder between;
the files are for looking at, for other programs, and for tests.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError, refuse_unwritable
from model.synthesis.pairs import (
    DEFAULT_CHANGE_LEVEL,
    DEFAULT_REMOVAL_LEVEL,
    TILES_PER_LANDSCAPE,
    SyntheticPair,
    synthesize_tiles,
)
from pipeline.training_data.scenes import make_folder

SHEET_PAIRS: Final = 24
"""How many pairs a contact sheet shows of each sort."""
_SHEET_COLUMNS = 4
_SHEET_TILE_PX = 256
_SHEET_GAP_PX = 6
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Before and after, (height, width, 3) uint8 RGB each."""


@dataclass(frozen=True, kw_only=True)
class SyntheticTiles:
    """What was written."""

    folder: Path
    """Holds `A/`, `B/` and `label/` with one PNG per tile each, and `facts.jsonl`."""
    contact_sheet: Path
    """JPEG of the first tiles, before and after side by side."""
    n_tiles: int
    """How many pairs there are."""
    n_changed: int
    """How many of them hold a change."""


def write_synthetic_tiles(
    folder: Path,
    *,
    n_tiles: int,
    seed: int = 0,
    size_px: int = 256,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = DEFAULT_REMOVAL_LEVEL,
    beside: Path | None = None,
    on_tile: Callable[[], None] = lambda: None,
) -> SyntheticTiles:
    """Makes tile pairs of consecutive seeds and writes their images, masks and facts.

    Masks hold 128 where a road changed and 255 where a building did. `facts.jsonl` has one object per tile: its name
    and what `PairFacts` knows.

    Args:
        folder: Where the files go; made when missing, files of the same name are replaced.
        n_tiles: How many pairs.
        seed: Where the seeds begin: pair `i` has the seed `seed * TILES_PER_LANDSCAPE + i`.
        size_px: Height and width.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that a district is built up or torn down between the dates, 0 to 1.
        removal_level: Probability that it is torn down then, 0 to 1.
        beside: Folder with `A/` and `B/` of real pairs that the contact sheet shows below the made ones.
        on_tile: Called after each pair.

    Raises:
        InputError: A number is outside its range, or `beside` has no pairs.
    """
    if n_tiles < 1:
        raise InputError(f"{n_tiles} tiles were asked for", expected="1 or more", remedy="pass another number")
    real = _read_pictures(beside) if beside is not None else []
    first = seed * TILES_PER_LANDSCAPE
    pairs = synthesize_tiles(
        range(first, first + n_tiles),
        size_px=size_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    pairs = _begin(pairs)
    make_folder(folder)
    n_changed, shown = 0, []
    on_sheet = set(np.linspace(0, n_tiles - 1, SHEET_PAIRS).astype(int).tolist())
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as drafts:
        lines = []
        for index, pair in enumerate(pairs):
            name = f"synthetic_{pair.seed:08d}"
            _write_pair(folder, Path(drafts), name, pair)
            lines.append(json.dumps({"name": name, "is_removal": pair.is_removal, **asdict(pair.facts)}))
            n_changed += bool(pair.change_mask.any())
            if index in on_sheet:
                shown.append((pair.before, pair.after))
            on_tile()
        _write_bytes(folder / "facts.jsonl", Path(drafts), "\n".join([*lines, ""]).encode())
        sheet = draw_contact_sheet([*shown, *real])
        _write_bytes(folder / "contact_sheet.jpg", Path(drafts), _encode(".jpg", sheet))
    return SyntheticTiles(
        folder=folder, contact_sheet=folder / "contact_sheet.jpg", n_tiles=n_tiles, n_changed=n_changed
    )


def draw_contact_sheet(pictures: list[Pictures]) -> NDArray[np.uint8]:
    """Lays pairs out in rows of four, before and after side by side: (height, width, 3) uint8 RGB."""
    cells = []
    for before, after in pictures:
        cell = np.full((_SHEET_TILE_PX + _SHEET_GAP_PX, 2 * _SHEET_TILE_PX + _SHEET_GAP_PX, 3), 255, np.uint8)
        for index, image in enumerate((before, after)):
            scaled = cv2.resize(image, (_SHEET_TILE_PX, _SHEET_TILE_PX), interpolation=cv2.INTER_AREA)
            cell[:_SHEET_TILE_PX, index * _SHEET_TILE_PX : (index + 1) * _SHEET_TILE_PX] = scaled
        cells.append(cell)
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % _SHEET_COLUMNS)
    rows = [np.hstack(cells[start : start + _SHEET_COLUMNS]) for start in range(0, len(cells), _SHEET_COLUMNS)]
    return np.vstack(rows)


def _begin(pairs: Iterator[SyntheticPair]) -> Iterator[SyntheticPair]:
    """Makes the first pair at once, so that wrong arguments are found before anything is written."""
    head = next(pairs)

    def resume() -> Iterator[SyntheticPair]:
        yield head
        yield from pairs

    return resume()


def _write_pair(folder: Path, drafts: Path, name: str, pair: SyntheticPair) -> None:
    """Writes the three images of a pair."""
    for part, image in (("A", pair.before), ("B", pair.after), ("label", pair.change_mask)):
        (folder / part).mkdir(exist_ok=True)
        _write_bytes(folder / part / f"{name}.png", drafts, _encode(".png", image))


def _encode(suffix: str, image: NDArray[np.uint8]) -> bytes:
    """Returns an RGB or one-band image as the bytes of a file."""
    stored = image if image.ndim == 2 else np.ascontiguousarray(image[:, :, ::-1])
    _, data = cv2.imencode(suffix, stored)
    return bytes(data.tobytes())


def _write_bytes(path: Path, drafts: Path, data: bytes) -> None:
    """Writes a file that appears complete under its name or not at all."""
    draft = drafts / path.name
    with refuse_unwritable(path, remedy="make room, or choose another folder"):
        draft.write_bytes(data)
        draft.replace(path)


def _read_pictures(folder: Path) -> list[Pictures]:
    """Reads pairs spread over a folder with `A/` and `B/`, for the contact sheet.

    Raises:
        InputError: There are none.
    """
    before, after = (_list_images(folder / part) for part in ("A", "B"))
    names = sorted(before.keys() & after.keys())
    if not names:
        raise InputError(
            f"no pairs in {folder}",
            expected="images of equal names in its folders A and B",
            remedy="name a folder such as LEVIR-CD's",
        )
    chosen = [names[index] for index in sorted(set(np.linspace(0, len(names) - 1, SHEET_PAIRS).astype(int).tolist()))]
    return [(_read_image(before[name]), _read_image(after[name])) for name in chosen]


def _list_images(folder: Path) -> dict[str, Path]:
    """Returns the images of a folder by stem."""
    files: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    return {file.stem: file for file in files if file.suffix.lower() in _IMAGE_SUFFIXES}


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an RGB image."""
    image: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError(f"{path} cannot be read", expected="a PNG or JPEG image", remedy="replace or remove it")
    return np.asarray(image, np.uint8)

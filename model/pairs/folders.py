"""Image pairs with change masks out of folders, and their tiles."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.images import CHANGED_VALUE, ROAD_VALUE, read_image
from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, measure_mask
from model.pairs.told_facts import ToldFacts, read_told_facts

logger = logging.getLogger(__name__)

PAIR_FOLDERS = {"A": "image of the earlier date", "B": "image of the later date", "label": "mask"}
"""Folders of a data set of pairs, and what they hold."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Ends of the names of files that are looked at, in lower case."""

MASK_VALUES = {"building": (CHANGED_VALUE,), "road": (ROAD_VALUE,), "change": (ROAD_VALUE, CHANGED_VALUE)}
"""Which values of a pair's mask a label of the decoder stands for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPair:
    """Two images of one place and what changed between them."""

    name: str
    before: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    after: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    mask: npt.NDArray[np.uint8]
    """Shape (y, x); 0 unchanged, 128 road, 255 building."""
    has_road_truth: bool
    """Whether the mask covers roads; LEVIR-CD's do not."""
    is_removal: bool = False
    """Whether the objects of the mask went rather than came."""
    captions: tuple[str, ...] = ()
    """What people wrote about this pair."""
    is_flagged: bool | None = None
    """Whether people say that something changed, of whatever kind; None where nobody was asked."""
    cover: GroundCover | None = None
    """What the ground under changed buildings was covered with; None where that is not known."""

    @property
    def facts(self) -> ChangeFacts:
        """What the mask says."""
        return measure_mask(self.mask, has_road_truth=self.has_road_truth, is_removal=self.is_removal)


@dataclass(frozen=True, kw_only=True)
class FolderReading:
    """What a folder of pairs gave."""

    pairs: tuple[LabelledPair, ...]
    """Sorted by name."""
    skipped: tuple[str, ...]
    """One line per pair that was left out: its name and why."""


def scan_pair_folder(
    folder: Path,
    *,
    pattern: str = "*",
    captions: Mapping[str, tuple[str, ...]] | None = None,
    has_road_truth: bool = False,
) -> FolderReading:
    """Read a folder with ``A/``, ``B/`` and ``label/``, as far as its files allow.

    A pair is left out, and listed, where one of its three files is missing or cannot be read, or where their sizes
    differ.

    Args:
        folder: Holds the three folders; the files of a pair share their stem. PNG, JPEG or TIFF, 8-bit RGB. What its
            ``facts.jsonl`` tells of a pair holds, if there is one.
        pattern: Which stems to take.
        captions: Sentences by stem.
        has_road_truth: Whether masks hold 128 where a road changed and 255 where a building did; else every value but
            zero is a changed building.

    Raises:
        InputError: no pair is left; two files of one folder share their stem; ``facts.jsonl`` is damaged.
    """
    pairs, skipped = [], []
    told = read_told_facts(folder)
    files = {name: _list_files(folder / name, pattern=pattern) for name in PAIR_FOLDERS}
    for name in sorted({*files["A"], *files["B"]}):
        try:
            pair = _read_pair(
                {part: files[part].get(name) for part in PAIR_FOLDERS},
                has_road_truth=has_road_truth,
                told=told.get(name, ToldFacts()),
            )
        except InputError as problem:
            skipped.append(f"{name}: {problem.found}")
            logger.warning("%s left out: %s", folder / "A" / name, problem)
        else:
            pairs.append(replace(pair, captions=tuple((captions or {}).get(name, ()))))
    if not pairs:
        found = f"; {len(skipped)} left out, the first is {skipped[0]}" if skipped else ""
        raise InputError(
            f"no pair {pattern!r} in {folder}{found}",
            expected="images in A/, B/ and label/ of one stem",
            remedy="correct the folder, the pattern or the files",
        )
    return FolderReading(pairs=tuple(pairs), skipped=tuple(skipped))


def _list_files(folder: Path, *, pattern: str) -> dict[str, Path]:
    """List the images of a folder by stem."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() not in IMAGE_SUFFIXES or not fnmatchcase(file.stem, pattern):
            continue
        if (other := found.get(file.stem)) is not None:
            raise InputError(
                f"{other.name} and {file.name} in {folder} share a name",
                expected="one image per name",
                remedy="move one of them away, or rename it in all three folders",
            )
        found[file.stem] = file
    return found


def _read_pair(files: Mapping[str, Path | None], *, has_road_truth: bool, told: ToldFacts) -> LabelledPair:
    for part, what in PAIR_FOLDERS.items():
        if files[part] is None:
            raise InputError(f"no {what} of this name in {part}/", expected="one", remedy="add it")
    before, after, label = (cast(Path, files[part]) for part in PAIR_FOLDERS)
    mask = read_mask(label)
    has_road_truth = has_road_truth or bool(told.has_road_truth)
    pair = LabelledPair(
        name=before.stem,
        before=read_image(before),
        after=read_image(after),
        mask=mask if has_road_truth else np.where(mask > 0, CHANGED_VALUE, 0).astype(np.uint8),
        has_road_truth=has_road_truth,
        is_removal=told.is_removal,
    )
    sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in (pair.before, pair.after, pair.mask)]
    if len(set(sizes)) > 1:
        raise InputError(
            f"A is {sizes[0]}, B {sizes[1]} and label {sizes[2]} pixels",
            expected="one size",
            remedy="crop them to one area",
        )
    if unknown := sorted(set(np.unique(pair.mask).tolist()) - {0, ROAD_VALUE, CHANGED_VALUE}):
        raise InputError(
            f"{label} holds {unknown[0]}", expected="0, 128 for roads and 255 for buildings", remedy="recode it"
        )
    return pair


def read_mask(file: Path) -> npt.NDArray[np.uint8]:
    """Read a mask as grey values of shape (y, x).

    Raises:
        InputError: it is no image.
    """
    # OpenCV gives the values of a 1-bit file as 0 and 255 and those of any other as they are.
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(
            f"{file} cannot be read", expected="a PNG, JPEG or TIFF mask", remedy="check that the file is whole"
        )
    return mask.astype(np.uint8, copy=False)


def read_captions(file: Path, *, split: str) -> dict[str, tuple[str, ...]]:
    """Read the sentences of one split of a ``captions.json`` as in LEVIR-CC rebuilds, by stem.

    Raises:
        InputError: there is no such file, or it has another form, or nothing of this split.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["pairs"]
        found = {Path(e["filename"]).stem: tuple(e["captions"]) for e in entries if e["split"] == split}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(
            f"{file} cannot be read ({type(problem).__name__}: {problem})",
            expected='{"pairs": [{"filename", "split", "captions"}]}',
            remedy="correct the path or the file",
        ) from None
    if not found:
        splits = ", ".join(sorted({str(e["split"]) for e in entries})) or "none"
        raise InputError(
            f"no captions of split {split!r} in {file}", expected=f"one of: {splits}", remedy="set captions_split"
        )
    return found


def separate_labels(
    pair: LabelledPair, *, labels: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Split a pair's mask by label.

    Returns:
        Whether a pixel changed, of shape (label, y, x), and whether the truth tells of a label, of shape (label,).
        LEVIR masks tell nothing of roads; ``change`` is whatever the mask holds.

    Raises:
        InputError: a label that no value of masks stands for.
    """
    if unknown := [label for label in labels if label not in MASK_VALUES]:
        raise InputError(
            f"no truth for the label {', '.join(unknown)}",
            expected=", ".join(MASK_VALUES),
            remedy="name one of these",
        )
    masks = np.stack([np.isin(pair.mask, MASK_VALUES[label]) for label in labels])
    return masks, np.array([label != "road" or pair.has_road_truth for label in labels])


def cut_tiles(pair: LabelledPair, *, size_px: int) -> Iterator[LabelledPair]:
    """Cut a pair into whole tiles, row-major; what is left at the right and bottom edge is dropped."""
    height, width = pair.mask.shape
    for top in range(0, height - size_px + 1, size_px):
        for left in range(0, width - size_px + 1, size_px):
            yield crop_pair(pair, top=top, left=left, size_px=size_px)


def crop_pair(pair: LabelledPair, *, top: int, left: int, size_px: int) -> LabelledPair:
    """Cut a square out of a pair; its captions stay only where it is the whole pair."""
    part = (slice(top, top + size_px), slice(left, left + size_px))
    is_whole = pair.mask.shape == (size_px, size_px)
    return replace(
        pair,
        name=pair.name if is_whole else f"{pair.name}_{top}_{left}",
        before=pair.before[part],
        after=pair.after[part],
        mask=pair.mask[part],
        captions=pair.captions if is_whole else (),
        is_flagged=pair.is_flagged if is_whole else None,
    )

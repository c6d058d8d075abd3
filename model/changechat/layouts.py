"""Finds the pairs of a source, whatever layout its folders have; opens no image.

========== ==================================================================================
levir-cc   ``images/{train,val,test}/{A,B}/x.png`` and ``LevirCCcaptions.json``; no masks
levir-mci  the same with ``label/`` (road 128, building 255)
levir-cd   ``{train,val,test}/{A,B,label}/x.png``; masks of buildings
folder     ``A/ B/ label/`` with any names, and perhaps ``captions.json``
========== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from model.changechat.captions import CaptionBook, read_captions
from model.changechat.schema import SPLITS, find_split
from model.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
CAPTION_FILES = ("LevirCCcaptions.json", "captions.json")
"""Names under which a captions file is found by itself."""


class Layout(StrEnum):
    """How the folders of a source are laid out."""

    LEVIR_CC = "levir-cc"
    LEVIR_MCI = "levir-mci"
    LEVIR_CD = "levir-cd"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class SourcePair:
    """Two images of one place, as they lie in a source, and what is said of them."""

    id: str
    """Stem of the images' names; unique within the split."""
    split: str
    before: Path
    after: Path
    mask: Path | None
    """Change mask; None where there is none."""
    before_image: str
    """Path of `before` relative to the source's folder of images, with forward slashes."""
    after_image: str
    """Likewise of `after`."""
    captions: tuple[str, ...] = ()
    """Sentences about this pair, as they stand in the captions file."""
    is_changed: bool | None = None
    """The captions file's change flag."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A pair that could not be used, or not wholly."""

    split: str
    id: str
    reason: str
    """A few words, equal for equal problems."""
    detail: str = ""
    """What exactly was found."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The pairs of a source."""

    layout: Layout
    images: Path
    """Folder that image paths are relative to."""
    pairs: tuple[SourcePair, ...]
    """By split in the order of `SPLITS`, then by id."""
    skipped: tuple[Problem, ...] = ()
    """Pairs that are not whole."""
    notes: tuple[Problem, ...] = ()
    """Pairs that lack something and are used nonetheless."""
    empty_splits: tuple[str, ...] = ()
    """Splits whose folders hold no image."""


def detect_layout(source: Path) -> Layout:
    """Tell the layout of a folder.

    Raises:
        InputError: it is no folder, or has none of the layouts.
    """
    if any((source / "images" / split / "A").is_dir() for split in SPLITS):
        has_masks = any((source / "images" / split / "label").is_dir() for split in SPLITS)
        return Layout.LEVIR_MCI if has_masks else Layout.LEVIR_CC
    if any((source / split / "A").is_dir() for split in SPLITS):
        return Layout.LEVIR_CD
    if (source / "A").is_dir() and (source / "B").is_dir():
        return Layout.FOLDER
    found = "not a folder" if not source.is_dir() else "laid out in no way that is known"
    raise InputError(
        f"{source} is {found}",
        expected="A/ and B/, {train,val,test}/{A,B,label} or images/{train,val,test}/{A,B}",
        remedy="name the folder that holds one of these",
    )


def find_pairs(
    source: Path, *, layout: Layout | None = None, captions: Path | None = None, splits: Sequence[str] = ()
) -> Source:
    """Find the pairs of a source.

    Args:
        source: Folder of the layout.
        layout: Its layout; left out, it is detected.
        captions: Captions file; left out, one of `CAPTION_FILES` in the folder, if there is one.
        splits: Splits to take, all if none is named. Pairs of a folder that tells no split are of the one named, or
            ``train``.

    Raises:
        InputError: the folder, its images or the captions file are not there; the captions file is of no known form, or
            no pair is of the splits named.
    """
    layout = layout or detect_layout(source)
    captions = captions or next((source / name for name in CAPTION_FILES if (source / name).is_file()), None)
    finder = _Finder(book=read_captions(captions) if captions else None, wanted=tuple(splits))
    images = source / "images" if layout in {Layout.LEVIR_CC, Layout.LEVIR_MCI} else source
    if layout is Layout.FOLDER:
        finder.search(images, folder=images, split=None)
    else:
        for split in dict.fromkeys((*SPLITS, *splits)):
            if (images / split).is_dir() and finder.wants(split):
                finder.search(images, folder=images / split, split=split)
    finder.note_duplicates()
    if not finder.pairs and not finder.skipped:
        named = f" of the split {' or '.join(splits)}" if splits else ""
        raise InputError(
            f"{source} holds no pair{named}",
            expected=f"images of one name in A/ and B/ ({layout})",
            remedy="name another folder, layout or split",
        )
    order = {split: index for index, split in enumerate(SPLITS)}
    return Source(
        layout=layout,
        images=images,
        pairs=tuple(sorted(finder.pairs, key=lambda pair: (order.get(pair.split, len(order)), pair.split, pair.id))),
        skipped=tuple(finder.skipped),
        notes=tuple(finder.notes),
        empty_splits=tuple(finder.empty_splits),
    )


@dataclass(kw_only=True)
class _Finder:
    """Goes through folders of images and sorts what it finds."""

    book: CaptionBook | None
    wanted: tuple[str, ...]
    pairs: list[SourcePair] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    empty_splits: list[str] = field(default_factory=list)

    def wants(self, split: str) -> bool:
        return not self.wanted or split in self.wanted

    def search(self, images: Path, *, folder: Path, split: str | None) -> None:
        """Take the pairs of one folder with A/ and B/; a split that is None is that of each pair."""
        dates = [self._list_images(folder / name, split=split) for name in ("A", "B")]
        masks = self._list_images(folder / "label", split=split)
        stems = sorted({*dates[0], *dates[1]})
        if not stems and split is not None:
            self.empty_splits.append(split)
        for stem in stems:
            split_of_pair = self._find_split(stem) if split is None else split
            if not self.wants(split_of_pair):
                continue
            if stem in dates[0] and stem in dates[1]:
                files = (dates[0][stem], dates[1][stem], masks.get(stem))
                self._add(stem, files=files, images=images, split=split_of_pair)
            else:
                missing = folder / ("A" if stem not in dates[0] else "B")
                reason = f"no image of the {'earlier' if missing.name == 'A' else 'later'} date"
                self.skipped.append(Problem(split=split_of_pair, id=stem, reason=reason, detail=f"not in {missing}"))

    def note_duplicates(self) -> None:
        """List the entries of the captions file that came again."""
        for split, filename in self.book.duplicates if self.book else ():
            if self.wants(split):
                note = Problem(split=split, id=Path(filename).stem, reason="captions come again", detail=filename)
                self.notes.append(note)

    def _add(self, stem: str, *, files: tuple[Path, Path, Path | None], images: Path, split: str) -> None:
        before, after, mask = files
        entry = self.book.find(stem, split=split) if self.book else None
        if entry is not None and entry.n_empty:
            detail = f"{entry.n_empty} of {entry.n_empty + len(entry.captions)} captions"
            self.notes.append(Problem(split=split, id=stem, reason="captions without words", detail=detail))
        self.pairs.append(
            SourcePair(
                id=stem,
                split=split,
                before=before,
                after=after,
                mask=mask,
                before_image=before.relative_to(images).as_posix(),
                after_image=after.relative_to(images).as_posix(),
                captions=entry.captions if entry else (),
                is_changed=entry.is_changed if entry else None,
            )
        )

    def _find_split(self, stem: str) -> str:
        entry = self.book.find(stem) if self.book else None
        told = (entry.split if entry else "") or find_split(stem)
        return told or (self.wanted[0] if len(self.wanted) == 1 else SPLITS[0])

    def _list_images(self, folder: Path, *, split: str | None) -> dict[str, Path]:
        """List the images of a folder by stem; of two with one stem the first by name counts."""
        files: dict[str, Path] = {}
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.suffix.lower() not in IMAGE_SUFFIXES or not file.is_file():
                continue
            if file.stem in files:
                split_of_file = self._find_split(file.stem) if split is None else split
                known = {(problem.split, problem.id, problem.reason) for problem in self.skipped}
                if self.wants(split_of_file) and (split_of_file, file.stem, "id comes again") not in known:
                    self.skipped.append(
                        Problem(split=split_of_file, id=file.stem, reason="id comes again", detail=str(file))
                    )
            else:
                files[file.stem] = file
        return files

"""Folders of pairs, ``A/ B/ label/``, read tile by tile with what is true of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.changechat.layouts import SourcePair, find_pairs
from model.changechat.masks import LEVIR_MCI_VALUES, ONE_CLASS_VALUES, ClassValues, infer_class_values, read_mask
from model.errors import InputError
from model.evaluation.cases import EvaluationTile, Skipped, make_labelled_tile
from model.evaluation.references import PartCaptions, PartKey, holds_parts, read_part_captions
from model.images import CHANGED_VALUE, ROAD_VALUE, read_image
from model.interface import Prompt
from model.pairs.folders import LabelledPair
from model.pairs.told_facts import ToldFacts, read_told_facts

_LEVIR_CC_STEM = re.compile(r"(train|val|test)_(\d{6})")
_CROPS_PER_SCENE = 16
# ^ LEVIR-CC's pairs are the 4 x 4 parts of LEVIR-CD's scenes, in order.


@dataclass(frozen=True, kw_only=True)
class FolderSelection:
    """Which pairs of a folder, and what is known of them."""

    pattern: str = "*"
    """Which pairs, by their stem; several patterns are separated by commas."""
    split: str | None = None
    """Which split; all where left out."""
    tile_size_px: int | None = None
    """Side of the tiles; where left out, the shorter side of each pair."""
    captions: Path | None = None
    """File of captions by pair or by part of a panel; where left out, the folder's ``captions.json`` if it has one."""
    class_values: ClassValues | None = None
    """What the values of masks stand for; where left out, the masks tell."""

    def takes(self, stem: str) -> bool:
        """Tell whether a pair is among them by its stem."""
        return any(fnmatchcase(stem, pattern) for pattern in self.pattern.split(","))


@dataclass(kw_only=True)
class PairFolder:
    """A folder whose tiles can be read, and what could not be."""

    pairs: Sequence[SourcePair]
    parts: Mapping[PartKey, PartCaptions]
    """Captions of parts of panels."""
    class_values: ClassValues
    tile_size_px: int | None
    told: Mapping[Path, Mapping[str, ToldFacts]] = field(default_factory=dict)
    """What folders tell beside their masks, by folder and pair."""
    skipped: list[Skipped] = field(default_factory=list)
    """What cannot be evaluated; grows while tiles are read."""
    notes: list[str] = field(default_factory=list)
    """What people should know; grows while tiles are read."""

    @property
    def n_pairs(self) -> int:
        """How many pairs there are to read."""
        return len(self.pairs)

    def read_tiles(
        self, *, prompts: Sequence[Prompt], on_pair: Callable[[], None] = lambda: None
    ) -> Iterator[EvaluationTile]:
        """Read the tiles, pair by pair; what cannot be read goes to `skipped`.

        Args:
            prompts: What is asked about each.
            on_pair: Called when a pair has been read.
        """
        used: set[PartKey] = set()
        for files in self.pairs:
            try:
                pair = self._read_pair(files)
            except InputError as problem:
                self.skipped.append(Skipped(name=files.id, reason=str(problem)))
            else:
                yield from self._cut(pair, files=files, prompts=prompts, used=used)
            on_pair()
        if lost := len(self.parts.keys() - used):
            self.notes.append(
                f"{lost} of {len(self.parts)} boxes with captions are no tile of these: other panels, "
                "or another tile size"
            )

    def _read_pair(self, files: SourcePair) -> LabelledPair:
        if files.mask is None and not files.captions and files.is_changed is None:
            raise InputError(
                "no mask in label/, and no captions", expected="one of them", remedy="add one, or leave the pair out"
            )
        before, after = read_image(files.before), read_image(files.after)
        mask = np.zeros(before.shape[:2], np.int32) if files.mask is None else read_mask(files.mask)
        sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in (before, after, mask)]
        if len(set(sizes)) > 1:
            raise InputError(
                f"before, after and mask are {', '.join(sizes)} pixels",
                expected="one size",
                remedy="crop them to one area",
            )
        if self.tile_size_px is not None and min(mask.shape) < self.tile_size_px:
            raise InputError(
                f"{sizes[0]} pixels",
                expected=f"at least {self.tile_size_px} a side, as a tile has",
                remedy="lower the size of tiles, or leave the pair out",
            )
        told = self.told.get(_find_home(files), {}).get(files.id, ToldFacts())
        return LabelledPair(
            name=files.id,
            before=before,
            after=after,
            mask=name_values(mask, values=self.class_values),
            has_road_truth=self.class_values.road is not None and told.has_road_truth is not False,
            is_removal=told.is_removal,
        )

    def _cut(
        self, pair: LabelledPair, *, files: SourcePair, prompts: Sequence[Prompt], used: set[PartKey]
    ) -> Iterator[EvaluationTile]:
        height, width = pair.mask.shape
        side = self.tile_size_px or min(height, width)
        is_whole = height == width == side
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                key = (pair.name, (left, top, left + side, top + side))
                of_part = self.parts.get(key)
                used |= {key} & self.parts.keys()
                told: PartCaptions | SourcePair | None = of_part or (files if is_whole else None)
                part = (slice(top, top + side), slice(left, left + side))
                tile = make_labelled_tile(
                    replace(
                        pair,
                        name=pair.name if is_whole else f"{pair.name}_{top}_{left}",
                        before=pair.before[part],
                        after=pair.after[part],
                        mask=pair.mask[part],
                        captions=told.captions if told is not None else (),
                    ),
                    prompts=prompts,
                    scene=find_scene(pair.name),
                    flag=told.is_changed if told is not None else None,
                    # Boxes tell of some parts of panels; all parts should be judged alike.
                    is_flag_truth=of_part is None,
                    has_mask=files.mask is not None,
                )
                if tile.cases:
                    yield replace(tile, pair=pair.name, top=top, left=left)


def open_pair_folder(folder: Path, *, selection: FolderSelection) -> PairFolder:
    """Find the pairs of a folder and what is known of them, whichever layout it has.

    Args:
        folder: Holds ``A/`` and ``B/``, and ``label/`` where there are masks; or holds such folders by split.
        selection: Which of them, and what is known besides.

    Raises:
        InputError: there is no such folder or file, or no pair of the selection; the captions have another form, or
            none of them holds a word.
    """
    in_parts = selection.captions is not None and holds_parts(selection.captions)
    parts = read_part_captions(selection.captions) if in_parts and selection.captions is not None else {}
    source = find_pairs(
        folder,
        captions=None if in_parts else selection.captions,
        splits=() if selection.split is None else (selection.split,),
    )
    pairs = [pair for pair in source.pairs if selection.takes(pair.id)]
    if not pairs:
        raise InputError(
            f"no pair {selection.pattern!r} in {folder}",
            expected=f"one of {len(source.pairs)} images there, such as "
            f"{source.pairs[0].id if source.pairs else 'A/x.png and B/x.png'}",
            remedy="correct --data or --pattern",
        )
    stems = {pair.id for pair in pairs}
    notes = [f"{note.id}: {note.reason} ({note.detail})" for note in source.notes if note.id in stems]
    n_empty = sum(part.n_empty for part in parts.values())
    notes += [f"{n_empty} captions hold no word and are left out"] if n_empty else []
    if notes and not any(
        captions for captions in (*(p.captions for p in pairs), *(p.captions for p in parts.values()))
    ):
        raise InputError(
            f"captions of {folder} without a word in any of them: {notes[0]}",
            expected="words separated by blanks",
            remedy="correct the captions, or take them away to score the other answers alone",
        )
    n_unmasked = sum(pair.mask is None for pair in pairs)
    notes += [f"{n_unmasked} of {len(pairs)} pairs have no mask: judged by captions alone"] if n_unmasked else []
    told = {home: read_told_facts(home) for home in {_find_home(pair) for pair in pairs}}
    has_roads = any(facts.has_road_truth for of_folder in told.values() for facts in of_folder.values())
    values = selection.class_values or (LEVIR_MCI_VALUES if has_roads else _infer_values(pairs, notes=notes))
    return PairFolder(
        pairs=pairs,
        parts=parts,
        class_values=values,
        tile_size_px=selection.tile_size_px,
        told=told,
        skipped=[
            Skipped(name=problem.id, reason=f"{problem.reason} ({problem.detail})")
            for problem in source.skipped
            if selection.takes(problem.id)
        ],
        notes=notes,
    )


def _find_home(pair: SourcePair) -> Path:
    """Give the folder that holds a pair's ``A/`` and ``B/``."""
    return pair.before.parent.parent


def _infer_values(pairs: Sequence[SourcePair], *, notes: list[str]) -> ClassValues:
    """Tell by all masks together what their values stand for; where that is in doubt, that any but 0 is a building."""
    found: set[int] = set()
    for pair in pairs:
        if pair.mask is not None:
            try:
                found |= set(np.unique(read_mask(pair.mask)).tolist())
            except InputError:
                # It is told when the pair is read.
                continue
    try:
        return infer_class_values(found)
    except InputError as problem:
        notes.append(f"{problem.found}: any value but 0 is taken as a changed building")
        return ONE_CLASS_VALUES


def name_values(mask: npt.NDArray[np.int32], *, values: ClassValues) -> npt.NDArray[np.uint8]:
    """Give a mask the values that ChangeChat-105k's masks have: 0, 128 for roads and 255 for buildings."""
    is_building = mask != 0 if values.building is None else np.isin(mask, values.building)
    is_road = np.isin(mask, values.road or ())
    named = np.where(is_road, np.uint8(ROAD_VALUE), np.uint8(0))
    return np.where(is_building, np.uint8(CHANGED_VALUE), named)


def find_scene(stem: str) -> str:
    """Name the scene that a pair was cut from: of LEVIR-CC's the scene of LEVIR-CD, else the pair itself."""
    if (match := _LEVIR_CC_STEM.fullmatch(stem)) is None:
        return stem
    return f"{match[1]}_{(int(match[2]) - 1) // _CROPS_PER_SCENE + 1}"

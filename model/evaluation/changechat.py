"""ChangeChat JSON as an evaluation: every question with what its file says is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.changechat.reading import merge_captions, read_changechat
from model.changechat.schema import Instruction
from model.errors import InputError
from model.evaluation.captions import tokenize_caption
from model.evaluation.cases import Case, EvaluationTile, Skipped
from model.evaluation.pair_folders import find_scene
from model.images import make_pair
from model.interface import Prompt, PromptKind
from model.parsing import ParsedCount, parse_answer

WORDED_KINDS = frozenset({PromptKind.DESCRIBE, PromptKind.ASK, PromptKind.DIALOGUE})
"""Kinds whose answers are words, which are compared with words."""


@dataclass(kw_only=True)
class ChangeChatFile:
    """A file whose pairs can be read, and what could not be."""

    instructions: Sequence[Sequence[Instruction]]
    """Those of each pair."""
    skipped: list[Skipped] = field(default_factory=list)
    """Filled when the file is opened, and while tiles are read."""
    notes: list[str] = field(default_factory=list)
    """What people should know; grows while tiles are read."""

    @property
    def n_pairs(self) -> int:
        """How many pairs there are to read."""
        return len(self.instructions)

    def read_tiles(
        self, *, prompts: Sequence[Prompt] = (), on_pair: Callable[[], None] = lambda: None
    ) -> Iterator[EvaluationTile]:
        """Read the pairs; those that cannot be read go to `skipped`.

        Args:
            prompts: Of no matter: the file holds what is asked.
            on_pair: Called when a pair has been read.
        """
        del prompts
        for group in self.instructions:
            first = group[0]
            cases = [case for instruction in group if (case := self._make_case(instruction)) is not None]
            try:
                pixels = make_pair(first.before, first.after)
            except InputError as problem:
                self.skipped.append(Skipped(name=first.before.stem, reason=str(problem)))
            else:
                if cases:
                    counts = [case.truth.building_count for case in cases if isinstance(case.truth, ParsedCount)]
                    yield EvaluationTile(
                        name=first.before.stem,
                        scene=find_scene(first.before.stem),
                        pixels=pixels,
                        cases=tuple(cases),
                        flag=first.is_changed,
                        building_count=counts[0] if counts else None,
                    )
            on_pair()

    def _make_case(self, instruction: Instruction) -> Case | None:
        kind = instruction.answer_kind
        truth = None if kind in WORDED_KINDS else parse_answer(kind, instruction.answer)
        references = tuple(text for text in instruction.references if tokenize_caption(text))
        is_known = bool(references) if kind in WORDED_KINDS else truth is not None
        if not is_known:
            self.skipped.append(
                Skipped(
                    name=instruction.id, reason=f"the {kind.value} answer {instruction.answer!r} cannot be understood"
                )
            )
            return None
        return Case(
            id=instruction.id,
            prompt=Prompt(name=instruction.id, kind=kind, text=instruction.prompt_text),
            truth=truth,
            references=references,
            is_changed=instruction.is_changed,
            is_in_dialogue=instruction.kind is PromptKind.DIALOGUE,
        )


def open_changechat(file: Path, *, images: Path, split: str | None = None) -> ChangeChatFile:
    """Read a ChangeChat file and put what it asks of one pair together.

    Args:
        file: JSON in one of ChangeChat-105k's forms.
        images: Folder that the image paths are relative to.
        split: Which split; all where left out.

    Raises:
        InputError: there is no such file, or it is of another form, or holds nothing of the split.
    """
    everything = read_changechat(file, images=images)
    chosen = [i for i in merge_captions(everything) if split is None or i.split == split]
    if not chosen:
        splits = sorted({i.split for i in everything} - {""})
        known = f" of the splits {', '.join(splits)}" if splits else ""
        found = f"no instruction of split {split!r}" if split is not None else "no instruction"
        raise InputError(f"{found} in {file}", expected=f"some{known}", remedy="correct --data or --split")
    groups: dict[tuple[Path, Path], list[Instruction]] = {}
    for instruction in chosen:
        groups.setdefault((instruction.before, instruction.after), []).append(instruction)
    return ChangeChatFile(instructions=list(groups.values()))

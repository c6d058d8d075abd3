"""Reads ChangeChat JSON: the files published as ChangeChat-105k, and those that this package writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.changechat.schema import Instruction, Record, Turn, find_split, group_by_pair
from model.errors import InputError
from model.interface import PromptKind
from model.prompts import infer_kind, load_prompt_book

logger = logging.getLogger(__name__)

_ONE_RECORD = "an entry with image (two paths) and conversations, or with image_A, image_B and captions"
_REMEDY = "correct the entry, or leave it out"


class _RecordError(ValueError):
    """An entry that is no record: what was found."""


def read_changechat(file: Path, *, images: Path) -> list[Instruction]:
    """Read a ChangeChat file as instructions, in the order of the file.

    A dialogue gives one instruction per turn, each with the turns before it as its history. Captions that a training
    file spreads over several records of one pair are all references of each of them; `merge_captions` makes one
    instruction of them. The images themselves are not opened.

    Args:
        file: JSON in one of ChangeChat-105k's two forms.
        images: Folder that the image paths are relative to.

    Raises:
        InputError: there is no such file, or it is no JSON list of records; the message names the entry.
    """
    records = read_records(file)
    captions = {
        pair: tuple(dict.fromkeys(answer for record in group for answer in _list_captions(record)))
        for pair, group in group_by_pair(records).items()
    }
    return [
        instruction
        for record in records
        for instruction in expand_record(
            record, images=images, captions=captions[record.before_image, record.after_image]
        )
    ]


def read_records(file: Path) -> list[Record]:
    """Read a ChangeChat file as it is; ids that stand twice get a suffix.

    Raises:
        InputError: there is no such file, or it is no JSON list of records.
    """
    records = []
    n_seen: dict[str, int] = {}
    for index, entry in enumerate(_read_entries(file)):
        try:
            record = _parse_entry(entry, index=index, file=file)
        except _RecordError as problem:
            raise InputError(f"{file}, entry {index}: {problem}", expected=_ONE_RECORD, remedy=_REMEDY) from None
        n_seen[record.id] = n_seen.get(record.id, 0) + 1
        repeat = n_seen[record.id]
        records.append(record if repeat == 1 else replace(record, id=f"{record.id}-{repeat}"))
    if n_repeated := sum(count - 1 for count in n_seen.values()):
        logger.warning("%s: %d ids stand more than once; they were given a suffix", file, n_repeated)
    return records


def expand_record(record: Record, *, images: Path, captions: Sequence[str] = ()) -> list[Instruction]:
    """Make an instruction of every turn of a record.

    Args:
        record: What the file says.
        images: Folder that the image paths are relative to.
        captions: All captions of the pair, the references of a description.
    """
    instructions = []
    for index, turn in enumerate(record.turns):
        is_caption = record.kind is PromptKind.DESCRIBE
        instructions.append(
            Instruction(
                id=record.id if len(record.turns) == 1 else f"{record.id}.{index + 1}",
                split=record.split,
                kind=record.kind,
                question=turn.question,
                answer=turn.answer,
                history=tuple((earlier.question, earlier.answer) for earlier in record.turns[:index]),
                references=tuple(captions) if is_caption and captions else (turn.answer,),
                before=images / record.before_image,
                after=images / record.after_image,
                is_changed=record.is_changed,
            )
        )
    return instructions


def merge_captions(instructions: Sequence[Instruction]) -> list[Instruction]:
    """Keep one description of each pair, the first; its references are all captions. Other kinds pass unchanged."""
    seen: set[tuple[Path, Path]] = set()
    kept = []
    for instruction in instructions:
        pair = (instruction.before, instruction.after)
        if instruction.kind is not PromptKind.DESCRIBE or pair not in seen:
            kept.append(instruction)
        if instruction.kind is PromptKind.DESCRIBE:
            seen.add(pair)
    return kept


def _read_entries(file: Path) -> list[Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(
            f"{file} cannot be read ({problem.strerror or problem})",
            expected="a ChangeChat JSON file",
            remedy="correct the path",
        ) from None
    except ValueError as problem:
        # ^ both of JSON and of UTF-8
        raise InputError(
            f"{file} is no JSON ({problem})",
            expected="a ChangeChat JSON file",
            remedy="check that it was fetched whole",
        ) from None
    if isinstance(entries, list):
        return entries
    raise InputError(
        f"{file} holds {type(entries).__name__}", expected="a list of entries", remedy="name a ChangeChat file"
    )


def _parse_entry(entry: Any, *, index: int, file: Path) -> Record:
    if not isinstance(entry, dict):
        raise _RecordError(f"{type(entry).__name__} instead of an object")
    before, after = _read_images(entry)
    is_evaluation = "captions" in entry
    turns = _read_captions(entry["captions"]) if is_evaluation else _read_turns(entry.get("conversations"))
    if is_evaluation:
        kind = PromptKind.DESCRIBE
    elif len(turns) > 1:
        kind = PromptKind.DIALOGUE
    else:
        kind = infer_kind(turns[0].question, is_first=True)
    return Record(
        id=str(entry.get("id", index)),
        split=find_split(file.stem, before),
        kind=kind,
        before_image=before,
        after_image=after,
        is_changed=_read_flag(entry.get("changeflag")),
        turns=turns[:1] if is_evaluation else turns,
        references=tuple(turn.answer for turn in turns) if is_evaluation else (),
    )


def _read_images(entry: dict[str, Any]) -> tuple[str, str]:
    paths = entry.get("image", [entry.get("image_A"), entry.get("image_B")])
    if not isinstance(paths, list) or len(paths) != 2 or not all(isinstance(path, str) and path for path in paths):
        raise _RecordError(f"images {paths!r}")
    return paths[0], paths[1]


def _read_turns(conversations: Any) -> tuple[Turn, ...]:
    if not isinstance(conversations, list) or not conversations or len(conversations) % 2:
        length = f"{len(conversations)} messages" if isinstance(conversations, list) else repr(conversations)
        raise _RecordError(f"conversations of {length}, not of questions and answers in turn")
    values = []
    for message, speaker in zip(conversations, ("human", "gpt") * (len(conversations) // 2), strict=True):
        value = message.get("value") if isinstance(message, dict) else None
        if not isinstance(value, str) or message.get("from") != speaker:
            raise _RecordError(f"the message {message!r} where {speaker} speaks")
        values.append(value.replace("<image>", "").strip())
    return tuple(Turn(question=q, answer=a) for q, a in zip(values[0::2], values[1::2], strict=True))


def _read_captions(captions: Any) -> tuple[Turn, ...]:
    if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
        raise _RecordError(f"captions {captions!r}")
    question = next(p.text for p in load_prompt_book().prompts if p.kind is PromptKind.DESCRIBE)
    return tuple(Turn(question=question, answer=text.strip()) for text in captions)


def _read_flag(flag: Any) -> bool | None:
    if flag is None:
        return None
    if not isinstance(flag, bool | int):
        raise _RecordError(f"changeflag {flag!r}")
    return bool(flag)


def _list_captions(record: Record) -> tuple[str, ...]:
    if record.kind is not PromptKind.DESCRIBE:
        return ()
    return record.references or tuple(turn.answer for turn in record.turns)

"""Writes a set as ChangeChat-105k's JSON files, as one Parquet table and as a summary."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.changechat.building import BuiltSet, MeasuredPair
from model.changechat.layouts import Problem
from model.changechat.schema import KIND_SUFFIXES, Record, write_record
from model.conversation import write_prompt
from model.errors import refuse_unwritable
from model.interface import PromptKind

TABLE_NAME = "changechat.parquet"
SUMMARY_NAME = "summary.json"

_TEXT_COLUMNS = {
    "id": "Id of the record; ID.2 is the second turn of a dialogue or the second caption of an evaluation pair.",
    "split": "train, val, test or a name of the user's.",
    "kind": "describe, classify, count, locate, ask or dialogue.",
    "question": "Without history.",
    "answer": "What to learn or to compare with.",
    "history": "Turns before the question, as the model reads them; empty for the first.",
    "before_image": "Path of the earlier date, relative to the folder of images.",
    "after_image": "Path of the later date, relative to the folder of images.",
}
_FACT_COLUMNS = {
    "building_count": ("int32", "External contours of changed buildings; null without a mask."),
    "road_count": ("int32", "External contours of changed roads; null where masks do not cover roads."),
    "is_changed": ("bool", "The captions file's flag, else whether the mask holds anything."),
    "building_cells": ("string", "Cells of which over 5 % changed, such as top-left;center-center."),
    "road_cells": ("string", "Likewise of roads; null where masks do not cover them."),
}


def write_set(built: BuiltSet, output: Path) -> dict[str, Any]:
    """Write a set: a JSON file per split and kind, `TABLE_NAME`, and `SUMMARY_NAME` last.

    Each file appears whole under its name or not at all; files that an earlier call wrote and this one does not are
    removed. ``changechat_train.json`` holds all kinds together, as the original's training takes them. Equal sets give
    equal bytes.

    Args:
        built: What to write.
        output: Folder; made where it is not there.

    Returns:
        The summary, as it is written.

    Raises:
        InputError: the folder cannot be written to.
    """
    with refuse_unwritable(output):
        output.mkdir(parents=True, exist_ok=True)
        former = _list_former_files(output)
        with tempfile.TemporaryDirectory(dir=output, prefix=".changechat-") as name:
            drafts = Path(name)
            files = {file: _write_json(entries, drafts / file) for file, entries in _lay_out(built.records)}
            write_table(built, drafts / TABLE_NAME)
            summary = summarise_set(built) | {
                "files": {file: {"records": n, "sha256": _hash(drafts / file)} for file, n in files.items()}
                | {TABLE_NAME: {"rows": sum(1 for _ in _list_rows(built)), "sha256": _hash(drafts / TABLE_NAME)}}
            }
            (drafts / SUMMARY_NAME).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
            # A summary that speaks of other files must not outlive them.
            (output / SUMMARY_NAME).unlink(missing_ok=True)
            for file in (*files, TABLE_NAME, SUMMARY_NAME):
                (drafts / file).replace(output / file)
            for file in former - {*files, TABLE_NAME}:
                (output / file).unlink(missing_ok=True)
    return summary


def summarise_set(built: BuiltSet) -> dict[str, Any]:
    """Tell what a set holds and what it does not, in plain values."""
    counts: dict[str, dict[str, int]] = {}
    for record in built.records:
        of_split = counts.setdefault(record.split, {kind.value: 0 for kind in PromptKind})
        of_split[record.kind.value] += 1
    values = built.class_values
    return {
        "layout": built.source.layout.value,
        "images": str(built.source.images),
        "class_values": None if values is None else values.to_dict(),
        "pairs": dict(Counter(pair.pair.split for pair in built.pairs)),
        "changed_pairs": dict(Counter(pair.pair.split for pair in built.pairs if pair.is_changed)),
        "records": counts,
        "captions_by_people": sum(pair.has_own_captions for pair in built.pairs),
        "captions_by_mask": sum(bool(pair.captions) and not pair.has_own_captions for pair in built.pairs),
        "flag_and_mask_differ": sum(pair.is_flag_contradicted for pair in built.pairs),
        "empty_splits": list(built.source.empty_splits),
        "skipped": _list_problems(built.skipped),
        "notes": _list_problems(built.notes),
    }


def _lay_out(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Give each file its records; the mixed file of training first."""
    for split in dict.fromkeys(record.split for record in records):
        of_split = [record for record in records if record.split == split]
        if split == "train":
            yield "changechat_train.json", of_split
        for kind, suffix in KIND_SUFFIXES.items():
            if of_kind := [record for record in of_split if record.kind is kind]:
                yield f"changechat_{split}_{suffix}.json", of_kind


def _write_json(records: Sequence[Record], file: Path) -> int:
    lines = ",\n".join(json.dumps(write_record(record), ensure_ascii=False) for record in records)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return len(records)


def write_table(built: BuiltSet, file: Path) -> None:
    """Write the records of a set as a table."""
    # pyarrow takes a while to import, and reading a set needs none of it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        pa.field(name, pa.string(), nullable=False, metadata={"description": text})
        for name, text in _TEXT_COLUMNS.items()
    ]
    fields += [
        pa.field(name, pa.type_for_alias(kind), metadata={"description": text})
        for name, (kind, text) in _FACT_COLUMNS.items()
    ]
    table = pa.Table.from_pylist(list(_list_rows(built)), schema=pa.schema(fields))
    pq.write_table(table, file, compression="zstd")


def _list_rows(built: BuiltSet) -> Iterator[dict[str, Any]]:
    facts = {(pair.pair.before_image, pair.pair.after_image): _describe_facts(pair) for pair in built.pairs}
    for record in built.records:
        answered = [(turn.question, turn.answer) for turn in record.turns]
        if record.references:
            answered = [(record.turns[0].question, caption) for caption in record.references]
        for index, (question, answer) in enumerate(answered):
            history = answered[:index] if record.kind is PromptKind.DIALOGUE else []
            yield {
                "id": record.id if len(answered) == 1 else f"{record.id}.{index + 1}",
                "split": record.split,
                "kind": record.kind.value,
                "question": question,
                "answer": answer,
                "history": write_prompt(history, question="").removesuffix("  q: "),
                "before_image": record.before_image,
                "after_image": record.after_image,
                **facts[record.before_image, record.after_image],
            }


def _describe_facts(measured: MeasuredPair) -> dict[str, Any]:
    building = measured.facts.building if measured.facts else None
    road = measured.facts.road if measured.facts else None
    return {
        "building_count": building.count if building else None,
        "road_count": road.count if road else None,
        "is_changed": measured.is_changed,
        "building_cells": ";".join(building.cells) if building else None,
        "road_cells": ";".join(road.cells) if road else None,
    }


def _list_problems(problems: Sequence[Problem]) -> dict[str, Any]:
    by_reason = Counter(problem.reason for problem in problems)
    return {
        "count": len(problems),
        "by_reason": dict(sorted(by_reason.items())),
        "pairs": [
            {"split": problem.split, "id": problem.id, "reason": problem.reason, "detail": problem.detail}
            for problem in sorted(problems, key=lambda problem: (problem.split, problem.id, problem.reason))
        ],
    }


def _list_former_files(output: Path) -> set[str]:
    """List what an earlier call wrote here, by its summary: bare names of files, nothing else."""
    try:
        named = json.loads((output / SUMMARY_NAME).read_text(encoding="utf-8"))["files"]
        return {name for name in named if Path(name).name == name and name.startswith("changechat")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

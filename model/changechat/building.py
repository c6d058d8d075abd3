"""Builds the records of a ChangeChat-style set from the pairs of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from model.changechat.captions import write_as_answer
from model.changechat.layouts import Problem, Source, SourcePair
from model.changechat.masks import (
    ClassValues,
    check_class_values,
    infer_class_values,
    list_values,
    measure_classes,
    read_mask,
)
from model.changechat.phrasing import (
    answer_classify,
    answer_count,
    answer_locate,
    describe_by_mask,
    find_question,
    make_dialogue,
)
from model.changechat.schema import Record, Turn, arrange_records
from model.errors import InputError
from model.images import read_image
from model.interface import PromptKind
from model.pairs.facts import ChangeFacts

ProgressCallback = Callable[[int, int], None]
"""Is told how many pairs are done, of how many."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """A pair whose images can be read, and what its mask says."""

    pair: SourcePair
    facts: ChangeFacts | None
    """None without a mask."""
    is_changed: bool | None
    """The captions file's flag where there is one, else whether the mask holds anything; None without either."""
    captions: tuple[str, ...]
    """Those of people, else one after the mask, else none."""

    @property
    def has_own_captions(self) -> bool:
        """Whether people described the pair."""
        return bool(self.pair.captions)

    @property
    def is_flag_contradicted(self) -> bool:
        """Whether the captions file's flag and the mask differ; changes of what the mask does not cover do that."""
        return self.facts is not None and self.is_changed != self.facts.is_changed


@dataclass(frozen=True, kw_only=True)
class BuiltSet:
    """A set that is ready to be written."""

    source: Source
    class_values: ClassValues | None
    """What the masks' values were taken for; None where no pair has a mask."""
    pairs: tuple[MeasuredPair, ...]
    records: tuple[Record, ...]
    """In the order of the pairs; ids are numbers from 0 in each split."""
    skipped: tuple[Problem, ...]
    """Pairs that gave no record."""
    notes: tuple[Problem, ...]
    """Pairs that lack something and gave records nonetheless."""


def build_set(
    source: Source, *, class_values: ClassValues | None = None, on_progress: ProgressCallback | None = None
) -> BuiltSet:
    """Read the pairs of a source and make all records that need no language model.

    Args:
        source: What `find_pairs` found.
        class_values: What the masks' values mean; left out, that is told from the values of all masks.
        on_progress: Is told how far it is.

    Raises:
        InputError: the masks' values could mean anything, or not one pair can be used.
    """
    values = choose_class_values(source.pairs, told=class_values)
    measured: list[MeasuredPair] = []
    skipped = list(source.skipped)
    for index, pair in enumerate(source.pairs):
        outcome = measure_pair(pair, values=values)
        if isinstance(outcome, MeasuredPair):
            measured.append(outcome)
        else:
            skipped.append(outcome)
        if on_progress is not None:
            on_progress(index + 1, len(source.pairs))
    if not measured:
        reasons = Counter(problem.reason for problem in skipped)
        told = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        raise InputError(
            f"none of {len(skipped)} pairs can be used ({told})",
            expected="whole images of one size, each with a mask or captions",
            remedy=f"see for example {skipped[0].id}: {skipped[0].detail or skipped[0].reason}",
        )
    return BuiltSet(
        source=source,
        class_values=values,
        pairs=tuple(measured),
        records=tuple(arrange_records([record for pair in measured for record in make_records(pair)])),
        skipped=tuple(skipped),
        notes=(*source.notes, *(note for pair in measured for note in _list_notes(pair))),
    )


def add_records(built: BuiltSet, records: Sequence[Record]) -> BuiltSet:
    """Put records that were made elsewhere, such as open questions, beside those of their pairs.

    Splits and change flags are those of the pairs, and all ids are made anew.

    Raises:
        InputError: a record is about a pair that is not in the set.
    """
    pairs = {(pair.pair.before_image, pair.pair.after_image): pair for pair in built.pairs}
    added = []
    for record in records:
        pair = pairs.get((record.before_image, record.after_image))
        if pair is None:
            raise InputError(
                f"a record about {record.before_image} and {record.after_image}",
                expected="a pair of the set",
                remedy="make records for the pairs of this set",
            )
        added.append(replace(record, split=pair.pair.split, is_changed=pair.is_changed))
    return replace(built, records=tuple(arrange_records([*built.records, *added])))


def choose_class_values(pairs: Sequence[SourcePair], *, told: ClassValues | None) -> ClassValues | None:
    """Decide what the values of all masks mean, and refuse what fits none of them.

    Args:
        pairs: The pairs of a source; masks that cannot be read are passed over.
        told: What is said of them; None to infer it.

    Returns:
        Their meaning; None where no pair has a mask.

    Raises:
        InputError: the values could mean anything, or are none of those that were said.
    """
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    if not masks:
        return None
    found: set[int] = set()
    for mask in masks:
        with suppress(InputError):
            found.update(list_values(read_mask(mask)))
    if told is None:
        return infer_class_values(found)
    check_class_values(told, found=found)
    return told


def measure_pair(pair: SourcePair, *, values: ClassValues | None) -> MeasuredPair | Problem:
    """Read a pair's images and mask and tell what changed, or why it cannot be used."""
    fail = partial(Problem, split=pair.split, id=pair.id)
    sizes = {}
    for date, file in (("before", pair.before), ("after", pair.after)):
        try:
            sizes[date] = read_image(file).shape[:2]
        except InputError as problem:
            return fail(reason=f"image of {date} cannot be used", detail=_shorten(problem))
    facts = None
    if pair.mask is not None and values is not None:
        try:
            mask = read_mask(pair.mask)
        except InputError as problem:
            return fail(reason="mask cannot be used", detail=_shorten(problem))
        sizes["mask"] = mask.shape
        facts = measure_classes(mask, values=values) if len(set(sizes.values())) == 1 else None
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {width} x {height}" for name, (height, width) in sizes.items())
        return fail(reason="sizes differ", detail=f"{told} pixels")
    if facts is None and not pair.captions:
        return fail(reason="neither mask nor captions", detail="nothing can be answered about it")
    is_changed = pair.is_changed if pair.is_changed is not None or facts is None else facts.is_changed
    captions = pair.captions
    if not captions and facts is not None and is_changed is not None:
        captions = describe_by_mask(facts, is_changed=is_changed, pair_id=f"{pair.split}/{pair.id}")
    return MeasuredPair(pair=pair, facts=facts, is_changed=is_changed, captions=captions)


def make_records(measured: MeasuredPair) -> list[Record]:
    """Make the records of a pair: of ChangeChat-105k's six kinds the five that rules can answer.

    Captions make one record each for training; elsewhere they are the references of a single one.
    """
    pair, facts, is_changed = measured.pair, measured.facts, measured.is_changed
    make = partial(
        Record,
        id=pair.id,
        split=pair.split,
        before_image=pair.before_image,
        after_image=pair.after_image,
        is_changed=is_changed,
    )
    records = list(_make_descriptions(measured))
    single = []
    if is_changed is not None:
        single.append((PromptKind.CLASSIFY, answer_classify(is_changed=is_changed)))
    if is_changed is not None and facts is not None:
        single.append((PromptKind.COUNT, answer_count(facts, is_changed=is_changed)))
        single.append((PromptKind.LOCATE, answer_locate(facts, is_changed=is_changed)))
    for kind, answer in single:
        records.append(make(kind=kind, turns=(Turn(question=find_question(kind), answer=answer),)))
    if is_changed is not None and facts is not None:
        turns = make_dialogue(facts, is_changed=is_changed, captions=measured.captions)
        records.append(make(kind=PromptKind.DIALOGUE, turns=turns))
    return records


def _make_descriptions(measured: MeasuredPair) -> Iterator[Record]:
    pair, captions = measured.pair, measured.captions
    is_training = pair.split == "train"
    question = find_question(PromptKind.DESCRIBE)
    for caption in captions if is_training else captions[:1]:
        answer = write_as_answer(caption) if is_training else caption
        yield Record(
            id=pair.id,
            split=pair.split,
            kind=PromptKind.DESCRIBE,
            before_image=pair.before_image,
            after_image=pair.after_image,
            is_changed=measured.is_changed,
            turns=(Turn(question=question, answer=answer),),
            references=() if is_training else captions,
        )


def _list_notes(measured: MeasuredPair) -> Iterator[Problem]:
    pair = measured.pair
    if measured.facts is None:
        yield Problem(split=pair.split, id=pair.id, reason="no mask", detail="only described and classified")
    if not measured.captions:
        yield Problem(split=pair.split, id=pair.id, reason="no captions", detail="the flag and the mask differ")


def _shorten(problem: Exception) -> str:
    return str(problem).partition("; expected")[0]

"""What the words of an answer mean: pure functions from text to values, or None for what cannot be read.

The forms are those of ChangeChat-105k, on which DeltaVLM was trained, and what models make of them: lower
case, lost punctuation, number words, plain sentences. Whatever could be read in two ways is not read at all: a
text kept for a person to look at is worth more than a guess in a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import assert_never

from model.interface import CELL_NAMES, PromptKind
from model.plain_words import (
    KIND,
    KIND_OF_WORD,
    PLAIN_WORDS,
    has_odd_signs,
    list_words,
    says_nothing_changed,
    says_something_changed,
)


@dataclass(frozen=True, kw_only=True)
class ParsedText:
    """The answer to a prompt whose words are the finding: `describe`, `ask` and `dialogue`."""

    text: str
    """The words, without blanks around them or before their stops."""


@dataclass(frozen=True, kw_only=True)
class ParsedClassify:
    """The answer to a `classify` prompt."""

    is_changed: bool
    """Whether the model says that the two dates differ."""


@dataclass(frozen=True, kw_only=True)
class ParsedCount:
    """The answer to a `count` prompt."""

    building_count: int | None
    """Buildings that changed; None where the answer does not speak of buildings."""
    road_count: int | None
    """Roads that changed; None where the answer does not speak of roads."""


@dataclass(frozen=True, kw_only=True)
class ParsedLocate:
    """The answer to a `locate` prompt."""

    building_cells: tuple[str, ...] | None
    """Cells with changed buildings, ordered as `CELL_NAMES`; None where it does not mention buildings."""
    road_cells: tuple[str, ...] | None
    """Likewise cells with changed roads."""


ParsedAnswer = ParsedText | ParsedClassify | ParsedCount | ParsedLocate


def parse_answer(kind: PromptKind, text: str) -> ParsedAnswer | None:
    """Read an answer.

    Args:
        kind: Kind of the prompt that was answered, which fixes the form.
        text: The model's words.

    Returns:
        The meaning, or None if the text has no meaning that is beyond doubt; one without a word has none.
    """
    is_worded = kind in {PromptKind.DESCRIBE, PromptKind.ASK, PromptKind.DIALOGUE}
    if not has_words(text) or (has_odd_signs(text) and not is_worded):
        return None
    match kind:
        case PromptKind.CLASSIFY:
            return _parse_classify(text)
        case PromptKind.COUNT:
            return _parse_count(text)
        case PromptKind.LOCATE:
            return _parse_locate(text)
        case PromptKind.DESCRIBE | PromptKind.ASK | PromptKind.DIALOGUE:
            return ParsedText(text=close_stops(text))
        case _:
            assert_never(kind)


def has_words(text: str) -> bool:
    """Tell whether a text says anything."""
    return re.search(r"\w", text) is not None


def close_stops(text: str) -> str:
    """Take blanks from around a text and from before its stops: the captions that models learn from have them there."""
    return re.sub(r"\s+(?=[.,;:!?](?:\s|$))", "", text.strip())


def _parse_classify(text: str) -> ParsedClassify | None:
    if says_nothing_changed(text) or set(list_words(text)) == {"no"}:
        return ParsedClassify(is_changed=False)
    # "No doubt", "no buildings, but a road", "no, they differ": a no with anything else behind it is not read.
    return ParsedClassify(is_changed=True) if says_something_changed(text) else None


_NUMBER_NAMES = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_OF_WORD = {name: number for number, name in enumerate(_NUMBER_NAMES.split())}
_NUMBER_OF_WORD |= {"no": 0, "none": 0, "a": 1, "an": 1}
_MAX_DIGITS = 3
# ^ No tile holds more; a stuck model repeats digits without end.

# Words that may stand between a number and what it counts: "no change in roads" is no roads, but "a change in
# roads" is not one road.
_FILLER = r"of|the|new|newly|built|constructed|changed"
_BETWEEN_NUMBER_AND_KIND = re.compile(rf"{_FILLER}|more|additional|other|small|large|long|residential")
# "No large buildings" leaves room for small ones.
_BETWEEN_NO_AND_KIND = re.compile(rf"{_FILLER}|any|in|to|changes?|differences?")
_CONJUNCTION = re.compile(r"and|or|nor")
# Words around a kind whose number follows it: "the number of roads changed is 2", "new buildings: 3", "road changes 1".
_BESIDE_KIND = re.compile(
    r"and|or|nor|the|total|number|count|of|in|new|newly|changed|changes?|built|constructed|has|have|been|is|are|was|were"
)
_BETWEEN_DATES = re.compile(r"\bbetween (?:the |these |both )*(?:two )?(?:images|scenes|pictures|dates)\b")
# "3 buildings in both images" are not changed, "each of 2 areas has 3" makes six.
_COUNT_WORDS = PLAIN_WORDS - {
    "both",
    "each",
    "image",
    "images",
    "scene",
    "scenes",
    "picture",
    "pictures",
    "date",
    "dates",
}
# "The total number of buildings is 5" may be of all that are there.
_CHANGE_WORDS = frozenset(
    {"change", "changes", "changed", "changing", "new", "newly", "built", "constructed", "added", "appeared", "removed"}
)
# "Road 66" and "house number 5" are names.
_NAMED = re.compile(
    rf"\b(?:building|house|villa|road|street)\s+(?:number\s+)?(?:\d|(?:{_NUMBER_NAMES.replace(' ', '|')})\b)"
)


def _parse_count(text: str) -> ParsedCount | None:
    if says_nothing_changed(text):
        return ParsedCount(building_count=0, road_count=0)
    lowered = _BETWEEN_DATES.sub(" ", text.lower())
    tokens = re.findall(r"\d[\d.,)]*|[^\W\d_]+", lowered)
    is_plain = all(token in _COUNT_WORDS or token in KIND_OF_WORD or _to_number(token) is not None for token in tokens)
    if not is_plain or "/" in lowered or "&" in lowered or re.search(r"(?<!\w)[-\u2212](?=\w)", lowered):
        return None
    if "total" in tokens and _CHANGE_WORDS.isdisjoint(tokens):
        return None
    in_form = None if _NAMED.search(lowered) else _read_kind_then_number(tokens)
    counts: dict[str, int] = {}
    for kind, number in in_form or _read_number_then_kind(tokens) or ():
        if kind in counts and (number or counts[kind]):
            # Twice the same thing, or one more.
            return None
        counts[kind] = number
    is_open = not {"or", "nor"}.isdisjoint(tokens) and any(counts.values())
    if not counts or is_open:
        return None
    return ParsedCount(building_count=counts.get("building"), road_count=counts.get("road"))


def _to_number(token: str) -> int | None:
    """Read a token as a count; None for other words, for 2.5 and for 1000000."""
    digits = token.rstrip(".,)")
    is_count = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    return int(digits) if is_count else _NUMBER_OF_WORD.get(token)


def _read_kind_then_number(tokens: list[str]) -> list[tuple[str, int]] | None:
    """Read ``roads: 1, buildings: 3``: nothing of weight but kinds, each followed by its number."""
    words = [token for token in tokens if not _BESIDE_KIND.fullmatch(token)]
    kinds = [KIND_OF_WORD.get(word) for word in words[0::2]]
    # "Roads have a change" is not one road.
    numbers = [None if word in {"a", "an"} else _to_number(word) for word in words[1::2]]
    if len(kinds) != len(numbers) or None in kinds or None in numbers:
        return None
    return [(k, n) for k, n in zip(kinds, numbers, strict=True) if k is not None and n is not None]


def _read_number_then_kind(tokens: list[str]) -> list[tuple[str, int]] | None:
    """Read ``1 road has changed, and 3 buildings``: every number finds its kind, ``no`` may have two."""
    pairs: list[tuple[str, int]] = []
    pending: int | None = None
    previous: list[str] = ["", ""]
    for token in tokens:
        kind, number = KIND_OF_WORD.get(token), _to_number(token)
        between = _BETWEEN_NUMBER_AND_KIND if pending else _BETWEEN_NO_AND_KIND
        if kind is not None:
            is_joined = _CONJUNCTION.fullmatch(previous[-1]) and previous[-2] in KIND_OF_WORD
            if pending is None and is_joined and pairs and pairs[-1][1] == 0:
                # "no roads or buildings" means both; "3 roads and buildings" leaves the second open.
                pending = 0
            if pending is None:
                return None
            pairs.append((kind, pending))
            pending = None
        elif number is not None:
            if pending is not None or not token[-1].isalnum():
                # "1. building" is the first of a list.
                return None
            pending = number
        elif pending is not None and not between.fullmatch(token):
            return None
        if token not in {"the", "any", "new"}:
            previous = [previous[-1], token]
    return pairs if pending is None else None


_ROW_OF_WORD = {
    "top": "top",
    "upper": "top",
    "center": "center",
    "centre": "center",
    "middle": "center",
    "bottom": "bottom",
    "lower": "bottom",
}
_COLUMN_OF_WORD = {
    "left": "left",
    "center": "center",
    "centre": "center",
    "middle": "center",
    "right": "right",
}
_CELL = re.compile(
    rf"\b({'|'.join(_ROW_OF_WORD)})(?:\s*[-_]\s*|\s+)({'|'.join(_COLUMN_OF_WORD)})\b",
)
_KINDS_TOGETHER = re.compile(rf"\b{KIND}\b(?:\s*(?:/|&|\band\b|\bor\b|\bnor\b)\s*(?:the\s+|new\s+)?{KIND}\b)*")
# A "no" in front of a kind belongs to it: "no roads", "no changes in the buildings", "no new roads".
_NO_BEFORE_KIND = re.compile(
    r"\b(?:no|neither|none\s+of)\s+(?:changes?\s+(?:in|to|of)\s+)?(?:the\s+|new\s+|changed\s+)*$"
)
_NOTHING_IN_SEGMENT = re.compile(r"\b(?:none|nowhere|no\s+(?:changes?|cells?)|not\s+changed|unchanged)\b")
_NEGATION = re.compile(r"\b(?:no|nor|not|none|nowhere|neither|unchanged)\b")
_LOCATE_WORDS = (
    PLAIN_WORDS - {"other"}
    | frozenset((*KIND_OF_WORD, *_ROW_OF_WORD, *_COLUMN_OF_WORD))
    | {"not", "nowhere", "neither", "unchanged"}
)
# "Seen in both images" has not changed.
_AT_BOTH_DATES = re.compile(r"\b(?:both|two)\s+(?:images|scenes|pictures|dates)\b")
# Two cells with such between them are a range, or one is a place within the other.
_BINDS_CELLS = re.compile(r"\b(?:to|of|for|yes)\b|[:-]|\.\.")
_POSITION_WORD = re.compile(rf"\b(?:{'|'.join({**_ROW_OF_WORD, **_COLUMN_OF_WORD})})\b")


def _parse_locate(text: str) -> ParsedLocate | None:
    if says_nothing_changed(text):
        return ParsedLocate(building_cells=(), road_cells=())
    lowered = _BETWEEN_DATES.sub(" ", text.lower())
    headings = list(_KINDS_TOGETHER.finditer(lowered))
    head = lowered[: headings[0].start()] if headings else ""
    if not headings or _CELL.search(head) or _NEGATION.search(_NO_BEFORE_KIND.sub("", head)):
        return None
    if not _LOCATE_WORDS.issuperset(list_words(_CELL.sub(" ", lowered))) or _AT_BOTH_DATES.search(lowered):
        return None
    cells_of_kind: dict[str, tuple[str, ...]] = {}
    is_no_next = _NO_BEFORE_KIND.search(head) is not None
    for number, heading in enumerate(headings):
        end = headings[number + 1].start() if number + 1 < len(headings) else len(lowered)
        segment = lowered[heading.end() : end]
        is_no, no_after = is_no_next, _NO_BEFORE_KIND.search(segment)
        is_no_next = no_after is not None
        cells = _read_cells(segment[: no_after.start()] if no_after else segment, is_no=is_no)
        if cells is None or (cells and re.search(r"\bn?or\b", heading.group())):
            return None
        for word in re.findall(rf"\b{KIND}\b", heading.group()):
            if cells_of_kind.setdefault(KIND_OF_WORD[word], cells) != cells:
                return None
    return ParsedLocate(building_cells=cells_of_kind.get("building"), road_cells=cells_of_kind.get("road"))


def _read_cells(segment: str, *, is_no: bool) -> tuple[str, ...] | None:
    """Read the cells that follow a kind; empty if the words say so, None if they say nothing clear."""
    found = {f"{_ROW_OF_WORD[row]}-{_COLUMN_OF_WORD[column]}" for row, column in _CELL.findall(segment)}
    rest = _CELL.sub(" ", segment)
    lists = re.findall(r"\[([^\[\]]*)\]", segment)
    if _POSITION_WORD.search(rest) or not segment.count("[") == segment.count("]") == len(lists) < 2:
        # "top" alone is no cell, and an open bracket is a list that was cut off.
        return None
    is_empty_list = lists != [] and not lists[0].strip(" \t\n'\"")
    if not found:
        return () if is_no or is_empty_list or _NOTHING_IN_SEGMENT.search(segment) else None
    gaps = _CELL.sub("\0", segment).split("\0")[1:-1]
    is_bound = re.search(r"\bbetween\b", rest) or any(_BINDS_CELLS.search(gap) for gap in gaps)
    if is_no or is_empty_list or is_bound or _NEGATION.search(rest):
        return None
    return tuple(name for name in CELL_NAMES if name in found)

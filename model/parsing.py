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


@dataclass(frozen=True, kw_only=True)
class ParsedText:
    """The answer to a prompt whose words are the finding: `describe`, `ask` and `dialogue`."""

    text: str
    """The words, without blanks around them."""


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
        The meaning, or None if the text has no meaning that is beyond doubt.
    """
    match kind:
        case PromptKind.CLASSIFY:
            return _parse_classify(text)
        case PromptKind.COUNT:
            return _parse_count(text)
        case PromptKind.LOCATE:
            return _parse_locate(text)
        case PromptKind.DESCRIBE | PromptKind.ASK | PromptKind.DIALOGUE:
            return ParsedText(text=text.strip()) if text.strip() else None
        case _:
            assert_never(kind)


_KIND_OF_WORD = {
    "building": "building",
    "buildings": "building",
    "house": "building",
    "houses": "building",
    "villa": "building",
    "villas": "building",
    "road": "road",
    "roads": "road",
    "street": "road",
    "streets": "road",
}
_KIND = "(?:" + "|".join(_KIND_OF_WORD) + ")"

# Whole sentences that say that nothing changed, in the words of LEVIR-CC and ChangeChat, bare of punctuation.
_NOTHING_CHANGED = re.compile(
    r"(?:no )?(?:"
    # ^ "No, there are no changes."
    r"(?:there (?:is|are|was|were) )?no (?:obvious |visible |significant )?(?:changes?|differences?)"
    r"(?: (?:has|have) (?:occurred|happened))?"
    rf"(?: (?:in|to|of) (?:the |any )?{_KIND} (?:or|and|nor) (?:the |any )?{_KIND})?"
    r"(?: (?:between|in) (?:the |these |both )?(?:two )?(?:images|scenes|pictures|dates))?"
    r"|(?:almost )?nothing has changed"
    r"|the (?:two )?(?:scenes?|images) (?:is|are|seems?|looks?) (?:identical|the same)(?: as before)?"
    r")"
)


def _says_nothing_changed(text: str) -> bool:
    return _NOTHING_CHANGED.fullmatch(" ".join(re.findall(r"[a-z0-9]+", text.lower()))) is not None


def _parse_classify(text: str) -> ParsedClassify | None:
    if _says_nothing_changed(text):
        return ParsedClassify(is_changed=False)
    words = re.findall(r"[a-z]+", text.lower())
    if not words or words[0] not in {"yes", "no"}:
        return None
    opposite = "no" if words[0] == "yes" else "yes"
    # ^ "Yes or no" repeats the question, and "no yes" is no answer.
    return None if opposite in words[1:3] else ParsedClassify(is_changed=words[0] == "yes")


_NUMBER_NAMES = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_OF_WORD = {name: number for number, name in enumerate(_NUMBER_NAMES.split())}
_NUMBER_OF_WORD |= {"no": 0, "none": 0, "a": 1, "an": 1}
_MAX_DIGITS = 3
# ^ No tile holds more; a stuck model repeats digits without end.

# Words that may stand between a number and what it counts: "no change in roads" is no roads, but "a change in
# roads" is not one road.
_FILLER = r"of|the|new|newly|more|additional|other|small|large|long|residential|built|constructed|changed"
_BETWEEN_NUMBER_AND_KIND = re.compile(_FILLER)
_BETWEEN_NO_AND_KIND = re.compile(rf"{_FILLER}|any|in|to|changes?|differences?")
_CONJUNCTION = re.compile(r"and|or|nor")
# Words around a kind whose number follows it: "the number of roads changed is 2", "new buildings: 3", "road changes 1".
_BESIDE_KIND = re.compile(
    r"and|or|nor|the|total|number|count|of|in|new|newly|changed|changes?|built|constructed|has|have|been|is|are|was|were"
)
# Words that turn a count around or blur it.
_DOUBTFUL = re.compile(
    r"\b(?:not|unchanged|without|except|least|most|about|approximately|around|than|few|couple|some|several|many|half"
    r"|\w+teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|dozens?|hundreds?|thousands?)\b|n't"
)


def _parse_count(text: str) -> ParsedCount | None:
    if _says_nothing_changed(text):
        return ParsedCount(building_count=0, road_count=0)
    lowered = text.lower()
    if _DOUBTFUL.search(lowered):
        return None
    tokens = re.findall(r"\d[\d.,]*|[a-z]+", lowered)
    pairs = _read_kind_then_number(tokens) or _read_number_then_kind(tokens)
    counts: dict[str, int] = {}
    for kind, number in pairs or ():
        if counts.setdefault(kind, number) != number:
            return None
    if not counts:
        return None
    return ParsedCount(building_count=counts.get("building"), road_count=counts.get("road"))


def _to_number(token: str) -> int | None:
    """Read a token as a count; None for other words, for 2.5 and for 1000000."""
    digits = token.rstrip(".,")
    is_count = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    return int(digits) if is_count else _NUMBER_OF_WORD.get(token)


def _read_kind_then_number(tokens: list[str]) -> list[tuple[str, int]] | None:
    """Read ``roads: 1, buildings: 3``: nothing of weight but kinds, each followed by its number."""
    words = [token for token in tokens if not _BESIDE_KIND.fullmatch(token)]
    kinds = [_KIND_OF_WORD.get(word) for word in words[0::2]]
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
        kind, number = _KIND_OF_WORD.get(token), _to_number(token)
        if kind is not None:
            is_joined = _CONJUNCTION.fullmatch(previous[-1]) and previous[-2] in _KIND_OF_WORD
            if pending is None and is_joined:
                # "no roads or buildings" means both; "3 roads and buildings" leaves the second open.
                if not pairs or pairs[-1][1] != 0:
                    return None
                pending = 0
            if pending is not None:
                pairs.append((kind, pending))
            pending = None
        elif number is not None:
            if pending is not None:
                return None
            pending = number
        elif token in {"images", "scenes", "pictures", "dates"}:
            pending = None
        elif token[0].isdigit() or (
            pending is not None and not (_BETWEEN_NUMBER_AND_KIND if pending else _BETWEEN_NO_AND_KIND).fullmatch(token)
        ):
            return None
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
_KINDS_TOGETHER = re.compile(rf"\b{_KIND}\b(?:\s*(?:/|&|\band\b|\bor\b|\bnor\b)\s*(?:the\s+|new\s+)?{_KIND}\b)*")
# A "no" in front of a kind belongs to it: "no roads", "no changes in the buildings", "no new roads".
_NO_BEFORE_KIND = re.compile(r"\b(?:no|neither)\s+(?:changes?\s+(?:in|to|of)\s+)?(?:the\s+|new\s+|changed\s+)*$")
_NOTHING_IN_SEGMENT = re.compile(r"\b(?:none|nowhere|no\s+(?:changes?|cells?)|not\s+changed|unchanged)\b")
_NEGATION = re.compile(r"\b(?:no|not|none|nowhere|neither|without|except|unchanged)\b|n't")
_POSITION_WORD = re.compile(rf"\b(?:{'|'.join({**_ROW_OF_WORD, **_COLUMN_OF_WORD})})\b")


def _parse_locate(text: str) -> ParsedLocate | None:
    if _says_nothing_changed(text):
        return ParsedLocate(building_cells=(), road_cells=())
    lowered = text.lower()
    headings = list(_KINDS_TOGETHER.finditer(lowered))
    if not headings or _CELL.search(lowered[: headings[0].start()]):
        return None
    cells_of_kind: dict[str, tuple[str, ...]] = {}
    is_no_next = _NO_BEFORE_KIND.search(lowered[: headings[0].start()]) is not None
    for number, heading in enumerate(headings):
        end = headings[number + 1].start() if number + 1 < len(headings) else len(lowered)
        segment = lowered[heading.end() : end]
        is_no, no_after = is_no_next, _NO_BEFORE_KIND.search(segment)
        is_no_next = no_after is not None
        cells = _read_cells(segment[: no_after.start()] if no_after else segment, is_no=is_no)
        if cells is None:
            return None
        for word in re.findall(rf"\b{_KIND}\b", heading.group()):
            if cells_of_kind.setdefault(_KIND_OF_WORD[word], cells) != cells:
                return None
    return ParsedLocate(building_cells=cells_of_kind.get("building"), road_cells=cells_of_kind.get("road"))


def _read_cells(segment: str, *, is_no: bool) -> tuple[str, ...] | None:
    """Read the cells that follow a kind; empty if the words say so, None if they say nothing clear."""
    found = {f"{_ROW_OF_WORD[row]}-{_COLUMN_OF_WORD[column]}" for row, column in _CELL.findall(segment)}
    rest = _CELL.sub(" ", segment)
    opened, closed = segment.count("["), segment.count("]")
    if _POSITION_WORD.search(rest) or opened != closed or opened > 1:
        # "top" alone is no cell, and an open bracket is a list that was cut off.
        return None
    if found:
        return None if is_no or _NEGATION.search(rest) else tuple(name for name in CELL_NAMES if name in found)
    is_empty_list = opened == 1 and re.search(r"\[[\s'\"]*\]", segment) is not None
    return () if is_no or is_empty_list or _NOTHING_IN_SEGMENT.search(segment) else None

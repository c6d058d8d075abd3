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
    if not has_words(text):
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

# Sentences that say that nothing changed, in the words of LEVIR-CC and ChangeChat and close to them, bare of
# punctuation. Whatever follows, such as "apart from two houses", makes another sentence of them.
_OF_KINDS = rf"(?: (?:in|to|of) (?:the |any )?{_KIND} (?:or|and|nor) (?:the |any )?{_KIND})?"
_IN_IMAGES = r"(?: (?:between|in) (?:the |these |both )?(?:two )?(?:images|scenes|pictures|dates))?"
_SEEN = r"(?: (?:(?:has|have) (?:occurred|happened)|(?:is|are|was|were) (?:visible|seen|found|detected|observed)))?"
_NOTHING_CHANGED = re.compile(
    rf"(?:there (?:is|are|was|were) )?no (?:obvious |visible |significant )?(?:changes?|differences?)"
    rf"{_SEEN}{_OF_KINDS}{_IN_IMAGES}"
    r"|(?:almost )?nothing has changed"
    r"|there (?:is|are) none|there (?:is|are) not|they have not|it has not"
    r"|(?:the |both )?(?:two )?(?:scenes?|images) (?:has|have) not changed"
    r"|(?:the |both )?(?:two )?(?:scenes?|images) (?:is|are|seems?|looks?|remains?)"
    r" (?:identical|unchanged|the same)(?: as before)?"
)
# What a sentence behind "yes" has to speak of, and what it must not hold, as it may turn the yes around or blur it.
_SPEAKS_OF_CHANGE = re.compile(
    r"^\W*(?:there (?:is|are)|they have|it has)\W*$|"
    r"\b(?:chang(?:e|es|ed)|differ(?:s|ent|ences?)?|new|newly|built|constructed|added|removed|demolished|replaced|cleared"
    r"|expanded|extended|(?:dis)?appear(?:s|ed)?|emerged?)\b"
)
_MAY_DENY = re.compile(
    r"\b(?:0|zero|nil|no|not|none|nothing|nowhere|never|neither|nor|without|lack(?:s|ing)?|absen(?:t|ce)|free|un\w+"
    r"|identical|same|similar|alike|equal|stable|constant|static|remain(?:s|ed)?|little|hardly|barely|scarcely|few"
    r"|except|excluding|but|however|although|though|yet|apart|other|maybe|perhaps|possibly|probably|may|might|could"
    r"|would|if|or|whether|cannot|wrong|false|hard|difficult|doubt\w*)\b|n['\u2019]t\b"
)


def _list_sentences(text: str) -> list[str]:
    """List the sentences of a text, each as its words in lower case."""
    sentences = (" ".join(re.findall(r"[a-z0-9]+", part)) for part in re.split(r"[.!?;\n]", text.lower()))
    return [sentence for sentence in sentences if sentence]


def _says_nothing_changed(text: str) -> bool:
    # "No, there are no changes." is a no and a sentence; lost punctuation leaves them as one.
    sentences = [
        re.sub(r"^no (?=no |nothing |the |both |there |they |it )", "", each) for each in _list_sentences(text)
    ]
    said = [sentence for sentence in sentences if sentence != "no"]
    return bool(said) and all(_NOTHING_CHANGED.fullmatch(sentence) for sentence in said)


def _parse_classify(text: str) -> ParsedClassify | None:
    words = re.findall(r"[a-z]+", text.lower())
    if _says_nothing_changed(text) or (words and set(words) == {"no"}):
        return ParsedClassify(is_changed=False)
    if not words or words[0] != "yes":
        # "No doubt", "no buildings, but a road", "no, they differ": a no with anything else behind it.
        return None
    rest = re.sub(r"^\W*yes\b", "", text.lower())
    is_told = set(words) == {"yes"} or (_SPEAKS_OF_CHANGE.search(rest) and not _MAY_DENY.search(rest))
    return ParsedClassify(is_changed=True) if is_told else None


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
# Words that leave what they surround as it is. Any other, such as "not", "except", "remain", "about" or "twenty", may
# turn it around or blur it.
_PLAIN = """
a an the there is are was were be been being has have had and or nor in of on at to for both between two with also it
they that which these total number count yes no none any each respectively i can see changed change changes changing
new newly more additional other small large long residential appear appears appeared built constructed erected added
removed demolished destroyed replaced cleared disappear disappears disappeared occur occurs occurred happened located
location locations position positions visible seen found detected observed identified image images scene scenes
picture pictures date dates cell cells area areas region regions part parts corner difference differences following
"""
_PLAIN_WORDS = frozenset(_PLAIN.split())


def _parse_count(text: str) -> ParsedCount | None:
    if _says_nothing_changed(text):
        return ParsedCount(building_count=0, road_count=0)
    lowered = text.lower()
    tokens = re.findall(r"\d[\d.,]*|[^\W\d_]+", lowered)
    is_plain = all(token in _PLAIN_WORDS or token in _KIND_OF_WORD or _to_number(token) is not None for token in tokens)
    if not is_plain or re.search(r"(?<!\w)[-\u2212]\d", lowered):
        return None
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
        elif pending is not None and not (_BETWEEN_NUMBER_AND_KIND if pending else _BETWEEN_NO_AND_KIND).fullmatch(
            token
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
_NEGATION = re.compile(r"\b(?:no|not|none|nowhere|neither|unchanged)\b")
_LOCATE_WORDS = frozenset({"not", "nowhere", "neither", "unchanged", *_ROW_OF_WORD, *_COLUMN_OF_WORD})
_POSITION_WORD = re.compile(rf"\b(?:{'|'.join({**_ROW_OF_WORD, **_COLUMN_OF_WORD})})\b")


def _parse_locate(text: str) -> ParsedLocate | None:
    if _says_nothing_changed(text):
        return ParsedLocate(building_cells=(), road_cells=())
    lowered = text.lower()
    headings = list(_KINDS_TOGETHER.finditer(lowered))
    head = lowered[: headings[0].start()] if headings else ""
    if not headings or _CELL.search(head) or _NEGATION.search(_NO_BEFORE_KIND.sub("", head)):
        return None
    words = re.findall(r"[^\W_]+", _CELL.sub(" ", lowered))
    if not all(word in _PLAIN_WORDS or word in _KIND_OF_WORD or word in _LOCATE_WORDS for word in words):
        return None
    cells_of_kind: dict[str, tuple[str, ...]] = {}
    is_no_next = _NO_BEFORE_KIND.search(head) is not None
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

"""Whether a description says that buildings went or that they came: the test by swapped dates.

A tile where something was built, shown with its dates the other way round, shows it gone. A model that looks at both
dates but not at their order says "built" of both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum


class Direction(StrEnum):
    """What a description says of buildings."""

    BUILT = "built"
    REMOVED = "removed"
    BOTH = "both"
    NEITHER = "neither"


def _list_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUILDING_WORDS = _list_words(
    "bungalow bungalows building buildings complex complexes cottage cottages construction constructions facilities "
    "factory factories home homes house houses mall malls mansion mansions residential roof roofs structure structures "
    "villa villas village villages warehouse warehouses"
)
"""What counts as a building: LEVIR-CC's words for them, and a few more."""
REMOVAL_WORDS = _list_words(
    "bulldozed cleared demolish demolished destroyed disappear disappeared disappears dismantled flattened gone "
    "missing pulled razed remove removed replaced torn vanish vanished vanishes"
)
"""What says that the thing named before it went: also of "replaced by", whose other side came."""
BUILT_WORDS = _list_words(
    "added appear appeared appears arise arisen build built construct constructed emerge emerged emerges erected "
    "established rebuilt reconstructed replace replaces replacing show showed shown shows"
)
"""What says that the thing named before it came."""
_CHANGE_WORDS = REMOVAL_WORDS | BUILT_WORDS
_CLAUSE_ENDS = frozenset({"and", ",", "while", "but", "where", "with"})
_DETERMINERS = _list_words(
    "a an all another big few five four group huge large long lots many more new of old one other rows row several six "
    "small some the three two"
)
_REPLACED_BY = frozenset({"by", "with"})
_DENIALS = _list_words("no not never none neither nor nothing without hardly t")
# ^ The last is what is left of "haven't".
_UNCHANGED = _list_words("unchanged untouched intact identical same unaltered")


def read_direction(text: str) -> Direction:
    """Tell whether a description says of buildings that they were built or removed, by a rule of words.

    A word of change speaks of what stands before it in its clause ("the villas along the road disappear"), or right
    behind it ("demolished some old houses"). Behind "replaced by" stands what came, and a "new house" came too. So
    "trees are removed and houses are built" and "trees are replaced by houses" tell of building alone, and "houses are
    removed" of removal. What is denied in its clause is not said: "no house was built".
    """
    tokens = re.findall(r"[a-z]+|,", text.lower().replace("no longer", "gone"))
    said: set[Direction] = set()
    start = 0
    for index, word in enumerate(tokens):
        is_denied = _is_denied(tokens[start:index])
        if word == "new" and not is_denied and _names_building(_take_object(tokens[index + 1 :])):
            said.add(Direction.BUILT)
        if word not in _CHANGE_WORDS:
            continue
        ahead = tokens[index + 1 :]
        if is_denied or (ahead and ahead[0] in _UNCHANGED):
            start = index + 1
            continue
        if _names_building(_take_subject(tokens[start:index], is_first=start == 0)) or _names_building(
            _take_object(ahead)
        ):
            said.add(Direction.REMOVED if word in REMOVAL_WORDS else Direction.BUILT)
        if word == "replaced" and ahead[:1] and ahead[0] in _REPLACED_BY and _names_building(_take_object(ahead[1:])):
            said.add(Direction.BUILT)
        start = index + 1
    if not said:
        return Direction.NEITHER
    return said.pop() if len(said) == 1 else Direction.BOTH


def _take_subject(tokens: Sequence[str], *, is_first: bool) -> Sequence[str]:
    """Give what a word of change speaks of: all since the one before, less the end of that one's clause."""
    if is_first:
        return tokens
    end = next((index for index, token in enumerate(tokens) if token in _CLAUSE_ENDS), -1)
    return tokens[end + 1 :]


def _is_denied(tokens: Sequence[str]) -> bool:
    """Tell whether the clause that these words end is a no."""
    # A comma may be that of a list: "no houses, sheds or barns were built".
    ends = [index for index, token in enumerate(tokens) if token in _CLAUSE_ENDS - {","}]
    first = ends[-1] + 1 if ends else 0
    return not _DENIALS.isdisjoint(tokens[first:])


def _take_object(tokens: Sequence[str]) -> Sequence[str]:
    """Give the noun that follows at once, with what counts or qualifies it before."""
    end = next((index for index, token in enumerate(tokens) if token not in _DETERMINERS), len(tokens))
    return tokens[: end + 1]


def _names_building(tokens: Sequence[str]) -> bool:
    return not BUILDING_WORDS.isdisjoint(tokens)

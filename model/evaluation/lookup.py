"""What a table of sentences would score in a model's place: a description has to say more than yes, no and a number.

The table has one sentence for each of a model's own answers to whether anything changed and how many buildings did. It
is made of what people wrote of other scenes: scenes are dealt into two halves, and each half is described by the table
of the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from model.evaluation.captions import CaptionedText, score_cider, tokenize_caption
from model.evaluation.cases import AnsweredCase, AnsweredTile
from model.interface import PromptKind
from model.parsing import ParsedCount

COUNT_BINS = (0, 1, 3, 10)
"""Most buildings of each row of the table but the last."""
N_CANDIDATES = 12
"""Sentences tried for a row: those that people wrote most often."""

Row = tuple[bool, int]
"""Whether the model says that something changed, and the bin of its count of buildings."""


@dataclass(frozen=True, kw_only=True)
class _Described:
    case: AnsweredCase
    row: Row


def look_up_descriptions(tiles: Sequence[AnsweredTile]) -> list[AnsweredCase]:
    """Give the descriptions of a table in place of a model's, for tiles that it also answered yes or no and counted."""
    described = [one for tile in tiles if (one := _find_row(tile)) is not None]
    halves = [[one for one in described if _deal(one.case.scene) == half] for half in (0, 1)]
    looked_up = []
    for own, other in (halves, halves[::-1]):
        table = _make_table(other, asked={one.row for one in own})
        looked_up += [replace(one.case, answer=replace(one.case.answer, text=table[one.row])) for one in own]
    return looked_up


def _find_row(tile: AnsweredTile) -> _Described | None:
    found = {kind: [a for a in tile.answered if a.case.prompt.kind is kind] for kind in PromptKind}
    told = [a for a in found[PromptKind.DESCRIBE] if a.case.references and not a.case.is_in_dialogue]
    counts = [a.meaning for a in found[PromptKind.COUNT] if isinstance(a.meaning, ParsedCount)]
    if not (told and counts and found[PromptKind.CLASSIFY]):
        return None
    n_buildings = counts[0].building_count or 0
    return _Described(
        case=told[0],
        row=(found[PromptKind.CLASSIFY][0].says_changed, sum(n_buildings > most for most in COUNT_BINS)),
    )


def _deal(scene: str) -> int:
    return hashlib.sha256(scene.encode()).digest()[0] % 2


def _make_table(described: Sequence[_Described], *, asked: Set[Row]) -> Mapping[Row, str]:
    """Choose a sentence for each row that is asked for; one that nobody wrote about has the sentence of all."""
    rows: dict[Row, list[AnsweredCase]] = defaultdict(list)
    for one in described:
        rows[one.row].append(one.case)
    table = {row: _choose_sentence(rows[row]) for row in asked & rows.keys()}
    if missing := asked - rows.keys():
        table |= dict.fromkeys(missing, _choose_sentence([one.case for one in described]))
    return table


def _choose_sentence(cases: Sequence[AnsweredCase]) -> str:
    """Choose the sentence that agrees best with all that people wrote, by CIDEr-D; of equals the first by alphabet."""
    counted = Counter(tokens for a in cases for text in a.case.references if (tokens := tokenize_caption(text)))
    candidates = sorted(counted, key=lambda tokens: (-counted[tokens], tokens))[:N_CANDIDATES]

    def agree(sentence: str) -> float:
        return score_cider([CaptionedText(scene=a.scene, text=sentence, references=a.case.references) for a in cases])

    return max(sorted(candidates), key=agree, default="")

"""Reads what people wrote about pairs: LEVIR-CC's captions, and the same put more plainly."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.pairs.facts import UNCHANGED_DESCRIPTIONS

_FORMS = (
    'LEVIR-CC\'s {"images": [{"filename", "split", "changeflag", "sentences"}]} '
    'or {"pairs": [{"filename", "split", "changeflag", "captions"}]}'
)
_UNCHANGED_WORDS = frozenset(text.rstrip(" .") for text in UNCHANGED_DESCRIPTIONS)


@dataclass(frozen=True, kw_only=True)
class PairCaptions:
    """What a captions file says of one pair."""

    filename: str
    """Name of the image files."""
    split: str
    """Empty where the file tells none."""
    captions: tuple[str, ...]
    """Sentences as they stand in the file, without blanks around them; none where none has words."""
    is_changed: bool | None
    """The change flag; without one, whether the sentences say more than that nothing changed; None without either."""
    n_empty: int = 0
    """Captions without words, which were left out."""


@dataclass(frozen=True, kw_only=True)
class CaptionBook:
    """The captions of many pairs."""

    pairs: dict[tuple[str, str], PairCaptions]
    """By split and stem of the file name; the split is empty where the file tells none."""
    duplicates: tuple[tuple[str, str], ...]
    """Split and file name of entries that came again; the first one counts."""

    def find(self, stem: str, *, split: str = "") -> PairCaptions | None:
        """Find the captions of a pair; where the split of one of the two is not known, its name alone decides."""
        exact = self.pairs.get((split, stem)) or self.pairs.get(("", stem))
        return exact if exact is not None or split else self._by_stem.get(stem)

    @cached_property
    def _by_stem(self) -> dict[str, PairCaptions]:
        return {stem: entry for (_, stem), entry in reversed(self.pairs.items())}


def read_captions(file: Path) -> CaptionBook:
    """Read a captions file in one of its two forms, compressed or not.

    Raises:
        InputError: there is no such file, or it has neither form; the message names the entry.
    """
    pairs: dict[tuple[str, str], PairCaptions] = {}
    duplicates = []
    for index, entry in enumerate(_read_entries(file)):
        captions = _parse_entry(entry)
        if captions is None:
            raise InputError(f"{file}, entry {index}: {str(entry)[:80]}", expected=_FORMS, remedy="correct the entry")
        key = (captions.split, Path(captions.filename).stem)
        if key in pairs:
            duplicates.append((captions.split, captions.filename))
        else:
            pairs[key] = captions
    return CaptionBook(pairs=pairs, duplicates=tuple(duplicates))


def write_as_answer(caption: str) -> str:
    """Write a tokenised caption as a sentence, as ChangeChat-105k does, such as ``There is no difference.``."""
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(caption.split()))
    return text[:1].upper() + text[1:]


def _read_entries(file: Path) -> list[Any]:
    if not file.is_file():
        raise InputError(f"{file} is not there", expected="a captions file", remedy="correct the path")
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        tree = json.loads(content)
    except (OSError, EOFError, ValueError) as problem:
        raise InputError(
            f"{file} cannot be read ({problem})", expected="JSON", remedy="check that the file is whole"
        ) from None
    entries = (tree.get("images") or tree.get("pairs")) if isinstance(tree, dict) else None
    if isinstance(entries, list):
        return entries
    raise InputError(f"{file} holds no list of images or pairs", expected=_FORMS, remedy="name another captions file")


def _parse_entry(entry: Any) -> PairCaptions | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return None
    sentences = entry.get("sentences", entry.get("captions", []))
    split, flag = entry.get("split", entry.get("filepath", "")), entry.get("changeflag")
    if not isinstance(sentences, list) or not isinstance(split, str) or not isinstance(flag, int | None):
        return None
    texts = [text for sentence in sentences if (text := _read_sentence(sentence))]
    is_said = any(text.rstrip(" .") not in _UNCHANGED_WORDS for text in texts) if texts else None
    return PairCaptions(
        filename=entry["filename"],
        split=split,
        captions=tuple(texts),
        is_changed=is_said if flag is None else bool(flag),
        n_empty=len(sentences) - len(texts),
    )


def _read_sentence(sentence: Any) -> str:
    """Read one caption: its words as written, else its tokens; empty where it has neither."""
    if isinstance(sentence, str):
        text = sentence
    elif isinstance(sentence, dict):
        raw, tokens = sentence.get("raw"), sentence.get("tokens")
        text = raw if isinstance(raw, str) else ""
        if not text.strip() and isinstance(tokens, list) and tokens:
            text = f"{' '.join(map(str, tokens))} ."
    else:
        text = ""
    return text.strip() if re.search(r"\w", text) else ""

"""Captions of a scene that is turned or flipped: the words for its sides go along."""

from __future__ import annotations

import re

SIDES = ("top", "left", "bottom", "right")
"""Anticlockwise, so that a quarter turn to the left moves each to the next."""
_LEVELS = {"upper": 0, "lower": 2}
"""Other words for the first and the third side."""
_STANDING = {"horizontal": "vertical", "vertical": "horizontal", "horizontally": "vertically"}
_STANDING |= {after: before for before, after in _STANDING.items()}
_UPRIGHT = re.compile(r"\b(above|below|under|beneath|underneath|north|south|east|west|left-hand|right-hand)\b")
"""Words whose turned counterpart is none that people use."""
_SIDE = r"(?:top|bottom|upper|lower|left|right)"
_PLACE = re.compile(rf"\b({_SIDE})((?: |-)({_SIDE}))?\b(?! angle)|\b({'|'.join(_STANDING)})\b")


def turn_caption(text: str, *, turns: int, is_flipped: bool) -> str | None:
    """Put a caption into the words for the scene after it was turned.

    Args:
        text: What people wrote of the scene as it was.
        turns: Quarter turns anticlockwise, as `numpy.rot90` takes them.
        is_flipped: Whether left and right were exchanged after that.

    Returns:
        None where it has words that cannot be turned.
    """
    if turns % 4 and _UPRIGHT.search(text):
        return None

    def turn(match: re.Match[str]) -> str:
        first, joined, second, standing = match.groups()
        if standing:
            return _STANDING[standing] if turns % 2 else str(standing)
        if not joined:
            return _turn_side(first, turns=turns, is_flipped=is_flipped)
        corner = [_turn_side(side, turns=turns, is_flipped=is_flipped) for side in (first, second)]
        # People say "top left", and a quarter turn makes it "left bottom".
        return joined[0].join(reversed(corner) if turns % 2 else corner)

    return _PLACE.sub(turn, text)


def _turn_side(word: str, *, turns: int, is_flipped: bool) -> str:
    place = _LEVELS[word] if word in _LEVELS else SIDES.index(word)
    moved = (place + turns) % 4
    if is_flipped and moved % 2:
        moved = 4 - moved
    level = next((level for level, place in _LEVELS.items() if place == moved), None)
    return level if word in _LEVELS and level is not None else SIDES[moved]

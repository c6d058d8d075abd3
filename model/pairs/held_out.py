"""Which of some names are held out: by a hash of each, so that a name stays on its side whatever others there are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def pick_held_out(names: Iterable[str], *, fraction: float) -> set[str]:
    """Pick the names whose hash is small enough for a fraction of all, and at least one."""
    places = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8 for name in names}
    return {name for name, place in places.items() if place < fraction} or {min(places, key=lambda n: places[n])}

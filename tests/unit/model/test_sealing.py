"""A flipped bit in JSON that carries its checksum is found, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from model.sealing import SEAL, seal, unseal

VALUES: dict[str, Any] = {"b": [1, 2.5, None], "a": {"name": 'Häuser \\ "x"', "is_new": True}, "nan": "0.1"}


def flip_bits(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            yield bytes(flipped)


@pytest.mark.parametrize("layout", [{"indent": 2, "ensure_ascii": False}, {"separators": (",", ":")}])
def test_every_flipped_bit_is_found(layout: dict[str, Any]) -> None:
    data = json.dumps(seal(VALUES), **layout).encode()
    believed = []
    for flipped in flip_bits(data):
        try:
            values = unseal(flipped)
        except (ValueError, TypeError):
            continue
        if values != VALUES:
            believed.append(values)

    assert unseal(data) == VALUES
    # What is left are those where the checksum's own name is hit: they have a key that no reader knows.
    assert len(believed) < 8 * len(SEAL)
    assert all(len(values) == len(VALUES) + 1 for values in believed)


def test_what_an_earlier_version_wrote_has_no_checksum_and_is_taken() -> None:
    assert unseal(json.dumps(VALUES).encode()) == VALUES


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"[" * 100_000, b"\xff", b'{"sha256": null}'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        unseal(data)

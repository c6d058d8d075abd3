"""What a mark keeps of a shard's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tiles.marks import describe_empty_shard, describe_shard


@pytest.mark.parametrize("has_classes", [False, True])
def test_an_empty_shard_is_described_without_its_pixels(has_classes: bool) -> None:
    is_valid = np.zeros((2, 32, 64), dtype=np.bool_)
    is_cloudy = is_valid[0] if has_classes else None

    by_pixels = describe_shard(np.zeros((2, 3, 32, 64), dtype=np.uint8), is_valid, is_cloudy=is_cloudy, tile_size_px=16)

    assert describe_empty_shard(8, has_classes=has_classes, tile_size_px=16) == by_pixels

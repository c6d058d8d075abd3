"""What a folder tells beside its masks holds for its pairs; without that file nothing is different."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from training_pairs import write_pairs

from model.errors import InputError
from model.pairs.folders import scan_pair_folder
from model.pairs.told_facts import ToldFacts, read_told_facts


def test_pairs_are_what_the_file_says(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, n_pairs=2)
    mask = np.zeros(cv2.imread(str(folder / "label" / "pair_000.png")).shape[:2], np.uint8)
    mask[:4, :4], mask[8:12, 8:12] = 128, 255
    for name in ("pair_000", "pair_001"):
        cv2.imwrite(str(folder / "label" / f"{name}.png"), mask)
    (folder / "facts.jsonl").write_text('{"name": "pair_001", "is_removal": true, "has_road_truth": true, "x": 1}\n')

    plain, told = scan_pair_folder(folder).pairs

    assert (plain.is_removal, plain.has_road_truth, plain.facts.road) == (False, False, None)
    assert (told.is_removal, told.has_road_truth) == (True, True)
    assert told.facts.road is not None
    assert (told.facts.road.count, told.facts.building.count, told.facts.is_removal) == (1, 1, True)


def test_without_the_file_nothing_is_told(tmp_path: Path) -> None:
    assert read_told_facts(tmp_path) == {}
    (tmp_path / "facts.jsonl").write_text('{"name": "a"}\n')
    assert read_told_facts(tmp_path) == {"a": ToldFacts()}


@pytest.mark.parametrize("line", ["no json", '{"is_removal": true}', '{"name": "a", "is_removal": "yes"}', "[" * 9999])
def test_a_damaged_file_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "facts.jsonl").write_text(line + "\n")

    with pytest.raises(InputError, match=r"facts\.jsonl cannot be read"):
        read_told_facts(tmp_path)

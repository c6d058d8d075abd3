"""What the record of a pair says of why it failed."""

import pytest

from model.errors import InputError
from pipeline.regions.region import word_failure


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (InputError("a.tif is cut", expected="all", remedy="fetch it"), "a.tif is cut; expected all; fetch it"),
        (ValueError("3 is not in list\nmore"), "a fault of the program: ValueError: 3 is not in list"),
        (KeyError("https://me:secret@host/a"), "a fault of the program: KeyError: 'https://***@host/a'"),
    ],
)
def test_a_fault_is_not_told_as_one_of_the_scenes(problem: Exception, words: str) -> None:
    assert word_failure(problem) == words

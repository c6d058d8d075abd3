"""Messages of `model` become errors with their three parts, as far as they have them."""

import pytest

from model.errors import InputError


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("x is grey; expected colour; paint it", ("my x is grey", "colour", "paint it")),
        ("x is grey; expected colour; paint it; or not", ("my x is grey", "colour", "paint it; or not")),
        ("x is grey; expected colour", ("my x is grey", "colour", "the remedy")),
        ("x broke", ("my x broke", "the expected", "the remedy")),
    ],
)
def test_a_message_is_taken_apart(message, parts):
    problem = InputError.from_message(ValueError(message), subject="my ", expected="the expected", remedy="the remedy")
    assert (problem.found, problem.expected, problem.remedy) == parts

"""Which differences between two environments matter."""

from __future__ import annotations

import pytest

from model.errors import InputError
from pipeline.workers.checks import find_mismatches, list_versions, refuse_mismatch

OURS = {
    "python": "3.11.7",
    "answering engine": "3",
    "deltavlm-monitor": "0.1.0",
    "dask": "2026.8.0",
    "torch": "2.13.0+cpu",
    "numpy": "2.4.6",
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"python": "3.11.14"}, []),
        ({"python": "3.12.7"}, ["python"]),
        ({"answering engine": "4"}, ["answering engine"]),
        ({"deltavlm-monitor": "0.1.1"}, ["deltavlm-monitor"]),
        ({"dask": "2026.8.1"}, ["dask"]),
        ({"torch": "2.13.1+cu130"}, []),
        ({"torch": "2.12.0+cpu"}, ["torch"]),
        ({"numpy": "not installed", "torch": "not installed"}, ["torch", "numpy"]),
    ],
)
def test_what_changes_results_or_breaks_pickles_matters(changed: dict[str, str], expected: list[str]) -> None:
    assert list(find_mismatches(OURS | changed, expected=OURS)) == expected


def test_what_one_side_does_not_tell_is_not_compared() -> None:
    assert find_mismatches({"python": "3.11.1", "msgpack": "1"}, expected=OURS) == {}


def test_mismatch_names_worker_package_and_both_versions() -> None:
    with pytest.raises(InputError, match=r"worker tcp://h:1 has torch 2\.9\.0; expected as here, torch 2\.13\.0\+cpu"):
        refuse_mismatch(OURS | {"torch": "2.9.0"}, expected=OURS, source="worker tcp://h:1")


def test_this_environment_has_all_that_is_compared() -> None:
    versions = list_versions()

    assert "not installed" not in versions.values()
    assert versions["python"].startswith("3.")

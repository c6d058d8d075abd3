"""Extras are the same in pyproject.toml as in the code that misses them, and a missing one is told with its command."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from model.errors import InputError
from model.extras import EXTRAS, require_extra

ROOT = Path(__file__).parents[3]
MODULES = {"dask-cuda": "dask_cuda", "protobuf": "google.protobuf", "python-docx": "docx"}
"""Of distributions that are not named as what they bring."""


def test_extras_bring_the_modules_that_are_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: sorted(MODULES.get(name, name) for line in lines for name in re.findall(r"^[a-z0-9-]+", line))
        for extra, lines in project["optional-dependencies"].items()
        if extra != "dev"
    }

    assert {extra: sorted(modules) for extra, modules in EXTRAS.items()} == declared


def test_an_extra_that_is_there_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in EXTRAS["train"]:
        monkeypatch.delitem(sys.modules, module, raising=False)

    require_extra("train", use="a training")

    assert not [module for module in EXTRAS["train"] if module in sys.modules]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_told_with_the_command_that_installs_it(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(InputError) as caught:
        require_extra(extra, use="this", otherwise="do that")

    assert caught.value.found == f"this without {', '.join(EXTRAS[extra])}"
    assert caught.value.expected == f"the packages of the extra {extra}"
    assert caught.value.remedy == f"pip install 'deltavlm-monitor[{extra}]'; or do that"


def test_only_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)

    with pytest.raises(InputError, match=r"^a training without tensorboard; expected"):
        require_extra("train", use="a training")


def test_a_module_of_a_package_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.extras.EXTRAS", {"convert": ("no_such_package.module",)})

    with pytest.raises(InputError, match=r"a conversion without no_such_package\.module"):
        require_extra("convert", use="a conversion")

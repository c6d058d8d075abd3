"""docs/security.md says of every limit what the code says."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from pipeline.config.run import RunConfig

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<limit>[\d,]+) \| (?P<kind>setting )?`(?P<name>[^`]+)` \|$", re.MULTILINE)
ROWS = [(match["what"], match["limit"], match["kind"], match["name"]) for match in ROW.finditer(DOCUMENT.read_text())]


def test_every_row_of_limits_is_read() -> None:
    table = DOCUMENT.read_text().partition("## Limits")[2].partition("## ")[0]
    n_rows = sum(line.startswith("| ") for line in table.splitlines()) - 1
    assert len(ROWS) == n_rows > 10


@pytest.mark.parametrize(("what", "limit", "kind", "name"), ROWS)
def test_a_limit_is_what_the_document_says(what: str, limit: str, kind: str | None, name: str) -> None:
    if kind is None:
        module, _, constant = name.rpartition(".")
        value = getattr(importlib.import_module(module), constant)
    else:
        config = RunConfig(before="a.tif", after="b.tif", output="out")
        value = reduce(getattr, name.split("."), config)
    assert int(limit.replace(",", "")) == value, what

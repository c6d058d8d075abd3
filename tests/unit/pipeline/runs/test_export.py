"""Where the files of an export go: a folder may have a dot in its name, a file has the ending of its format."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.runs.export import choose_places


@pytest.mark.parametrize("output", ["reports", "reports/v1.2", "reports/2026.11", "berlin.district"])
def test_what_ends_like_no_format_is_a_folder(output: str) -> None:
    assert choose_places(["report.gpkg"], output=output) == {"report.gpkg": Path(output, "report.gpkg")}


def test_a_folder_that_is_there_may_end_like_a_format(tmp_path: Path) -> None:
    (tmp_path / "all.gpkg").mkdir()

    places = choose_places(["report.gpkg"], output=str(tmp_path / "all.gpkg"))

    assert places["report.gpkg"] == tmp_path / "all.gpkg" / "report.gpkg"


@pytest.mark.parametrize("output", ["town.gpkg", "TOWN.GPKG"])
def test_the_one_file_may_be_named(output: str) -> None:
    assert choose_places(["report.gpkg"], output=output) == {"report.gpkg": Path(output)}


def test_the_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    assert choose_places(["tiles.csv"], output="~/out") == {"tiles.csv": Path("/home/me/out/tiles.csv")}


@pytest.mark.parametrize(("files", "output"), [(["report.gpkg"], "a.kml"), (["tiles.csv", "changes.csv"], "a.csv")])
def test_a_file_of_another_format_or_for_several_is_refused(files: list[str], output: str) -> None:
    with pytest.raises(InputError, match="is the name of one file"):
        choose_places(files, output=output)

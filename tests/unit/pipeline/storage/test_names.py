"""What lies in a folder is a run's, a region's, or somebody else's by its name."""

from __future__ import annotations

import pytest

from pipeline.storage.names import is_pair_table, is_run_file


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "run.lock",
        "tiles.zarr/zarr.json",
        "tiles.zarr/spatial_ref/c",
        "tiles.zarr/pixels/c/0/0/1/12",
        f"marks/{'0a' * 32}.json",
        f"outlines/{'0a' * 32}.parquet",
        "report/page/tiles_r0000_c0012.js",
        "report/plots/sizes.png",
        "formats/report.docx",
        "formats/changes.geojson",
        "formats/change_probability.tif",
        "formats/qgis/change_probability.tif",
        "formats/qgis/report.qgz",
        "formats/qgis/before.tif",
    ],
)
def test_files_of_a_run_are_known_by_their_names(name: str) -> None:
    assert is_run_file(name)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "run.json.old",
        "tiles.zarr/notes.txt",
        "tiles.zarr/pixels/c/0/mine",
        "marks/0.json",
        "answers/mine.parquet",
        "report/notes.txt",
        "report/page/mine.js",
        "report/plots/2026/sizes.png",
        "formats/mine.docx",
        "formats/qgis/mine.tif",
        "formats/report.docx/mine",
        "report/index.html\n",
    ],
)
def test_files_of_others_are_not(name: str) -> None:
    assert not is_run_file(name)


def test_a_region_knows_what_it_tells_of_a_pair() -> None:
    folder, name = "report/changes/after_year=2026", "20250101_20260101_0123456789ab"

    assert is_pair_table(f"{folder}/{name}.parquet")
    assert not any(
        map(is_pair_table, [f"{folder}/mine.parquet", f"{folder}/{name}.csv", f"report/mine/{name}.parquet"])
    )

"""Retention takes what the runs of a region wrote, and nothing through a link or of others."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.errors import FolderError
from pipeline.config.region import RetentionConfig
from pipeline.regions.retention import apply_retention
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import make_folder

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
PIXELS_OF_ONE = RetentionConfig.model_validate({"pixels": {"newest": 1}})


def make_states(*names: str, block_id: str | None = None) -> list[Any]:
    """Give pairs that have ended, the newest last."""
    pair = SimpleNamespace(after=SimpleNamespace(start=NOW))
    return [
        SimpleNamespace(
            record=SimpleNamespace(run_name=f"pairs/{name}", pair=pair, block_id=block_id),
            pair_id=name,
            has_result=True,
            has_folder=True,
        )
        for name in names
    ]


@pytest.fixture
def region(tmp_path: Path) -> RunFolder:
    folder = make_folder(str(tmp_path / "region"))
    for pair in ("a", "b"):
        for name in ("run.json", "tiles.zarr/zarr.json", f"marks/{'0' * 64}.json"):
            folder.put(f"pairs/{pair}/{name}", b"{}")
    return folder


def test_newest_pair_of_every_block_stays(region: RunFolder) -> None:
    states = [*make_states("a", block_id="east"), *make_states("b", block_id="west")]

    assert not apply_retention(states, folder=region, config=PIXELS_OF_ONE, now=NOW)


def test_pixels_go_with_their_folders(region: RunFolder) -> None:
    assert apply_retention(make_states("a", "b"), folder=region, config=PIXELS_OF_ONE, now=NOW)

    assert sorted(each.name for each in Path(region.join("pairs/a")).iterdir()) == ["run.json"]
    assert region.has("pairs/b/tiles.zarr/zarr.json")


@pytest.mark.parametrize("name", ["tiles.zarr/notes.txt", "tiles.zarr/pixels/c/mine", "marks/0.json"])
def test_what_others_put_among_the_pixels_stays(name: str, region: RunFolder) -> None:
    region.put(f"pairs/a/{name}", b"mine")

    assert apply_retention(make_states("a", "b"), folder=region, config=PIXELS_OF_ONE, now=NOW)

    assert region.list_names("pairs/a") == sorted([f"pairs/a/{name}", "pairs/a/run.json"])


@pytest.mark.parametrize("linked", ["pairs", "pairs/a", "pairs/a/tiles.zarr", f"pairs/a/marks/{'0' * 64}.json"])
def test_nothing_goes_behind_a_link(linked: str, region: RunFolder, tmp_path: Path) -> None:
    place, elsewhere = Path(region.join(linked)), tmp_path / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*.json"))

    with pytest.raises(FolderError, match="holds a link"):
        apply_retention(make_states("a", "b"), folder=region, config=PIXELS_OF_ONE, now=NOW)

    assert sorted(tmp_path.rglob("*.json")) == before
    assert place.is_symlink()

"""An archive that gives its files for short-lived tokens alone: from the plan to the workers, and nothing is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from signing_server import STORE, SigningServer, start_signing_server
from stac_material import make_collection, make_item, make_reflectance, write_json, write_rasters

from model.errors import InputError
from pipeline.config.run import RunConfig, load_config
from pipeline.scenes import composite_blocks
from pipeline.scenes.mosaic import Block, read_block
from pipeline.scenes.pair import find_pair

SIZE = 256
DATES = {"before": ("a", "2019-06-01"), "after": ("b", "2024-06-01")}
SETTINGS: dict[str, Any] = {
    "grid": {"resolution_m": 10, "tile_size_px": 64},
    "tiles": {"resampling": "nearest", "shard_size_tiles": 2, "stretch": {"limits": [0, 4000]}},
    "registration": {"estimate": False},
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write two dates whose files lie in a container, described by a catalog on this machine; give the catalog."""
    for item_id, day in DATES.values():
        item = make_item(item_id, f"{day}T17:00:00Z", width=SIZE, height=SIZE, prefix=f"{STORE}/scenes/")
        stored = make_reflectance(height=SIZE, width=SIZE, seed=len(day) + ord(item_id))
        write_rasters(tmp_path / "store" / "scenes", item, {**stored, "scl": np.full((SIZE, SIZE), 4, np.uint8)})
        write_json(tmp_path / "catalog" / f"{item_id}.json", item)
    return write_json(tmp_path / "catalog" / "collection.json", make_collection("a.json", "b.json"))


def make_settings(archive: Path, output: Path, *, sign: str) -> dict[str, Any]:
    scenes = {date: {"stac": {"href": str(archive), "datetime": day}, "sign": sign} for date, (_, day) in DATES.items()}
    return {**scenes, "output": str(output), **SETTINGS}


def make_config(archive: Path, output: Path, *, sign: str = "planetary-computer") -> RunConfig:
    return load_config(values=make_settings(archive, output, sign=sign))


@pytest.fixture
def server(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningServer]:
    with start_signing_server(tmp_path / "store", log=tmp_path / "log") as server:
        set_environment(server, monkeypatch)
        yield server


def set_environment(server: SigningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def test_what_is_not_signed_is_refused(server: SigningServer, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{STORE}/scenes/a/.*the server answers 403"):
        find_pair(make_config(archive, tmp_path / "run", sign="none"))
    assert server.list_tokens() == []


def test_one_token_serves_all_files_of_a_container(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_signing_server(tmp_path / "store", log=tmp_path / "log", token_s=3600) as server:
        set_environment(server, monkeypatch)
        pair, _ = find_pair(make_config(archive, tmp_path / "run"))

        assert pair.before.uris[0] == f"{STORE}/scenes/a/red.tif"
        # Of eight files, each asked for and opened several times by several threads.
        assert len(server.list_answers()) >= 16
        assert (len(server.list_tokens()), set(server.list_answers())) == (1, {200})


def test_file_that_is_open_is_read_on_by_a_new_token(server: SigningServer, archive: Path, tmp_path: Path) -> None:
    pair, _ = find_pair(make_config(archive, tmp_path / "run"))
    first = pair.read_block("before", window=(0, 0, 64, 64))
    n_tokens = len(server.list_tokens())
    time.sleep(2.1)

    again = pair.read_block("before", window=(0, 0, 64, 64))

    assert len(server.list_tokens()) > n_tokens
    assert first.is_valid.all()
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_token_that_is_taken_back_is_renewed(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_signing_server(tmp_path / "store", log=tmp_path / "log", token_s=8.0) as server:
        set_environment(server, monkeypatch)
        # Or GDAL would ask for nothing any more: of the gate, which asks the store.
        monkeypatch.setenv("CPL_VSIL_CURL_NON_CACHED", "/vsicurl/http://127.0.0.1")
        pair, _ = find_pair(make_config(archive, tmp_path / "run"))
        time.sleep(1.0)
        server.take_back_tokens()

        block = pair.read_block("after", window=(128, 128, 128, 128))

        assert block.is_valid.all()
        assert 403 in server.list_answers()


def test_tokens_that_expire_within_a_composite_lose_none_of_its_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = ("2019-06-01", "2019-06-09", "2019-06-17", "2024-06-01", "2024-06-09", "2024-06-17")
    for day in days:
        item = make_item(day, f"{day}T17:00:00Z", width=SIZE, height=SIZE, prefix=f"{STORE}/scenes/")
        stored = make_reflectance(height=SIZE, width=SIZE, seed=int(day[2:4]) + int(day[-2:]))
        write_rasters(tmp_path / "store" / "scenes", item, {**stored, "scl": np.full((SIZE, SIZE), 4, np.uint8)})
        write_json(tmp_path / "catalog" / f"{day}.json", item)
    catalog = write_json(tmp_path / "catalog" / "collection.json", make_collection(*(f"{day}.json" for day in days)))
    settings = make_settings(catalog, tmp_path / "run", sign="planetary-computer")
    for date, year in (("before", "2019"), ("after", "2024")):
        settings[date]["stac"]["datetime"] = f"{year}-06"
        settings[date]["stac"]["classes"] = "scl"
        settings[date]["composite"] = {"rule": "median", "cloud_buffer_m": 0}
    # Or GDAL would ask for nothing any more.
    monkeypatch.setenv("CPL_VSIL_CURL_NON_CACHED", "/vsicurl/http://127.0.0.1")
    with start_signing_server(tmp_path / "store", log=tmp_path / "log", token_s=20.0) as server:
        set_environment(server, monkeypatch)
        pair, _ = find_pair(load_config(values=settings))
        answers: list[list[int]] = []

        def read_date(*arguments: Any, **words: Any) -> Block:
            answers.append(server.list_answers())
            if len(answers) == 2:
                # No longer so young that it cannot be the cause.
                time.sleep(2.1)
                server.take_back_tokens()
            return read_block(*arguments, **words)

        monkeypatch.setattr(composite_blocks, "read_block", read_date)
        block = pair.read_block("after", window=(0, 0, 128, 128))
        after = server.list_answers()[len(answers[1]) :]

    # What was good for the first date is refused for the second.
    assert set(answers[1][len(answers[0]) :]) == {200}
    assert after[0] == 403
    assert after.count(200) > 2
    assert block.unread == ()
    assert block.is_valid.all()
    assert block.made_of is not None
    assert np.unique(block.made_of).tolist() == [0b111]


def test_run_outlives_its_tokens_and_keeps_none(tmp_path: Path, archive: Path, run_command: Callable[..., Any]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(make_settings(archive, tmp_path / "run", sign="planetary-computer")))
    with start_signing_server(tmp_path / "store", log=tmp_path / "log", pause_s=0.02) as server:
        environment = server.environment | {"no_proxy": "127.0.0.1"}
        done = run_command("run", "--config", str(path), "--model", "stand-in", **environment)
        tokens = server.list_tokens()

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status_counts"]["analysed"] == 16
    assert len(tokens) > 2
    kept = {
        str(file): token
        for file in (tmp_path / "run").rglob("*")
        if file.is_file()
        for token in tokens
        if token.encode() in file.read_bytes() or quote(token, safe="").encode() in file.read_bytes()
    }
    assert kept == {}
    assert not any(token in done.stdout + done.stderr for token in tokens)
    assert f"{STORE}/scenes/a/red.tif" in (tmp_path / "run" / "run.json").read_text()

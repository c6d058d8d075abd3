from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import InputError
from model.interface import ModelIdentity
from pipeline.config.run import RunConfig, load_config
from pipeline.grid.grid import Grid
from pipeline.runs.record import FORMAT_VERSION, RECORD_NAME, RunRecord, compute_run_id
from pipeline.runs.record_files import (
    PENDING_NAME,
    discard_record,
    read_record,
    recall_dtype,
    recall_record,
    withdraw_record,
    write_record,
)
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import find_run_folder

IDENTITY = ModelIdentity(model_id="fake@1", weight_hash="f00d", path="")
CONFIG = {"tiles": {"shard_size_tiles": 8}, "prompts": [{"name": "changed"}], "model": {"dtype": "float32"}}
SCENE = {"datetime": "2024-05-01T17:00:00Z", "parts": [{}]}
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=1.0,
    origin_x=500_000.0,
    origin_y=3_300_000.0,
    tile_size_px=64,
    n_rows=1,
    n_cols=1,
    width_px=64,
    height_px=64,
)


def make_record(**changes: Any) -> RunRecord:
    record = RunRecord(
        format_version=FORMAT_VERSION,
        run_id="0123456789ab",
        config=CONFIG,
        inputs={"before": SCENE | {"bands": (1, 2, 3)}, "after": SCENE, "stretch": {}},
        grid=GRID.to_dict(),
        content_key="abc",
        model={"model_id": "fake@1", "weight_hash": "f00d"},
        versions={},
        status_counts={"analysed": 1},
        changed_tile_count=0,
        change_counts={},
        failed_shards=(),
        failures={},
        files={},
        stages=({"stage": "find_pair", "seconds": 1.0},),
    )
    return replace(record, **changes)


def make_config(*assignments: str) -> RunConfig:
    return load_config(values={"before": "b.tif", "after": "a.tif", "output": "run"}, assignments=assignments)


def name_run(*assignments: str, **changes: Any) -> str:
    values: dict[str, Any] = {"content_key": "abc", "aoi_hash": None, "identity": IDENTITY} | changes
    return compute_run_id(make_config(*assignments), **values)


def test_run_is_named_after_all_that_its_report_depends_on() -> None:
    others = [
        name_run(content_key="abd"),
        name_run(aoi_hash="1"),
        name_run(identity=replace(IDENTITY, weight_hash="beef")),
        name_run("tiles.min_valid_fraction=0.5"),
        name_run("model.dtype=bfloat16"),
        name_run("model.quantize=int8"),
        name_run("report.min_confidence=0.6"),
        name_run("prompts=[{name: changed, kind: classify, text: Changed}]"),
    ]
    masked = replace(IDENTITY, mask_labels=("building", "road"))
    others += [name_run(identity=masked), name_run(identity=replace(IDENTITY, mask_labels=("building",)))]
    assert name_run("model.outlines=off", identity=masked) == name_run()
    assert name_run("model.quantize=int8", "model.dtype=float32") == name_run("model.quantize=int8")
    equal = [name_run("output=elsewhere"), name_run("cluster.n_workers=7"), name_run("before=moved.tif")]

    assert len({name_run(), *others}) == len(others) + 1
    assert set(equal) == {name_run()}
    assert len(name_run()) == 12


def read_back(record: RunRecord) -> RunRecord:
    return RunRecord.from_json(record.to_json(), source=RECORD_NAME)


def test_written_record_is_read(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))

    write_record(make_record(), folder=folder)

    assert read_record(folder).is_same_result(read_back(make_record()))


def test_record_of_the_same_result_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(make_record(), folder=folder)
    before = folder.read(RECORD_NAME)

    write_record(make_record(stages=({"stage": "find_pair", "seconds": 2.0},)), folder=folder)

    assert folder.read(RECORD_NAME) == before


def test_record_of_another_result_replaces_the_former(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(make_record(), folder=folder)

    write_record(make_record(changed_tile_count=1), folder=folder)

    assert read_record(folder).changed_tile_count == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config", None),
        ("config.tiles", {}),
        ("config.tiles.shard_size_tiles", "8"),
        ("config.tiles.shard_size_tiles", 0),
        ("config.prompts", [{}]),
        ("inputs.before.datetime", 5),
        ("inputs.after", None),
        ("grid.n_rows", "x"),
        ("grid.crs", []),
        ("model.model_id", 5),
        ("status_counts", {"analysed": None}),
        ("ground_m2", {"analysed": 10**400}),
        ("notes", None),
        ("failed_shards", [[1]]),
        ("files", {"tiles.parquet": None}),
    ],
)
def test_a_record_of_other_kinds_of_values_is_told(tmp_path: Path, path: str, value: Any) -> None:
    values = json.loads(make_record().to_json())
    *parts, last = path.split(".")
    inner = values
    for part in parts:
        inner = inner[part]
    inner[last] = value
    values.pop("sha256")
    (tmp_path / RECORD_NAME).write_text(json.dumps(values))

    with pytest.raises(InputError, match=f"{RECORD_NAME} cannot be read"):
        read_record(RunFolder(str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format_version": 99}', b'{"format_version": 1}', b"\xff"])
def test_damaged_record_is_named_and_replaced(content: bytes, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put(RECORD_NAME, content)

    with pytest.raises(InputError, match=RECORD_NAME):
        read_record(folder)

    write_record(make_record(), folder=folder)
    assert read_record(folder).run_id == "0123456789ab"


@pytest.mark.parametrize(
    ("record", "is_kept"),
    [
        (make_record(), True),
        (make_record(run_id="another"), False),
        (make_record(failures={"r0000_c0000": "x"}), False),
        (make_record(failed_shards=((0, 0, "x"),)), False),
        (make_record(gaps=((0, 0, "x"),)), False),
        (make_record(config={"tiles": {"shard_size_tiles": 2}}), False),
    ],
)
def test_record_goes_before_the_files_that_it_speaks_of(record: RunRecord, is_kept: bool, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(record, folder=folder)

    discard_record(folder, run_id="0123456789ab", shard_size_tiles=8)

    assert folder.has(RECORD_NAME) == is_kept


@pytest.mark.parametrize("name", [RECORD_NAME, PENDING_NAME])
def test_record_with_a_flipped_bit_is_not_believed_and_goes(name: str, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    written = make_record().to_json()
    folder.put(name, written.replace(b'"analysed": 1', b'"analysed": 9'))

    with pytest.raises(InputError, match="not what was written"):
        recall_record(folder)
    discard_record(folder, run_id="0123456789ab", shard_size_tiles=8)

    assert not folder.has(name)


def test_record_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    values = json.loads(make_record().to_json())
    del values["sha256"]
    folder.put(RECORD_NAME, json.dumps(values).encode())

    assert read_record(folder).is_same_result(read_back(make_record()))


def test_withdrawn_record_is_recalled_and_put_back_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(make_record(), folder=folder)
    before = folder.read(RECORD_NAME)

    withdraw_record(folder)
    # As a report does that is made again after a stop.
    withdraw_record(folder)

    assert folder.list_names() == [PENDING_NAME]
    assert recall_record(folder).is_same_result(read_back(make_record()))
    with pytest.raises(InputError, match="is being made anew, or that was stopped half-way"):
        read_record(folder)

    write_record(make_record(stages=({"stage": "find_pair", "seconds": 2.0},)), folder=folder)

    assert folder.list_names() == [RECORD_NAME]
    assert folder.read(RECORD_NAME) == before


def test_record_that_is_there_counts_and_not_what_a_stop_has_left_beside_it(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put(PENDING_NAME, make_record(run_id="former").to_json())
    folder.put(RECORD_NAME, make_record().to_json())

    assert read_record(folder).run_id == recall_record(folder).run_id == "0123456789ab"

    withdraw_record(folder)

    assert recall_record(folder).run_id == "0123456789ab"


@pytest.mark.parametrize(("run_id", "is_kept"), [("0123456789ab", True), ("another", False)])
def test_withdrawn_record_of_another_run_goes_as_well(run_id: str, is_kept: bool, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(make_record(run_id=run_id), folder=folder)
    withdraw_record(folder)

    discard_record(folder, run_id="0123456789ab", shard_size_tiles=8)

    assert folder.list_names() == ([PENDING_NAME] if is_kept else [])


def test_precision_is_recalled_from_a_withdrawn_record(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_record(make_record(config=CONFIG | {"model": {"dtype": "bfloat16"}}), folder=folder)
    withdraw_record(folder)

    assert recall_dtype(folder, name_run=lambda dtype: "0123456789ab") == "bfloat16"


def test_run_that_never_ended_has_no_record_to_recall(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no run\.json"):
        recall_record(RunFolder(str(tmp_path)))


def test_damaged_record_goes_too(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.put(RECORD_NAME, b"{")

    discard_record(folder, run_id="0123456789ab", shard_size_tiles=8)

    assert not folder.has(RECORD_NAME)


def test_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is no folder"):
        find_run_folder(str(tmp_path / "none"))

    assert list(tmp_path.iterdir()) == []

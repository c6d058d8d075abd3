"""The command line as far as it goes without workers: what is wrong with the input, it says at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
from made_scenes import make_scenes
from rasterio.transform import from_origin

import pipeline.runs.run
from flows.cli.main import main


@pytest.fixture
def run_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run ``deltavlm`` in this process; gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltavlm", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


def write_raster(path: Path, *, bands: int = 3, value: int = 7, west: float = 621_000.0, **profile: object) -> Path:
    settings = {"crs": "EPSG:32614", "dtype": "uint8"} | profile
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands,
        height=64,
        width=64,
        transform=from_origin(west, 3_362_000.0, 1.0, 1.0),
        **settings,
    ) as file:
        file.write(np.full((bands, 64, 64), value, dtype=str(settings["dtype"])))
    return path


BAD_INPUTS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "missing file": (lambda folder: [str(folder / "none.tif"), str(folder / "good.tif")], "none.tif"),
    "not a raster": (lambda folder: [str(folder / "text.tif"), str(folder / "good.tif")], "text.tif"),
    "no CRS": (
        lambda folder: [str(write_raster(folder / "x.tif", crs=None)), str(folder / "good.tif")],
        "x.tif",
    ),
    "assumed CRS": (
        lambda folder: [
            *(str(write_raster(folder / "x.tif", crs=None)), str(folder / "good.tif")),
            *("--assume-crs", "EPSG:0"),
        ],
        "before.assume_crs 'EPSG:0'",
    ),
    "no overlap": (
        lambda folder: [str(write_raster(folder / "x.tif", west=700_000.0)), str(folder / "good.tif")],
        "overlap",
    ),
    "one band": (
        lambda folder: [str(write_raster(folder / "x.tif", bands=1)), str(folder / "good.tif")],
        "x.tif",
    ),
    "all nodata": (
        lambda folder: [str(write_raster(folder / "x.tif", value=0, nodata=0)), str(folder / "good.tif")],
        "x.tif",
    ),
    "16 bits": (
        lambda folder: [str(write_raster(folder / "x.tif", dtype="uint16")), str(folder / "good.tif")],
        "x.tif",
    ),
    "same file twice": (lambda folder: [str(folder / "good.tif"), str(folder / "good.tif")], "good.tif"),
    "unknown config key": (
        lambda folder: [*pair(folder), "--set", "grid.resolution=1"],
        "grid.resolution: unknown key",
    ),
    "tile size": (lambda folder: [*pair(folder), "--set", "grid.tile_size_px=100"], "grid.tile_size_px: 100"),
    "resolution": (lambda folder: [*pair(folder), "--set", "grid.resolution_m=1e9"], "grid.resolution_m"),
    "device": (lambda folder: [*pair(folder), "--set", "model.device=banana"], "model.device"),
    "memory limit": (lambda folder: [*pair(folder), "--set", "cluster.memory_limit=lots"], "cluster.memory_limit"),
    "output elsewhere": (lambda folder: [*pair(folder), "--set", "output=gs://bucket/run"], "neither a local path"),
    "assignment": (lambda folder: [*pair(folder), "--set", "grid"], "--set 'grid'"),
    "missing after": (lambda folder: [str(folder / "good.tif")], "no AFTER"),
    "no such model": (lambda folder: [*pair(folder), "--model", "deltavlm-huge"], "deltavlm-huge"),
    "no such aoi": (lambda folder: [*pair(folder), "--aoi", str(folder / "none.geojson")], "none.geojson"),
    "no such config": (lambda folder: [*pair(folder), "--config", str(folder / "none.yaml")], "none.yaml"),
}


def pair(folder: Path) -> list[str]:
    return [str(folder / "good.tif"), str(folder / "other.tif")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_raster(tmp_path / "good.tif", value=7)
    write_raster(tmp_path / "other.tif", value=9)
    (tmp_path / "text.tif").write_text("no raster at all")
    return tmp_path


def test_the_version_is_that_of_the_package(run_main: Callable[..., tuple[int, str, str]]) -> None:
    assert run_main("--version") == (0, f"deltavlm {version('deltavlm-monitor')}\n", "")


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_ends_with_code_2_and_one_message(name: str, folder: Path, run_main) -> None:
    make_arguments, expected = BAD_INPUTS[name]
    arguments = ["run", *make_arguments(folder)]
    if "--model" not in arguments:
        arguments += ["--model", "stand-in"]

    code, out, err = run_main(*arguments, "--output", str(folder / "run"))

    assert code == 2
    assert out == ""
    assert err.count("Error: ") == 1
    assert "Expected: " in err
    assert "To do: " in err
    assert expected in err
    assert "Traceback" not in err
    assert not (folder / "run").exists()


@pytest.mark.parametrize("place", ["text.tif/run", "foreign"])
def test_output_that_cannot_be_used_is_left_alone(place: str, folder: Path, run_main) -> None:
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.doc").write_text("years of work")
    before = sorted(folder.rglob("*"))

    code, out, err = run_main("run", *pair(folder), "--model", "stand-in", "--output", str(folder / place))

    assert code == 2
    assert out == ""
    assert f"output {folder / place}" in err
    assert sorted(folder.rglob("*")) == before


def test_check_looks_at_both_scenes_and_all_the_rest(folder: Path, run_main) -> None:
    one_band = write_raster(folder / "one.tif", bands=1)
    config = folder / "run.yaml"
    values = {"before": str(folder / "none.tif"), "after": str(one_band), "output": str(folder / "text.tif" / "run")}
    config.write_text(json.dumps(values | {"model": {"name": "no-such-model"}}))

    code, out, _ = run_main("check", str(config))

    problems = json.loads(out.splitlines()[-1])["problems"]
    assert code == 2
    for name in ("none.tif", "one.tif", "text.tif", "no-such-model"):
        assert any(name in problem for problem in problems), name


def test_fault_of_the_program_has_a_code_of_its_own(folder: Path, run_main, monkeypatch) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise RuntimeError("stumbled")

    monkeypatch.setattr(pipeline.runs.run, "detect_changes", stumble)

    code, out, err = run_main("run", *pair(folder), "--model", "stand-in", "--output", str(folder / "run"))

    assert code == 3
    assert out == ""
    assert "RuntimeError: stumbled" in err


def test_unknown_option_ends_with_code_2(run_main) -> None:
    code, out, err = run_main("run", "--nonsense")

    assert code == 2
    assert out == ""
    assert "--nonsense" in err


def test_check_tells_the_size_of_a_run_and_writes_nothing(tmp_path: Path, run_main) -> None:
    scenes = make_scenes(tmp_path / "scenes")
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"before: {scenes.before}\nafter: {scenes.after}\noutput: {tmp_path / 'run'}\n"
        "grid: {resolution_m: 1, tile_size_px: 48}\nmodel: {name: stand-in}\ntiles: {shard_size_tiles: 4}\n"
    )

    code, out, err = run_main("check", str(config))

    figures = json.loads(out.splitlines()[-1])["figures"]
    assert code == 0
    assert (figures["n_rows"], figures["n_cols"], figures["n_tiles"]) == (4, 6, 24)
    assert figures["n_batches_at_most"] == 2
    assert figures["n_answers_at_most"] == 24 * 4
    assert figures["store_bytes_before_compression"] == 24 * 48 * 48 * 2 * 4
    assert figures["grid_crs"] == "EPSG:32614"
    assert "No problem found" in err
    assert not (tmp_path / "run").exists()


def test_check_names_every_problem(folder: Path, run_main) -> None:
    config = folder / "mine.yaml"
    config.write_text(
        f"before: {folder / 'none.tif'}\nafter: {folder / 'good.tif'}\noutput: {folder / 'text.tif' / 'run'}\n"
        "model: {name: deltavlm-huge}\ncluster: {kind: class, class_path: json.JSONDecoder}\n"
    )

    code, out, _ = run_main("check", str(config))

    problems = json.loads(out.splitlines()[-1])["problems"]
    assert code == 2
    for word in ("none.tif", "deltavlm-huge", "output", "json.JSONDecoder"):
        assert sum(word in problem for problem in problems) == 1, word
    assert len(problems) == 4


def test_check_of_a_region_looks_at_its_workers(folder: Path, run_main) -> None:
    config = folder / "region.yaml"
    (folder / "town.geojson").write_text('{"type": "Point", "coordinates": [-97.8, 30.2]}')
    config.write_text(
        f"name: town\naoi: {folder / 'town.geojson'}\n"
        f"source: {{kind: folder, folder: {folder}, files: '%Y-%m-%d.tif'}}\n"
        f"pairing: {{kind: series, since: 2020-01-01}}\noutput: {folder / 'watched'}\nmodel: {{name: stand-in}}\n"
        "cluster: {kind: class, class_path: no_such_package.Cluster}\n"
    )

    code, out, err = run_main("check", str(config))

    assert code == 2, err
    assert any("no_such_package" in problem for problem in json.loads(out.splitlines()[-1])["problems"])


def test_check_takes_what_run_takes_and_tells_all_at_once(folder: Path, run_main) -> None:
    wrong = {
        "before": "none.tif",
        "after": "text.tif",
        "--model": "no-such-model",
        "--aoi": "none.gpkg",
        "--zones": "none.geojson",
        "--output": "good.tif/run",
    }
    scenes = [str(folder / wrong.pop("before")), str(folder / wrong.pop("after"))]
    options = [word for name, value in wrong.items() for word in (name, str(folder / value))]

    code, out, err = run_main(
        "check",
        *scenes,
        *options,
        "--set",
        "grid.tile_size_px=100",
        "--set",
        "grids.x=1",
        "--set",
        "tiles.overlap_px=200",
    )

    problems = json.loads(out)["problems"]
    assert code == 2
    for name in ("none.tif", "text.tif", *wrong.values(), "grid.tile_size_px: 100", "grids: unknown key"):
        assert sum(name in problem for problem in problems) == 1, name
    assert err.count("Problem: ") == len(problems)


def test_check_of_two_scenes_needs_no_output(tmp_path: Path, run_main) -> None:
    scenes = make_scenes(tmp_path / "scenes")

    code, out, _ = run_main("check", str(scenes.before), str(scenes.after), "--model", "stand-in")

    assert code == 0
    assert json.loads(out)["problems"] == []
    assert json.loads(out)["figures"]["n_tiles"] > 0


@pytest.mark.parametrize(
    ("make_words", "expected"),
    [
        (lambda folder: [], "nothing to check"),
        (lambda folder: ["a", "b", "c"], "3 words: a b c"),
        (lambda folder: [str(folder / "none.yaml")], "none.yaml is not there"),
        (lambda folder: [str(folder), "--model", "stand-in"], "a run's folder, with options"),
    ],
)
def test_check_says_what_it_takes(
    make_words: Callable[[Path], list[str]], expected: str, folder: Path, run_main
) -> None:
    code, out, err = run_main("check", *make_words(folder))

    assert (code, out) == (2, "")
    assert expected in err
    assert "deltavlm check before.tif after.tif" in err


def test_check_looks_at_a_region(tmp_path: Path, run_main) -> None:
    config = tmp_path / "harbour.yaml"
    config.write_text(
        "name: harbour\naoi: none.geojson\noutput: regions\nsource: {kind: folder, folder: scenes}\n"
        "pairing: {kind: last-analysed, since: 2025-01-01}\nmodel: {name: no-such-model}\n"
    )

    code, out, _ = run_main("check", str(config))

    told = json.loads(out)
    assert code == 2
    assert told["figures"]["pairing"] == "last-analysed"
    assert ["no-such-model" in told["problems"][0], "none.geojson" in told["problems"][1]] == [True, True]
    assert len(told["problems"]) == 2


def test_run_says_what_to_type_for_what_is_missing(folder: Path, run_main) -> None:
    config = folder / "mine.yaml"
    config.write_text(f"before: {folder / 'good.tif'}\nafter: {folder / 'other.tif'}\n")

    scenes = run_main("run", "a.tif", "b.tif")
    one = run_main("run", "a.tif", "--output", "here")
    configured = run_main("run", "--config", str(config))

    assert [code for code, _, _ in (scenes, one, configured)] == [2, 2, 2]
    assert "To do: type: deltavlm run a.tif b.tif --output runs/mine\n" in scenes[2]
    assert "To do: type: deltavlm run a.tif after.tif --output here\n" in one[2]
    assert f"To do: type: deltavlm run --config {config} --output runs/mine\n" in configured[2]


@pytest.mark.parametrize("option", ["--model", "--aoi", "--zones"])
def test_mistyped_names_are_told_before_scenes_are_read(option: str, folder: Path, run_main, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.runs.run.find_pair", lambda config: pytest.fail("scenes are read"))

    code, _, err = run_main("run", *pair(folder), option, "no-such-thing", "--output", str(folder / "run"))

    assert code == 2
    assert "no-such-thing" in err


@pytest.mark.parametrize("command", ["report", "check"])
def test_folder_without_a_run_is_named(command: str, folder: Path, run_main) -> None:
    (folder / "empty").mkdir()

    code, out, err = run_main(command, str(folder / "empty"))

    assert code == 2
    assert out == ""
    assert str(folder / "empty") in err
    assert list((folder / "empty").iterdir()) == []


def test_synthesize_tells_where_the_files_are(tmp_path: Path, run_main) -> None:
    code, out, _ = run_main("data", "synthesize", str(tmp_path / "made"), "--size-px", "256", "--seed", "3")

    files = json.loads(out.splitlines()[-1])
    assert code == 0
    assert {Path(path).name for path in files.values()} == {path.name for path in (tmp_path / "made").iterdir()}
    with rasterio.open(files["before"]) as scene:
        assert scene.shape == (256, 256)


def test_model_info_names_the_weights(run_main) -> None:
    code, out, _ = run_main("model", "info", "stand-in")

    assert code == 0
    assert json.loads(out)["model_id"] == "stand-in@1"

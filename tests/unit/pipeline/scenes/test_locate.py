"""From settings to files: one raster, many, one per band, classes beside them; nothing is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.config.scene import SceneConfig
from pipeline.scenes.files import BandFile, PartFiles, SceneFiles
from pipeline.scenes.locate import resolve_files


def resolve(**settings: Any) -> SceneFiles:
    return resolve_files(SceneConfig.model_validate(settings), date="before")


def test_one_raster_tells_its_colours_itself() -> None:
    file = BandFile(uri="scenes/a.tif")
    assert resolve(uri="scenes/a.tif") == SceneFiles(
        scene_id="a", datetime=None, parts=(PartFiles(red=file, green=file, blue=file),)
    )


def test_what_the_user_knows_goes_with_every_band() -> None:
    files = resolve(
        uri=["a.tif", "b.tif"],
        bands=["B04", 3, "blue"],
        scale=1e-4,
        offset=-0.1,
        nodata=0,
        mosaic="median",
        datetime="2020-01-01T10:00:00Z",
    )
    assert (files.scene_id, files.mosaic, files.datetime) == ("a and 1 more", "median", "2020-01-01T10:00:00+00:00")
    assert [part.green.uri for part in files.parts] == ["a.tif", "b.tif"]
    assert files.parts[1].red == BandFile(uri="b.tif", band="B04", scale=1e-4, offset=-0.1, nodata=0.0)
    assert files.parts[1].blue.band == "blue"


def test_one_raster_per_band_is_named_by_what_the_names_share() -> None:
    files = resolve(band_files={"red": "T31_2020_B04.tif", "green": "T31_2020_B03.tif", "blue": "T31_2020_B02.tif"})
    assert files.scene_id == "T31_2020_B0"
    assert [files.parts[0].red.uri, files.parts[0].blue.uri] == ["T31_2020_B04.tif", "T31_2020_B02.tif"]


@pytest.mark.parametrize(
    ("settings", "uris"),
    [
        ({"uri": ["a", "b"], "classes": {}}, ["a", "b"]),
        ({"uri": ["a", "b"], "classes": {"uri": "scl"}}, ["scl", "scl"]),
        ({"uri": ["a", "b"], "classes": {"uri": ["s", "t"]}}, ["s", "t"]),
    ],
)
def test_classes_are_in_the_scene_or_beside_it(settings: dict[str, Any], uris: list[str]) -> None:
    files = [part.classes for part in resolve(**settings).parts]
    assert files == [BandFile(uri=uri, band=1) for uri in uris]


def test_another_number_of_class_rasters_is_named() -> None:
    with pytest.raises(InputError, match=r"before\.classes\.uri names 2 rasters, before has 3 parts"):
        resolve(uri=["a", "b", "c"], classes={"uri": ["s", "t"]})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "nothing given"),
        ({"uri": "a", "band_files": {"red": "r", "green": "g", "blue": "b"}}, "uri and band_files given"),
        ({"band_files": {"red": ["r", "s"], "green": "g", "blue": "b"}}, "2 of red, 1 of green"),
        ({"uri": []}, "uri"),
        ({"uri": "a", "scale": 0}, "every pixel the same"),
        ({"uri": "a", "mosaic": "mean"}, "mosaic"),
    ],
)
def test_settings_that_name_no_scene_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SceneConfig.model_validate(settings)


def test_a_list_of_rasters_may_stand_for_a_scene() -> None:
    config = load_config(
        values={"before": ["a.tif", "b.tif"], "after": "c.tif", "output": "run"},
        assignments=["before.mosaic=median", "after=[d.tif, e.tif]"],
    )
    assert (config.before.uri, config.before.mosaic) == (("a.tif", "b.tif"), "median")
    assert config.after.uri == ("d.tif", "e.tif")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("tiles.stretch.limits=[10, 3]", "not low before high"),
        ("tiles.stretch.limits=[[0, 1], [0, 1], [2, 1]]", "not low before high"),
        ("tiles.stretch.limits=[0, .inf]", "not low before high"),
        ("tiles.stretch.percentiles=[98, 2]", "two rising numbers"),
        ("tiles.stretch.percentiles=[-1, 98]", "two rising numbers"),
        ("tiles.max_cloud_fraction=2", "tiles.max_cloud_fraction"),
    ],
)
def test_limits_that_cannot_be_are_named(assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_config(values={"before": "a", "after": "b", "output": "run"}, assignments=[assignment])


@pytest.mark.parametrize(
    ("asset", "settings", "is_told"),
    [
        ("quality", {}, True),
        ("SCL_20m", {}, False),
        ("qa_pixel", {}, False),
        ("quality", {"classes": {"uri": "clouds.tif"}}, False),
        ("quality", {"stac": {"classes": None}}, False),
    ],
)
def test_a_scene_of_which_no_clouds_are_known_says_so(
    tmp_path: Path, asset: str, settings: dict[str, Any], is_told: bool
) -> None:
    keys = ("red", "green", "blue", asset)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "one",
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]},
        "bbox": [0, 0, 1, 1],
        "properties": {"datetime": "2024-05-01T17:00:00Z"},
        "links": [],
        "assets": {key: {"href": f"{key}.tif", "type": "image/tiff"} for key in keys},
    }
    (tmp_path / "item.json").write_text(json.dumps(item))
    stac = {"href": str(tmp_path / "item.json"), **settings.get("stac", {})}

    notes = resolve(**{**settings, "stac": stac}).notes

    assert any("its clouds are not known" in note for note in notes) is is_told

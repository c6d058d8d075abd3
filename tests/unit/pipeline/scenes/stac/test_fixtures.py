"""Real items in every dialect, each with its stated outcome: the files of a scene, or a refusal with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.scenes.files import BandFile, PartFiles
from pipeline.scenes.stac.scene import find_stac_scene

RAINBOW = "http://somewhere-over-the-rainbow.io"
KOMPSAT = "urn_ogc_def_EOP_KARI_KOMPSAT3_K3_20201112193439_45302_18521139_L1G_Aux_xml-product"
KOMPSAT_NAME = f"{KOMPSAT}/K3_20201112193439_45302_18521139_L1G"
JQT = ("JQT-123456789", "2016-05-03T13:21:30.040000Z")
RASTER = ("JQT-123456789", "2023-05-26T09:31:21.530651Z")

SCENES = {
    "stac.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    # The asset's own href counts; its s3 alternate would do where that were of a kind that is not read.
    "stac_alternate.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    "stac_bands.json": (*JQT, [f"{RAINBOW}/rgb.tif#{band}" for band in (1, 2, 3)]),
    "stac_bands_v1.json": (*JQT, [f"{RAINBOW}/rgb.tif#{band}" for band in (1, 2, 3)]),
    "stac_headers.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    # Beside a NetCDF the one GeoTIFF, whose header has to tell its colours.
    "stac_netcdf.json": ("my_stac", "2024-11-05T09:03:47.523834Z", ["dataset_2d.tif#None"] * 3),
    "stac_no_ext.json": (*JQT, [f"{name}.tif#1" for name in ("red", "green", "blue")]),
    "stac_proj.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    "stac_proj_2_0.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    "stac_proj_2_0_assets.json": (*JQT, [f"{RAINBOW}/{name}.tif#1" for name in ("red", "green", "blue")]),
    "stac_raster.json": (*RASTER, [f"{RAINBOW}/{name}_nostats.tif#1" for name in ("red", "green", "blue")]),
    "stac_raster_v1.json": (*RASTER, [f"{RAINBOW}/{name}_nostats.tif#1" for name in ("red", "green", "blue")]),
    # Scale and offset stand in its eo:bands, where no version of the extension has them: they are not believed.
    "stac_relative.json": (
        "K3_20201112193439_45302_18521139_L1G",
        "2020-11-12T19:34:47.874156Z",
        [f"{KOMPSAT_NAME}_{letter}.tif#1" for letter in "RGB"],
    ),
}
REFUSALS = {
    "stac-proj-titiler-issue1074.json": r"has no red, green, blue; its assets are data \(b1\)",
    "stac_grib.json": r"has no red, green, blue; its assets are asset \(GRIB\)",
    # Its statistics are text, which nobody needs; but it has no colours.
    "stac_wrong_stats.json": r"has no green, blue; its assets are goodstat \(red\), wrongstat",
}


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "data" / "fixtures" / "stac"


def test_every_fixture_has_an_outcome(folder: Path) -> None:
    assert {path.name for path in folder.glob("*.json")} == {*SCENES, *REFUSALS}


@pytest.mark.parametrize("name", SCENES)
def test_item_becomes_a_scene(name: str, folder: Path) -> None:
    scene_id, moment, uris = SCENES[name]

    scene = find_stac_scene(StacConfig(href=str(folder / name)))

    (part,) = scene.files.parts
    assert (scene.files.scene_id, scene.files.datetime) == (scene_id, moment)
    assert [f"{file.uri.removeprefix(f'{folder}/')}#{file.band}" for file in list_colours(part)] == uris
    assert part.classes is None
    assert (scene.item_ids, scene.left_out) == ((scene_id,), ())
    assert scene.covered_fraction == pytest.approx(1)


@pytest.mark.parametrize("name", REFUSALS)
def test_item_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(InputError, match=rf"^stac: item .*{name}: {REFUSALS[name]}; expected .*rasters"):
        find_stac_scene(StacConfig(href=str(folder / name)))


def test_only_the_raster_extension_tells_scale_and_nodata(folder: Path) -> None:
    told = {}
    for name in SCENES:
        (part,) = find_stac_scene(StacConfig(href=str(folder / name))).files.parts
        told |= {name: {(file.scale, file.offset, file.nodata) for file in list_colours(part)}}

    assert told.pop("stac_raster_v1.json") == {(1.0, 0.0, 0.0)}
    assert set.union(*told.values()) == {(None, None, None)}


def list_colours(part: PartFiles) -> list[BandFile]:
    return [part.red, part.green, part.blue]

"""Which band a name stands for, in every dialect that tells bands."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.scenes.stac.bands import BandChoice, choose_bands, find_band, find_other_format

RGB = ("red", "green", "blue")


def tif(**fields: Any) -> dict[str, Any]:
    return {"href": "x.tif", "type": "image/tiff; application=geotiff", **fields}


def eo(*names: str) -> dict[str, Any]:
    return {"eo:bands": [{"name": f"B{index}", "common_name": name} for index, name in enumerate(names)]}


def v11(*names: str) -> dict[str, Any]:
    return {"bands": [{"name": f"B{index}", "eo:common_name": name} for index, name in enumerate(names)]}


KEYS = {"red": tif(), "green": tif(), "blue": tif()}


@pytest.mark.parametrize(
    ("assets", "wanted", "expected"),
    [
        (KEYS, RGB, "red.1 green.1 blue.1"),
        ({"Red": tif(), "GREEN": tif(), "blue": tif()}, RGB, "Red.1 GREEN.1 blue.1"),
        ({"B04": tif(**eo("red")), "B03": tif(**eo("green")), "B02": tif(**eo("blue"))}, RGB, "B04.1 B03.1 B02.1"),
        ({"B04": tif(**v11("red")), "B03": tif(**v11("green")), "B02": tif(**v11("blue"))}, RGB, "B04.1 B03.1 B02.1"),
        ({"a": tif(**{"eo:common_name": "red"}), "b": tif(**v11("green")), "c": tif(**eo("blue"))}, RGB, "a.1 b.1 c.1"),
        ({"all": tif(**eo("blue", "green", "red", "nir"))}, RGB, "all.3 all.2 all.1"),
        ({"all": tif(**v11("blue", "green", "red"))}, ("B2", "B1", "B0"), "all.3 all.2 all.1"),
        ({"all": tif(**{"bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}]})}, RGB, "all.1 all.2 all.3"),
        ({"a": tif(title="Red"), "b": tif(title="green"), "c": tif(title="Blue")}, RGB, "a.1 b.1 c.1"),
        ({"all": tif()}, ("all.3", "all.2", "all.1"), "all.3 all.2 all.1"),
        (KEYS | {"nir": tif()}, ("nir", "red", "green"), "nir.1 red.1 green.1"),
        # A band alone in its asset goes before one of several, a fine one before a coarse one.
        ({"visual": tif(**eo(*RGB)), **{name[0]: tif(**eo(name)) for name in RGB}}, RGB, "r.1 g.1 b.1"),
        (
            {f"{name}{gsd}": tif(gsd=gsd, **eo(name)) for gsd in (60, 10, 20) for name in RGB},
            RGB,
            "red10.1 green10.1 blue10.1",
        ),
        # A colour raster stands in for plain colours.
        ({"visual": tif(), "B04": tif(**eo("nir"))}, RGB, "visual visual visual"),
        ({"TCI": tif(roles=["visual"]), "B08": tif()}, RGB, "TCI TCI TCI"),
        ({"image": tif(), "thumbnail": tif(roles=["thumbnail"])}, RGB, "image image image"),
        ({"image": tif(), "grid": {"href": "x.nc"}}, RGB, "image image image"),
        ({"image": tif(**{"raster:bands": [{}, {}, {}]})}, RGB, "image image image"),
        (KEYS | {"visual": tif()}, ("visual",), "visual visual visual"),
        (
            {"overview": tif(roles=["overview"], title="True colour"), **KEYS},
            ("true COLOUR",),
            "overview overview overview",
        ),
        ({"rgb": tif(**v11("blue", "green", "red"))}, ("rgb",), "rgb.3 rgb.2 rgb.1"),
        ({"rgb": tif(**{"bands": [{"name": "a"}, {"name": "b"}, {"name": "c"}]})}, ("rgb",), "rgb rgb rgb"),
    ],
)
def test_bands_are_found(assets: dict[str, Any], wanted: tuple[str, ...], expected: str) -> None:
    choices = choose_bands(assets, wanted=wanted)
    assert " ".join(c.key if c.band is None else f"{c.key}.{c.band}" for c in choices) == expected


@pytest.mark.parametrize(
    ("assets", "wanted", "reason"),
    [
        ({}, RGB, "has no red, green, blue; its assets are none"),
        ({"red": tif(), "green": tif()}, RGB, "has no blue; its assets are red, green"),
        ({"data": tif(**eo("gray"))}, RGB, r"its assets are data \(b0, gray\)"),
        ({"a": tif(), "b": tif()}, RGB, "has no red, green, blue"),
        ({"visual": tif(**eo("red"))}, RGB, r"has no green, blue"),
        (KEYS, ("red", "green", "swir"), "has no swir"),
        (KEYS, ("visual",), "has no visual"),
        (
            {"red": tif(**v11("nir", "swir")), **{k: KEYS[k] for k in RGB[1:]}},
            RGB,
            "2 bands in its asset red; write red.1",
        ),
        ({"red": {"href": "x.nc"}, "green": tif(), "blue": tif()}, RGB, "has NetCDF in its asset red"),
        ({"visual": tif(**eo("red", "green"))}, ("visual",), "only 2 of red, green and blue"),
        ({"visual": {"href": "x.grib2"}}, ("visual",), "has GRIB in its asset visual"),
        ({f"x{i}": tif() for i in range(30)}, RGB, "and 18 more"),
    ],
)
def test_bands_that_are_not_there_are_named(assets: dict[str, Any], wanted: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        choose_bands(assets, wanted=wanted)


@pytest.mark.parametrize(
    ("asset", "other"),
    [
        ({"href": "a/red.tif"}, None),
        ({"href": "https://host/red.TIF?sig=a.nc"}, None),
        ({"href": "https://host/serve?id=1"}, None),
        ({"href": "red.jp2", "type": "image/jp2"}, None),
        ({"href": "red.tif", "type": "image/vnd.stac.geotiff; cloud-optimized=true"}, None),
        ({"href": "red.tif", "type": "application/geotiff"}, None),
        ({"href": "red", "type": "application/octet-stream"}, None),
        ({"href": "x.nc", "type": "application/x-netcdf"}, "NetCDF"),
        ({"href": "x", "type": "application/netcdf"}, "NetCDF"),
        ({"href": "x.grib2"}, "GRIB"),
        ({"href": "x", "type": "application/wmo-GRIB2"}, "GRIB"),
        ({"href": "x.h5"}, "HDF"),
        ({"href": "x", "type": "application/x-hdf5"}, "HDF"),
        ({"href": "x.zarr"}, "Zarr"),
        # A VRT may name any file of the machine that reads it.
        ({"href": "x.vrt", "type": "image/tiff"}, "VRT"),
        ({"href": "x.zip"}, "an archive"),
        ({"href": "x", "type": "application/json"}, "application/json"),
        ({"href": "x.xml", "type": "text/xml"}, "text"),
    ],
)
def test_what_is_no_raster_is_named(asset: dict[str, Any], other: str | None) -> None:
    assert find_other_format(asset) == other


def test_class_band_is_found_in_any_case() -> None:
    assert find_band({"SCL": tif()}, "scl") == BandChoice(key="SCL", band=1)
    assert find_band(KEYS, "scl") is None

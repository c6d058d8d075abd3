"""Which bands are red, green and blue, decided from headers alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box

from model.errors import InputError
from pipeline.scenes.bands import check_types, choose_band, choose_colours, describe_choice, make_source, settle_alpha
from pipeline.scenes.files import BandFile
from pipeline.scenes.headers import BandHeader, RasterHeader, clean_nodata
from pipeline.scenes.scene import Asset

ASSET = Asset(
    uri="x.tif",
    checksum="0",
    crs="EPSG:32614",
    transform=(1, 0, 0, 0, -1, 0),
    width=4,
    height=4,
    footprint=box(0, 0, 1, 1),
)


def make_header(*bands: str, dtype: str = "uint16", **changes: Any) -> RasterHeader:
    """Make a header of bands written ``description:meaning``."""
    told = [band.partition(":") for band in bands]
    return RasterHeader(
        uri="x.tif",
        checksum="0",
        width=4,
        height=4,
        bands=tuple(
            BandHeader(dtype=dtype, description=name, meaning=meaning or "undefined") for name, _, meaning in told
        ),
        crs="EPSG:32614",
        transform=(1, 0, 0, 0, -1, 0),
        **changes,
    )


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (["", "", ""], (1, 2, 3)),
        (["", "", "", ""], (1, 2, 3)),
        ([":blue", ":green", ":red", ":alpha"], (3, 2, 1)),
        (["B02", "B03", "B04", "B08", "B11"], (3, 2, 1)),
        (["coastal", "Blue", "Green", "Red", "rededge071", "nir"], (4, 3, 2)),
        # GDAL takes the first band of many for grey; the names tell more.
        (["nir:gray", "red", "green", "blue"], (2, 3, 4)),
        # As Earth Engine names them, of Sentinel-2, Landsat 8 and Landsat 5.
        (["B2", "B3", "B4"], (3, 2, 1)),
        (["SR_B2", "SR_B3", "SR_B4", "SR_B5"], (3, 2, 1)),
        (["SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"], (3, 2, 1)),
        (
            ["B4, central wavelength 665 nm", "B3, central wavelength 560 nm", "B2, central wavelength 490 nm"],
            (1, 2, 3),
        ),
        (["Red edge 705 nm", "Red 665 nm", "Green 560 nm", "Blue 490 nm"], (2, 3, 4)),
        (["Blue", "Green", "Red", "Near infrared"], (3, 2, 1)),
        # Counted as they lie, they tell nothing.
        (["Band 1", "Band 2", "Band 3", "Band 4"], (1, 2, 3)),
    ],
)
def test_colours_are_found_by_what_the_header_tells(bands: list[str], expected: tuple[int, int, int]) -> None:
    assert choose_colours(make_header(*bands), date="before") == expected


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ([""], r"1 band;.*\[1, 1, 1\]"),
        ([":palette"], "1 band;.*-expand rgb"),
        ([":gray", "", ":alpha"], "2 bands"),
        (["B1", "B2", "B3", "B4", "B5"], r"5 bands \(B1, B2, B3, B4, B5\);.*before\.bands"),
        # Landsat's numbers mean other colours on other satellites.
        (["B3", "B2", "B1", "B4", "B5"], "5 bands"),
        (["red", "red", "green", "blue", "nir"], "5 bands"),
        (["B1", "B2", "B3"], r"3 bands \(B1, B2, B3\)"),
        (["B8A", "B11", "B04"], r"3 bands \(B8A, B11, B04\)"),
        (["nir", "red", "green"], r"nir, red, green"),
        ([":nir", ":red", ":green"], r"nir, red, green"),
        # Written as red, green and blue, as writers do with three bands.
        (["NIR:red", "Red:green", "Green:blue"], "NIR, Red, Green"),
        (["B02:red", "B03:green", "B04:blue"], "B02, B03, B04"),
        ([":cyan", ":magenta", ":yellow", ":black"], "cyan, magenta, yellow, black"),
        ([":hue", ":saturation", ":lightness"], "hue, saturation, lightness"),
        (["VV", "VH", "ratio"], "VV, VH, ratio"),
    ],
)
def test_colours_that_nobody_told_are_not_guessed(bands: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_colours(make_header(*bands), date="before")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(1, 1), ("B04", 2), ("b04", 2), ("Red", 2), ("842", 4), ("cloud", 5), ("alpha", 6)],
)
def test_a_band_goes_by_number_name_word_or_colour(wanted: int | str, expected: int) -> None:
    header = make_header("B03 green", "B04", "B05 red edge", "B08 - 842 nm", "cloud", ":alpha")
    if wanted == "Red":
        header = make_header("red edge", "Red", "blue")
    assert choose_band(header, wanted, key="before.bands") == expected


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (0, r"has 3 bands, but before\.bands is 0"),
        (4, r"has 3 bands, but before\.bands is 4"),
        ("nir", r"no band that only 'nir' would mean.*one of B04, B03, undefined, or a number from 1 to 3"),
        (None, "has 3 bands;.*one band, or before.bands"),
    ],
)
def test_a_band_that_is_not_there_is_named(wanted: int | str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_band(make_header("B04", "B03", ""), wanted, key="before.bands")


def test_the_only_band_needs_no_name() -> None:
    assert choose_band(make_header("", ":alpha"), None, key="before.bands") == 1


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16", "int64"])
def test_values_that_are_no_brightness_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=f"x.tif holds {dtype}"):
        check_types(make_header("", dtype=dtype))


def test_the_user_knows_better_than_the_header() -> None:
    header = make_header("")
    told = make_source(ASSET, 1, header=header, file=BandFile(uri="x.tif", scale=2.0, offset=-1.0, nodata=7))
    assert (told.scale, told.offset, told.nodata, told.is_plain) == (2.0, -1.0, 7.0, False)
    assert make_source(ASSET, 1, header=make_header("", dtype="uint8"), file=BandFile(uri="x.tif")).is_plain


def test_a_mask_goes_over_a_declared_nodata() -> None:
    band = BandHeader(dtype="uint8", meaning="red", nodata=0.0)
    header = RasterHeader(**{**vars(make_header("", has_mask=True)), "bands": (band,)})
    assert make_source(ASSET, 1, header=header, file=BandFile(uri="x.tif")).nodata is None


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        (None, "uint8", None),
        (0.0, "uint8", 0.0),
        (-9999.0, "uint8", None),
        (float("nan"), "uint16", None),
        (0.5, "int16", None),
        (-32768.0, "int16", -32768.0),
        (-3.4e38, "float32", float(np.float32(-3.4e38))),
        (0.0, "complex_int16", None),
    ],
)
def test_nodata_is_what_a_pixel_can_hold(nodata: float | None, dtype: str, expected: float | None) -> None:
    assert clean_nodata(nodata, dtype=dtype) == expected


@pytest.mark.parametrize(
    ("bands", "has_alpha", "expected"),
    [
        ([":red", ":green", ":blue", ":alpha"], None, 4),
        ([":red", ":green", ":blue", "opacity:alpha"], None, 4),
        ([":red", ":green", ":blue", "Alpha:alpha"], None, 4),
        ([":red", ":green", ":blue", "nir:alpha"], None, None),
        (["B04:red", "B03:green", "B02:blue", "B08:alpha"], None, None),
        ([":red", ":green", ":blue", ":alpha"], False, None),
        ([":red", ":green", ":blue", "nir:alpha"], True, 4),
    ],
)
def test_a_band_flagged_as_alpha_may_be_another(bands: list[str], has_alpha: bool | None, expected: int | None) -> None:
    assert settle_alpha(make_header(*bands), has_alpha=has_alpha).alpha_band == expected


def test_another_order_than_that_of_the_file_is_told() -> None:
    header = make_header("B2", "B3", "B4")

    assert (
        describe_choice(header, choose_colours(header, date="before"))
        == "shows B4, B3, B2 of x.tif as red, green, blue"
    )
    assert describe_choice(header, (1, 2, 3)) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T32TQM_20240501T101601_B04_10m.jp2", 0.0),
        ("https://example.org/a/T32TQM_20240501T101601_TCI_10m.jp2?sig=1", 0.0),
        ("T32TQM_20240501T101601_B8A.jp2", 0.0),
        ("ortho_20240501.tif", None),
    ],
)
def test_sentinel_2_holds_0_where_nothing_was_seen(name: str, expected: float | None) -> None:
    header = replace(make_header(""), uri=name)

    assert make_source(ASSET, 1, header=header, file=BandFile(uri=name)).nodata == expected
    # What the file or its user says goes over it.
    assert make_source(ASSET, 1, header=header, file=BandFile(uri=name, nodata=7)).nodata == 7
    masked = replace(header, has_mask=True)
    assert make_source(ASSET, 1, header=masked, file=BandFile(uri=name)).nodata is None

"""What stored values mean, by every way in which items say it."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.scenes.stac.bands import Scaling, read_scaling

S2 = {"constellation": "sentinel-2"}
OLD, NEW = {**S2, "s2:processing_baseline": "03.01"}, {**S2, "s2:processing_baseline": "05.09"}
V1 = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "data_type": "uint16"}]}
V1_ZERO = {"raster:bands": [{"scale": 0.0001, "offset": 0}]}
V1_SCALE = {"raster:bands": [{"scale": 0.0001, "data_type": "uint16"}]}
V2_ASSET = {"raster:scale": 0.0001, "raster:offset": -0.1}
V2_BANDS = {"bands": [{"name": "x"}, {"raster:scale": 2.5, "raster:offset": 7}]}


@pytest.mark.parametrize(
    ("asset", "band", "properties", "expected"),
    [
        # As the raster extension has it, versions 1 and 2, at the band and at the asset.
        ({}, 1, {}, (None, None)),
        (V1, 1, {}, (0.0001, -0.1)),
        (V1, 2, {}, (None, None)),
        (V2_ASSET, 1, {}, (0.0001, -0.1)),
        (V2_BANDS, 2, {}, (2.5, 7)),
        ({**V2_BANDS, **V2_ASSET}, 1, {}, (0.0001, -0.1)),
        ({**V2_BANDS, **V2_ASSET}, 2, {}, (2.5, 7)),
        ({"bands": [{"scale": "0.5", "offset": "1"}]}, 1, {}, (0.5, 1)),
        # In eo:bands it means something else with every provider.
        ({"eo:bands": [{"scale": 34.0, "offset": -21.7}]}, 1, {}, (None, None)),
        # Sentinel-2: what is said counts, then the baseline.
        (V1, 1, NEW, (0.0001, -0.1)),
        (V1_ZERO, 1, NEW, (0.0001, 0)),
        (V1_SCALE, 1, NEW, (0.0001, -0.1)),
        (V1_SCALE, 1, OLD, (0.0001, 0)),
        ({}, 1, NEW, (0.0001, -0.1)),
        ({}, 1, OLD, (0.0001, 0)),
        ({}, 1, {**S2, "s2:processing_baseline": "04.00"}, (0.0001, -0.1)),
        ({}, 1, {**S2, "processing:version": "05.11"}, (0.0001, -0.1)),
        ({}, 1, {"s2:processing_baseline": "05.09"}, (0.0001, -0.1)),
        ({}, 1, {"platform": "Sentinel-2B", "sentinel:processing_baseline": "04.00"}, (0.0001, -0.1)),
        ({}, 1, S2, (None, None)),
        ({}, 1, {**S2, "s2:processing_baseline": "unknown"}, (None, None)),
        ({}, 1, {"platform": "landsat-8", "processing:version": "05.11"}, (None, None)),
        # Never twice: where the offset is out of the file already, raster:bands may still name it.
        (V1, 1, {**NEW, "earthsearch:boa_offset_applied": True}, (0.0001, 0)),
        (V1_SCALE, 1, {**NEW, "earthsearch:boa_offset_applied": True}, (0.0001, 0)),
        ({}, 1, {**NEW, "earthsearch:boa_offset_applied": True}, (0.0001, 0)),
        (V1, 1, {**NEW, "earthsearch:boa_offset_applied": False}, (0.0001, -0.1)),
        ({}, 1, {**NEW, "earthsearch:boa_offset_applied": False}, (0.0001, -0.1)),
        ({}, 1, {**OLD, "earthsearch:boa_offset_applied": False}, (0.0001, 0)),
        (V1, 1, {**NEW, "sentinel:boa_offset_applied": True}, (0.0001, 0)),
        # A picture of bytes has no offset.
        ({"raster:bands": [{"data_type": "uint8"}]}, 1, NEW, (None, None)),
        ({"roles": ["visual"]}, 1, NEW, (None, None)),
    ],
)
def test_scale_and_offset(
    asset: dict[str, Any], band: int, properties: dict[str, Any], expected: tuple[float | None, float | None]
) -> None:
    found = read_scaling(asset, band=band, properties=properties)
    assert found == Scaling(scale=expected[0], offset=pytest.approx(expected[1]) if expected[1] is not None else None)


@pytest.mark.parametrize(
    "band", [{"scale": 0}, {"scale": "much"}, {"offset": "nan"}, {"scale": float("inf")}, {"offset": [1]}]
)
def test_scaling_that_makes_no_sense_is_refused(band: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scale|offset"):
        read_scaling({"raster:bands": [band]}, band=1, properties={})

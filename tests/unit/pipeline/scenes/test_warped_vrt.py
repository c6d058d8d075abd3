"""Warps inside of VRTs: a few lines of text that would have GDAL read a whole raster for one block."""

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest

from model.errors import InputError
from pipeline.scenes.warped_vrt import WarpedSize, check_warps

LARGE = "/data/large.tif"


def describe(source: str = LARGE, *, size: int = 96, block: str = "", bands: int = 3, kind: str = "Byte") -> str:
    band = f'<VRTRasterBand dataType="{kind}" subClass="VRTWarpedRasterBand"/>'
    return (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}" subClass="VRTWarpedDataset">{band * bands}{block}'
        f"<GDALWarpOptions><SourceDataset>{escape(source)}</SourceDataset></GDALWarpOptions></VRTDataset>"
    )


def hold(text: str) -> str:
    return f"<VRTDataset><VRTRasterBand><SourceFilename>{escape(text)}</SourceFilename></VRTRasterBand></VRTDataset>"


@pytest.mark.parametrize(
    "text",
    [
        describe(),
        hold(describe()),
        describe(size=600, block="<BlockXSize>600</BlockXSize><BlockYSize>600</BlockYSize>"),
        describe('<VRTDataset rasterXSize="60000" rasterYSize="60000"/>'),
        describe(size=4_000, kind="Float64"),
    ],
    ids=["one block", "within another", "blocks of its own", "of another VRT", "wide values"],
)
def test_a_block_that_needs_too_much_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="in blocks that take"):
        check_warps(text, sizes={LARGE: WarpedSize(width=60_000, height=60_000)})


@pytest.mark.parametrize(
    ("text", "overviews"),
    [(describe(size=60_000), ()), (describe(size=10_000), ()), (describe(), (2, 4, 8, 16, 32, 64, 128, 256)), ("", ())],
)
def test_one_that_reads_about_as_much_as_it_gives_is_not(text: str, overviews: tuple[int, ...]) -> None:
    check_warps(text, sizes={LARGE: WarpedSize(width=60_000, height=60_000, overviews=overviews)})

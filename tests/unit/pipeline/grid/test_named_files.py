"""CRSs that have PROJ open files: which are refused, and which are as common as harmless."""

from __future__ import annotations

import pytest

from model.errors import InputError
from pipeline.grid.projections import refuse_named_files


@pytest.mark.parametrize(
    "text",
    [
        "+proj=utm +zone=14 +nadgrids=/dev/zero",
        "+proj=utm +zone=14 +nadgrids=@null,@./pipe",
        "+proj=utm +zone=14 +geoidgrids=http://127.0.0.1/a.tif",
        "+init=/etc/passwd:1",
        'GEOGCS["x",EXTENSION["PROJ4_GRIDS","~/a.gtx"]]',
        'ABRIDGEDTRANSFORMATION["t",METHOD["NTv2"],PARAMETERFILE["Latitude and longitude difference file","..\\a"]]',
        '{"parameters": [{"name": "Geoid (height correction) model file", "value": "/dev/zero"}]}',
    ],
)
def test_a_file_of_its_choice_is_not_opened(text: str) -> None:
    with pytest.raises(InputError, match="reads the file"):
        refuse_named_files(text, named_by="a.tif")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "EPSG:32614",
        "+init=epsg:4326",
        "+proj=merc +a=6378137 +b=6378137 +nadgrids=@null +wktext",
        'VERT_DATUM["North American Vertical Datum 1988",2005,EXTENSION["PROJ4_GRIDS","g2003conus.gtx"]]',
        'AUTHORITY["https://example.com/crs/1","1"]',
    ],
)
def test_what_names_none_is_as_good_as_ever(text: str) -> None:
    refuse_named_files(text, named_by="a.tif")

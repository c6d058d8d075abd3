"""Items as the large archives describe them: names of assets, bands and addresses, written down by hand.

Each is of a made place and day; what is of no account for a scene is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

SIZE = 64
CRS = "EPSG:32614"
LEFT, TOP = 620_000.0, 3_350_000.0
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
EXTENSIONS = "https://stac-extensions.github.io"
PROJ_1, PROJ_2 = f"{EXTENSIONS}/projection/v1.1.0/schema.json", f"{EXTENSIONS}/projection/v2.0.0/schema.json"
EO_1, EO_2 = f"{EXTENSIONS}/eo/v1.1.0/schema.json", f"{EXTENSIONS}/eo/v2.0.0/schema.json"
RASTER_1, RASTER_2 = f"{EXTENSIONS}/raster/v1.1.0/schema.json", f"{EXTENSIONS}/raster/v2.0.0/schema.json"
ALTERNATE = f"{EXTENSIONS}/alternate-assets/v1.2.0/schema.json"

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One archive: an item of a day, and the files that it names."""

    describe: Callable[[str, str], dict[str, Any]]
    """Is given an id and a day."""
    files: Mapping[str, tuple[str, ...]]
    """What each file holds, by the end of its name: colours, `nir` or `classes`."""
    dtype: str
    """Of the colours."""
    pixel_m: float
    """Side of a pixel."""
    cloud: int = 0
    """Value of a cloudy pixel in the class band; 0: it has none."""
    ground: int = 0
    """Value of a clear one."""
    snow: int = 0
    """Value of a snowy one."""


def _make_item(
    item_id: str, *, extensions: list[str], properties: dict[str, Any], assets: dict[str, Any], pixel_m: float
) -> dict[str, Any]:
    bounds = transform_bounds(CRS, "EPSG:4326", LEFT, TOP - SIZE * pixel_m, LEFT + SIZE * pixel_m, TOP)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": extensions,
        "id": item_id,
        "geometry": mapping(box(*bounds)),
        "bbox": list(bounds),
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def _place(pixel_m: float) -> dict[str, Any]:
    return {"proj:shape": [SIZE, SIZE], "proj:transform": [pixel_m, 0, LEFT, 0, -pixel_m, TOP]}


def _earth_search(item_id: str, day: str) -> dict[str, Any]:
    folder = f"http://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs/{item_id}"
    assets: dict[str, Any] = {
        colour: {
            "href": f"{folder}/{item_id}_{band}.tif",
            "type": COG,
            "title": f"{colour.title()} (band {band[-1]}) - 10m",
            "roles": ["data", "reflectance"],
            "eo:bands": [{"name": colour, "common_name": colour}],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
            "gsd": 10,
            **_place(10),
        }
        for colour, band in (("red", "B04"), ("green", "B03"), ("blue", "B02"))
    }
    assets["visual"] = {
        "href": f"{folder}/TCI.tif",
        "type": COG,
        "roles": ["visual"],
        "eo:bands": [{"name": colour, "common_name": colour} for colour in ("red", "green", "blue")],
    }
    assets["scl"] = {"href": f"{folder}/{item_id}_SCL.tif", "type": COG, "roles": ["data"], "gsd": 20, **_place(10)}
    # The same once more, as the JPEG 2000 that it was made of.
    assets["red-jp2"] = assets["red"] | {"href": f"s3://sentinel-s2-l2a/{item_id}/B04.jp2", "type": "image/jp2"}
    return _make_item(
        item_id,
        extensions=[PROJ_1, EO_1, RASTER_1],
        pixel_m=10,
        assets=assets,
        properties={
            "datetime": f"{day}T17:00:00Z",
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "eo:cloud_cover": 3.1,
            "proj:epsg": 32614,
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": True,
        },
    ) | {"collection": "sentinel-2-l2a"}


def _planetary_computer(item_id: str, day: str) -> dict[str, Any]:
    folder = f"http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/{item_id}"
    assets: dict[str, Any] = {
        band: {
            "href": f"{folder}/{item_id}_{band}.tif",
            "type": COG,
            "title": f"Band {band[-1]} - {colour.title()} - 10m",
            "roles": ["data"],
            "eo:bands": [{"name": band, "common_name": colour}],
            "gsd": 10.0,
            **_place(10),
        }
        for colour, band in (("blue", "B02"), ("green", "B03"), ("red", "B04"))
    }
    assets["SCL"] = {
        "href": f"{folder}/{item_id}_SCL.tif",
        "type": COG,
        "title": "Scene classification map (SCL)",
        "roles": ["data"],
    }
    assets["preview"] = {"href": f"{folder}/preview.tif", "type": COG, "roles": ["thumbnail"]}
    assets["rendered_preview"] = {
        "href": "http://planetarycomputer.microsoft.com/api/data/v1/item/preview.png",
        "type": "image/png",
        "roles": ["overview"],
    }
    return _make_item(
        item_id,
        extensions=[PROJ_1, EO_1],
        pixel_m=10,
        assets=assets,
        properties={
            "datetime": f"{day}T17:00:00.024000Z",
            "platform": "Sentinel-2A",
            "constellation": "Sentinel 2",
            "eo:cloud_cover": 3.1,
            "proj:epsg": 32614,
            "s2:processing_baseline": "05.09",
        },
    ) | {"collection": "sentinel-2-l2a"}


def _copernicus(item_id: str, day: str) -> dict[str, Any]:
    folder, download = f"s3://eodata/Sentinel-2/MSI/L2A/{item_id}", "https://download.dataspace.copernicus.eu/odata/v1"
    assets: dict[str, Any] = {
        f"{band}_{gsd}m": {
            "href": f"{folder}/{item_id}_{band}_{gsd}m.jp2",
            "type": "image/jp2",
            "title": f"{colour.title()} - {gsd}m",
            "roles": ["data", "reflectance", f"sampling:{'original' if gsd == 10 else 'downsampled'}"],
            "bands": [{"name": band, "eo:common_name": colour}],
            "gsd": gsd,
            "nodata": 0,
            "data_type": "uint16",
            "raster:scale": 0.0001,
            "raster:offset": -0.1,
            "proj:code": CRS,
            "alternate": {"https": {"href": f"{download}/Products({item_id})/$value", "storage:refs": ["cdse-https"]}},
            **(_place(10) if gsd == 10 else {}),
        }
        for gsd in (20, 10, 60)
        for colour, band in (("blue", "B02"), ("green", "B03"), ("red", "B04"))
    }
    assets["SCL_20m"] = {"href": f"{folder}/{item_id}_SCL_20m.jp2", "type": "image/jp2", "roles": ["data"], "nodata": 0}
    assets["TCI_10m"] = {"href": f"{folder}/{item_id}_TCI_10m.jp2", "type": "image/jp2", "roles": ["visual"]}
    assets["product_metadata"] = {"href": f"{folder}/MTD_MSIL2A.xml", "type": "application/xml", "roles": ["metadata"]}
    return _make_item(
        item_id,
        extensions=[PROJ_2, EO_2, RASTER_2, ALTERNATE],
        pixel_m=10,
        assets=assets,
        properties={
            "datetime": f"{day}T17:00:00.024Z",
            "start_datetime": f"{day}T17:00:00.024Z",
            "end_datetime": f"{day}T17:00:00.024Z",
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "eo:cloud_cover": 3.1,
            "eo:snow_cover": 0.0,
            "processing:version": "05.09",
        },
    ) | {"stac_version": "1.1.0", "collection": "sentinel-2-l2a"}


def _landsat(item_id: str, day: str) -> dict[str, Any]:
    path = f"collection02/level-2/standard/oli-tirs/2024/026/039/{item_id}"
    numbers = {"blue": 2, "green": 3, "red": 4, "nir08": 5}
    names = {**{colour: f"{item_id}_SR_B{number}.TIF" for colour, number in numbers.items()}}
    names["qa_pixel"] = f"{item_id}_QA_PIXEL.TIF"
    assets: dict[str, Any] = {
        key: {
            "href": f"https://landsatlook.usgs.gov/data/{path}/{name}",
            "type": "image/vnd.stac.geotiff; cloud-optimized=true",
            "title": f"{key} Band",
            "roles": ["data"],
            "alternate": {
                "s3": {"href": f"s3://usgs-landsat/{path}/{name}", "storage:platform": "AWS",
                       "storage:requester_pays": True},
            },
            **({"eo:bands": [{"name": f"B{numbers[key]}", "common_name": key, "gsd": 30}]} if key in numbers else {}),
        }
        for key, name in names.items()
    }  # fmt: skip
    assets["ANG.txt"] = {"href": f"https://landsatlook.usgs.gov/data/{path}/{item_id}_ANG.txt", "type": "text/plain"}
    return _make_item(
        item_id,
        extensions=[PROJ_1, EO_1, ALTERNATE],
        pixel_m=30,
        assets=assets,
        properties={
            "datetime": f"{day}T17:00:00.123456Z",
            "platform": "LANDSAT_8",
            "instruments": ["OLI", "TIRS"],
            "eo:cloud_cover": 3.1,
            "landsat:cloud_cover_land": 3.2,
            "proj:epsg": 32614,
            **_place(30),
        },
    ) | {"collection": "landsat-c2l2-sr"}


def _maxar(item_id: str, day: str) -> dict[str, Any]:
    folder = "http://maxar-opendata.s3.amazonaws.com/events/made/ard/14/031/2024"
    colours = [("BAND_R", "red"), ("BAND_G", "green"), ("BAND_B", "blue")]
    eight = [("BAND_C", "coastal"), ("BAND_B", "blue"), ("BAND_G", "green"), ("BAND_Y", "yellow"), ("BAND_R", "red")]
    assets: dict[str, Any] = {
        name: {
            "href": f"{folder}/{item_id}-{name}.tif",
            "type": COG,
            "roles": roles,
            "eo:bands": [{"name": band, "common_name": common} for band, common in bands],
            **_place(0.5),
        }
        for name, bands, roles in (("ms_analytic", eight, ["data"]), ("visual", colours, ["visual"]))
    }
    assets["data-mask"] = {
        "href": f"{folder}/{item_id}-data-mask.gpkg",
        "type": "application/geopackage+sqlite3",
        "roles": ["data-mask"],
    }
    return _make_item(
        item_id,
        extensions=[PROJ_1, EO_1],
        pixel_m=0.5,
        assets=assets,
        properties={
            "datetime": f"{day}T17:00:00Z",
            "platform": "WV02",
            "gsd": 0.5,
            "catalog_id": "1030010000000000",
            "tile:clouds_percent": 4,
            "tile:data_area": 27.5,
            "proj:epsg": 32614,
            "view:off_nadir": 21.3,
        },
    ) | {"collection": "1030010000000000"}


def _naip(item_id: str, day: str) -> dict[str, Any]:
    folder = "http://naipeuwest.blob.core.windows.net/naip/v002/tx/2022/tx_060cm_2022"
    colours = ("Red", "Green", "Blue")
    assets = {
        "image": {
            "href": f"{folder}/{item_id}_image.tif",
            "type": COG,
            "title": "RGBIR COG tile",
            "roles": ["data"],
            "eo:bands": [
                *({"name": colour, "common_name": colour.lower()} for colour in colours),
                {"name": "NIR", "common_name": "nir", "description": "near-infrared"},
            ],
        },
        "thumbnail": {"href": f"{folder}/{item_id}.200.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
    }
    return _make_item(
        item_id,
        extensions=[PROJ_1, EO_1],
        pixel_m=0.6,
        assets=assets,
        properties={
            "datetime": None,
            "start_datetime": f"{day}T00:00:00Z",
            "end_datetime": f"{day}T23:59:59Z",
            "gsd": 0.6,
            "naip:state": "tx",
            "naip:year": day[:4],
            "proj:epsg": 32614,
            "proj:bbox": [LEFT, TOP - SIZE * 0.6, LEFT + SIZE * 0.6, TOP],
            **_place(0.6),
        },
    ) | {"collection": "naip"}


_S2 = {"_B04.tif": ("red",), "_B03.tif": ("green",), "_B02.tif": ("blue",), "_SCL.tif": ("classes",)}
ARCHIVES = {
    "sentinel2": Archive(
        describe=_earth_search, files=_S2, dtype="uint16", pixel_m=10, cloud=9, ground=4, snow=11,
    ),
    "planetary-computer": Archive(
        describe=_planetary_computer, files=_S2, dtype="uint16", pixel_m=10, cloud=9, ground=4, snow=11,
    ),
    "copernicus": Archive(
        describe=_copernicus,
        files={"_B04_10m.jp2": ("red",), "_B03_10m.jp2": ("green",), "_B02_10m.jp2": ("blue",),
               "_SCL_20m.jp2": ("classes",)},
        dtype="uint16", pixel_m=10, cloud=9, ground=4, snow=11,
    ),
    "landsat": Archive(
        describe=_landsat,
        files={"_SR_B4.TIF": ("red",), "_SR_B3.TIF": ("green",), "_SR_B2.TIF": ("blue",),
               "_QA_PIXEL.TIF": ("classes",)},
        # Cloud and its dilation with high confidence; clear land; snow.
        dtype="uint16", pixel_m=30, cloud=22280, ground=21824, snow=30048,
    ),
    "maxar": Archive(describe=_maxar, files={"-visual.tif": ("red", "green", "blue")}, dtype="uint8", pixel_m=0.5),
    "naip": Archive(describe=_naip, files={"_image.tif": ("red", "green", "blue", "nir")}, dtype="uint8", pixel_m=0.6),
}  # fmt: skip
"""By the name of the region in configs/regions that looks there."""


def make_files(archive: Archive, item_id: str, *, seed: int) -> tuple[dict[str, bytes], dict[str, Pixels]]:
    """Make the files of an item, by their names, and tell what they hold.

    The first rows of a class band are cloudy, and those after them snowy.
    """
    rng = np.random.default_rng(seed)
    most = 200 if archive.dtype == "uint8" else 4000
    bands: dict[str, Pixels] = {
        name: rng.integers(most // 2, most, (SIZE, SIZE)).astype(archive.dtype)
        for name in ("red", "green", "blue", "nir")
    }
    bands["classes"] = np.full((SIZE, SIZE), archive.ground, np.uint16 if archive.ground > 255 else np.uint8)
    bands["classes"][:8], bands["classes"][8:16] = archive.cloud, archive.snow
    files = {
        f"{item_id}{ending}": _write([bands[name] for name in names], ending=ending, pixel_m=archive.pixel_m)
        for ending, names in archive.files.items()
    }
    return files, bands


def _write(bands: list[Pixels], *, ending: str, pixel_m: float) -> bytes:
    profile: dict[str, Any] = {"driver": "GTiff"}
    if ending.endswith(".jp2"):
        profile = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    # A JPEG 2000 has a place only where its name says what it is.
    with rasterio.MemoryFile(ext=ending[-4:]) as memory:
        with memory.open(
            **profile, count=len(bands), height=SIZE, width=SIZE, dtype=bands[0].dtype, crs=CRS,
            transform=Affine(pixel_m, 0, LEFT, 0, -pixel_m, TOP),
        ) as dataset:  # fmt: skip
            if len(bands) == 4:
                # As many writers flag a fourth band.
                dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
            dataset.write(np.stack(bands))
        return bytes(memory.read())

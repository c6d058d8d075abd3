"""Rasters made to measure: their pixels tell where on the ground they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Grey levels from 28 to 228 that rise over the ground, each band in a direction of its own, and begin anew.

    A shift of the pixels by a metre along its direction moves a band by `slope` levels.
    """

    crs: str
    x: float
    y: float
    slope: float

    def compute(self, xs: Any, ys: Any, *, crs: str) -> Any:
        """Give float (3, ...) levels at places in any CRS."""
        transformer = pyproj.Transformer.from_crs(crs, self.crs, always_xy=True)
        east, north = transformer.transform(np.asarray(xs, dtype=float), np.asarray(ys, dtype=float))
        directions = np.deg2rad([27.0, 117.0, 260.0]).reshape(3, *(1,) * np.ndim(east))
        along = (east - self.x) * np.sin(directions) + (north - self.y) * np.cos(directions)
        return 28 + np.mod(100 + self.slope * along, 200)


RasterWriter = Callable[..., Path]


def compute_centres(transform: Affine, *, width: int, height: int) -> tuple[Any, Any]:
    """Give x and y of all pixel centres, each (height, width)."""
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    a, b, c, d, e, f = transform[:6]
    return a * cols + b * rows + c, d * cols + e * rows + f


@pytest.fixture(scope="session")
def centres() -> Callable[..., tuple[Any, Any]]:
    return compute_centres


@pytest.fixture(scope="session")
def make_ramp() -> Callable[..., Ramp]:
    return Ramp


@pytest.fixture(scope="session")
def write_raster() -> RasterWriter:
    """Write a GeoTIFF: of given bands (band, y, x), or of a `Ramp` painted on the ground it covers."""

    def write(
        path: Path,
        *,
        crs: str | None = "EPSG:32614",
        transform: Affine | None = None,
        bands: Any = None,
        ramp: Ramp | None = None,
        size: tuple[int, int] = (64, 64),
        nodata: float | None = None,
        mask: Any = None,
        colours: tuple[ColorInterp, ...] | None = None,
        tags: dict[str, str] | None = None,
        **options: Any,
    ) -> Path:
        transform = transform or Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
        if ramp is not None:
            height, width = size
            assert crs is not None
            xs, ys = compute_centres(transform, width=width, height=height)
            bands = np.rint(ramp.compute(xs, ys, crs=crs)).astype(np.uint8)
        if bands is None:
            bands = np.random.default_rng(len(path.name)).integers(1, 256, (3, *size), dtype=np.uint8)
        bands = np.asarray(bands)
        profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype, "crs": crs, "nodata": nodata}
        profile |= {"height": bands.shape[1], "width": bands.shape[2], "transform": transform, **options}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
            if colours is not None:
                dataset.colorinterp = colours
            dataset.write(bands)
            if mask is not None:
                dataset.write_mask(mask)
            dataset.update_tags(**(tags or {}))
        return path

    return write

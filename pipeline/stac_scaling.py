"""What the stored values of a band mean: scale and offset as an item tells them, Sentinel-2's offset among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SENTINEL2_OFFSET = -1000
"""Added to the stored values of products of processing baseline 04.00 or later (BOA_ADD_OFFSET, RADIO_ADD_OFFSET)."""
SENTINEL2_QUANTIFICATION = 10_000
"""Stored value of a Sentinel-2 band at reflectance 1."""
_OFFSET_BASELINE = (4, 0)
_APPLIED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a stored value becomes a physical one; what is None the item does not tell."""

    scale: float | None = None
    """Physical value = stored value * scale + offset."""
    offset: float | None = None
    """Added after scaling."""


def read_scaling(asset: Mapping[str, Any], *, band: int, properties: Mapping[str, Any]) -> Scaling:
    """Find scale and offset of a band: the raster extension's, versions 1 and 2, else what is known of Sentinel-2.

    The band's own words go over the asset's. Scale and offset in ``eo:bands`` mean something else with every
    provider and are not believed.

    Args:
        asset: JSON of the asset.
        band: 1-based number of the band in it.
        properties: Those of the item.

    Raises:
        ValueError: a scale or offset is no finite number, or the scale is 0.
    """
    described = describe_band(asset, band=band)
    told = Scaling(
        scale=_read_number(described, asset, name="scale"), offset=_read_number(described, asset, name="offset")
    )
    if told.scale == 0:
        raise ValueError("its scale is 0")
    is_bytes = described.get("data_type", asset.get("data_type")) == "uint8" or "visual" in (asset.get("roles") or [])
    return told if is_bytes else settle_sentinel2(told, properties=properties)


def settle_sentinel2(told: Scaling, *, properties: Mapping[str, Any]) -> Scaling:
    """Complete the scaling of a Sentinel-2 band so that both sides of baseline 04.00 mean the same.

    Earth Search takes the offset out of some of its files and says so with a flag, while ``raster:bands`` may still
    name it: the flag counts. Where nothing is said, the baseline tells.
    """
    platform = str(properties.get("constellation") or properties.get("platform") or "").lower()
    if not platform.startswith("sentinel-2") and not any(name.startswith("s2:") for name in properties):
        return told
    is_applied = next((properties[name] for name in _APPLIED_FLAGS if name in properties), None)
    baseline = _read_baseline(properties)
    if is_applied is True:
        return Scaling(scale=told.scale or 1 / SENTINEL2_QUANTIFICATION, offset=0.0)
    if told.offset is not None or baseline is None:
        return told
    scale = told.scale or 1 / SENTINEL2_QUANTIFICATION
    return Scaling(scale=scale, offset=SENTINEL2_OFFSET * scale if baseline >= _OFFSET_BASELINE else 0.0)


def describe_band(asset: Mapping[str, Any], *, band: int) -> dict[str, Any]:
    """Merge what ``raster:bands`` and ``bands`` say of a band, the latter over the former."""
    merged: dict[str, Any] = {}
    for name in ("raster:bands", "bands"):
        bands = asset.get(name)
        if isinstance(bands, list) and 0 < band <= len(bands) and isinstance(bands[band - 1], Mapping):
            merged |= bands[band - 1]
    return merged


def _read_number(described: Mapping[str, Any], asset: Mapping[str, Any], *, name: str) -> float | None:
    found = next(
        (
            value
            for value in (described.get(f"raster:{name}"), described.get(name), asset.get(f"raster:{name}"))
            if value is not None
        ),
        None,
    )
    if found is None:
        return None
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its {name} is {found!r}, no number")
    return number


def _read_baseline(properties: Mapping[str, Any]) -> tuple[int, int] | None:
    for name in _BASELINES:
        major, _, minor = str(properties.get(name, "")).partition(".")
        if major.isdigit() and (minor.isdigit() or not minor):
            return int(major), int(minor or 0)
    return None

"""LEVIR-CC's captions by the names of the crops that people wrote about."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CaptionedCrop:
    """What people wrote about one crop."""

    name: str
    """Of the crop's file; empty where nothing tells."""
    captions: tuple[str, ...]
    is_changed: bool
    """As people flagged it: also where a road was built, which no mask of LEVIR-CD tells."""


def read_crop_captions(file: Path, *, split: str) -> tuple[CaptionedCrop, ...]:
    """Read the captions of a split from LEVIR-CC's JSON file, packed with gzip or not."""
    packed = file.read_bytes()
    images = json.loads(gzip.decompress(packed) if file.suffix == ".gz" else packed)["images"]
    return tuple(
        CaptionedCrop(
            name=image.get("filename", ""),
            captions=tuple(sentence["raw"].strip() for sentence in image["sentences"]),
            is_changed=image["changeflag"] == 1,
        )
        for image in images
        if image["split"] == split
    )

"""How much memory a model's weights take, told from the headers of its files: nothing is loaded, nor torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model.inspection import count_dtypes

_BYTES_EACH = {"float32": 4, "bfloat16": 2}
_FUSED_VISION = "deltavlm_conv_vision"
# ^ Its batch norms are fused in float32, so all is held that wide for a moment, whatever precision follows.


@dataclass(frozen=True, kw_only=True)
class WeightSizes:
    """Memory that weights take on the machine's side, in bytes."""

    held_bytes: int = 0
    """While the model answers, at the least."""
    loading_bytes: int = 0
    """While it is loaded, at the most: its files are mapped as the copy of them is made."""


def measure_weights(path: str, *, device: str, dtype: str) -> WeightSizes:
    """Tell what a worker needs for a model's weights.

    Args:
        path: Folder of the model; empty for one that is served or brought by another package.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; on a GPU no weights stay on the machine's side.
        dtype: ``auto``, ``float32`` or ``bfloat16``; what ``auto`` will be is not known here, so that the least counts
            it as the narrow one and the most as the wide one.

    Raises:
        ValueError: a header cannot be read.
    """
    files = sorted(Path(path).glob("*.safetensors")) if path else []
    if not files:
        return WeightSizes()
    n_parameters = sum(count_dtypes(files).values())
    mapped_bytes = sum(file.stat().st_size for file in files)
    if device.startswith("cuda"):
        return WeightSizes(loading_bytes=mapped_bytes)
    is_fused = json.loads((Path(path) / "config.json").read_text()).get("vision_config", {}).get("model_type")
    widest = _BYTES_EACH["float32" if is_fused == _FUSED_VISION else dtype.replace("auto", "float32")]
    return WeightSizes(
        held_bytes=n_parameters * _BYTES_EACH[dtype.replace("auto", "bfloat16")],
        loading_bytes=mapped_bytes + n_parameters * widest,
    )

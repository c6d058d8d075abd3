"""What a real QGIS draws, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SCRIPT = Path(__file__).with_name("draw_with_qgis.py")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    told: Mapping[str, Any]
    """What QGIS says of the layer or the project."""
    pixels: npt.NDArray[np.uint8] = field(repr=False)
    """(y, x, 3)."""


DrawWithQgis = Callable[[Path], Drawing]
"""Draws a layer or a project."""


def find_qgis() -> str | None:
    """Give the Python that has QGIS; None where none has."""
    for python in filter(None, ["/usr/bin/python3", shutil.which("python3")]):
        command = [python, "-c", "import qgis.core"]
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        if Path(python).exists() and not subprocess.run(command, env=environment, capture_output=True).returncode:
            return python
    return None


def draw_with(python: str, source: Path) -> Drawing:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "drawn.png")
        done = subprocess.run(
            [python, str(SCRIPT), str(source), str(picture)],
            env={"PATH": os.environ["PATH"], "HOME": folder, "QT_QPA_PLATFORM": "offscreen"},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        pixels = np.asarray(Image.open(picture).convert("RGB"))
    return Drawing(told=json.loads(done.stdout.splitlines()[-1]), pixels=pixels)

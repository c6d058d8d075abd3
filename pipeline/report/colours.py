"""Colours of the kinds of change, the same wherever they are drawn.

The page's style sheet and script and QGIS's style cannot read this table: a test holds them against it.
"""

from __future__ import annotations

KIND_COLOURS = {"building": "#ff6b2c", "road": "#22c3ee"}
"""On pictures, and to fill areas."""
KIND_INKS = {"building": "#b1430f", "road": "#09708f"}
"""Darker ones, for lines and hatches on a light ground."""
DIRECTION_COLOURS = {"built": "#3ddc84", "removed": "#ff3b6b", "altered": "#c77dff"}
"""What became of the ground, on pictures; of what nobody tells it is grey."""

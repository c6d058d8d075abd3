"""How QGIS draws the tables of reports: a file of its own form, beside this module, for each of them."""

from __future__ import annotations

from importlib import resources

_STYLES = {"tiles": "tiles.qml", "changes": "style.qml", "events": "style.qml", "zones": "zones.qml"}


def read_style(table: str) -> str:
    """Read how QGIS draws a table.

    Args:
        table: Its name, such as ``changes``.
    """
    return resources.files("pipeline.report").joinpath(_STYLES[table]).read_text(encoding="utf-8")

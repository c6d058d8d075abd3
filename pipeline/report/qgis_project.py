"""A project that QGIS opens by a double click: tables and pictures as styled layers, found beside it by their names.

QGIS has no library that does without all of it, and its form has been the same since version 3.0: what is written here
are the elements that it cannot do without. What is left out, it fills in when it opens the project.
"""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

import pyproj

from pipeline.report.qgis_styles import read_style

_VERSION = "3.22.0"
_DOCTYPE = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_TITLES = {"changes": "Changes", "events": "Events", "zones": "Zones", "tiles": "Tiles"}
# ^ From top to bottom of the map.
PROBABILITY_TITLE = "Probability of change"
"""Title of the picture that is no picture: one band, as `pipeline.runs.probability` has it."""
_RAMP = {125: ("#fde8c8", "50 %"), 187: ("#f28c38", "75 %"), 250: ("#7f1d1d", "100 %")}
# ^ Colours of its values; below, where nothing is outlined, none.

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
# ^ So that equal projects have equal bytes.


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a project opens."""

    crs: pyproj.CRS
    """CRS of the map and of all layers."""
    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top in it; infinite where there is nothing to be seen."""


def make_project(
    *, title: str, tables: Sequence[str], tables_file: str, pictures: Mapping[str, str], place: Place
) -> bytes:
    """Give the content of a ``.qgz`` file.

    Args:
        title: Title of the project.
        tables: Names of the tables, which are layers of one GeoPackage.
        tables_file: Name of the GeoPackage beside the project.
        pictures: Names of pictures of four bands (red, green, blue, opacity) beside it, with their titles, from top
            to bottom; one titled `PROBABILITY_TITLE` has a single band.
        place: Where it is.
    """
    root = Element("qgis", projectname=title, version=_VERSION)
    SubElement(root, "title").text = title
    SubElement(root, "projectCrs").append(_describe_crs(place.crs))
    layers = SubElement(root, "projectlayers")
    tree = SubElement(root, "layer-tree-group")
    group = _add_group(tree, "Report")
    for table in (name for name in _TITLES if name in tables):
        layer = _add_layer(layers, table, title=_TITLES[table], source=f"./{tables_file}|layername={table}")
        _style_table(layer, table)
        _list_layer(group, layer, is_shown=True)
        layer.append(_wrap("srs", _describe_crs(place.crs)))
    group = _add_group(tree, "Pictures") if pictures else tree
    for number, (file, name) in enumerate(pictures.items()):
        layer = _add_layer(layers, f"picture_{number}", title=name, source=f"./{file}")
        if name == PROBABILITY_TITLE:
            _style_probability(layer)
        else:
            _style_picture(layer)
        _list_layer(group, layer, is_shown=number == 0)
        layer.append(_wrap("srs", _describe_crs(place.crs)))
    _open_at(root, place)
    properties = SubElement(root, "properties")
    SubElement(SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    # Else QGIS passes over the project's CRS.
    SubElement(SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = "1"
    return _pack(root)


def _add_group(tree: Element, name: str) -> Element:
    return SubElement(tree, "layer-tree-group", name=name, expanded="1", checked="Qt::Checked")


def _add_layer(layers: Element, name: str, *, title: str, source: str) -> Element:
    layer = SubElement(layers, "maplayer", autoRefreshEnabled="0")
    # QGIS takes no id of ten letters or fewer.
    SubElement(layer, "id").text = f"deltavlm_{name}"
    SubElement(layer, "datasource").text = source
    SubElement(layer, "layername").text = title
    return layer


def _style_table(layer: Element, table: str) -> None:
    """Make a layer one of polygons, drawn as the table's own style says."""
    style = ElementTree.fromstring(read_style(table))
    labels = style.get("labelsEnabled", "0")
    layer.attrib.update(type="vector", geometry="Polygon", wkbType="MultiPolygon", labelsEnabled=labels)
    SubElement(layer, "provider", encoding="UTF-8").text = "ogr"
    layer.extend(style)


def _style_picture(layer: Element) -> None:
    layer.attrib.update(type="raster")
    SubElement(layer, "provider").text = "gdal"
    bands = {"redBand": "1", "greenBand": "2", "blueBand": "3", "alphaBand": "4"}
    SubElement(SubElement(layer, "pipe"), "rasterrenderer", {"type": "multibandcolor", "opacity": "1", **bands})


def _style_probability(layer: Element) -> None:
    layer.attrib.update(type="raster")
    SubElement(layer, "provider").text = "gdal"
    lowest, highest = str(min(_RAMP)), str(max(_RAMP))
    told = {"type": "singlebandpseudocolor", "band": "1", "opacity": "0.8", "alphaBand": "-1"}
    limits = {"classificationMin": lowest, "classificationMax": highest}
    renderer = SubElement(SubElement(layer, "pipe"), "rasterrenderer", {**told, **limits})
    ramp = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "1"}
    shader = SubElement(SubElement(renderer, "rastershader"), "colorrampshader", {**ramp, "minimumValue": lowest})
    shader.set("maximumValue", highest)
    for value, (colour, label) in _RAMP.items():
        SubElement(shader, "item", value=str(value), color=colour, label=label, alpha="255")


def _list_layer(group: Element, layer: Element, *, is_shown: bool) -> None:
    """Put a layer into the list beside the map."""
    told = {
        "id": layer.findtext("id") or "",
        "name": layer.findtext("layername") or "",
        "source": layer.findtext("datasource") or "",
        "providerKey": layer.findtext("provider") or "",
        "checked": "Qt::Checked" if is_shown else "Qt::Unchecked",
        "expanded": "0",
    }
    SubElement(group, "layer-tree-layer", told)


def _open_at(root: Element, place: Place) -> None:
    canvas = SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    SubElement(canvas, "units").text = "meters"
    if all(map(math.isfinite, place.bounds)):
        extent = SubElement(canvas, "extent")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), place.bounds, strict=True):
            SubElement(extent, name).text = repr(value)
    canvas.append(_wrap("destinationsrs", _describe_crs(place.crs)))


def _describe_crs(crs: pyproj.CRS) -> Element:
    system = Element("spatialrefsys", nativeFormat="Wkt")
    SubElement(system, "wkt").text = crs.to_wkt()
    if authority := crs.to_authority():
        SubElement(system, "authid").text = ":".join(authority)
    return system


def _wrap(name: str, element: Element) -> Element:
    outer = Element(name)
    outer.append(element)
    return outer


def _pack(root: Element) -> bytes:
    ElementTree.indent(root)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("report.qgs", _LONG_AGO), _DOCTYPE + ElementTree.tostring(root, "utf-8"))
    return content.getvalue()

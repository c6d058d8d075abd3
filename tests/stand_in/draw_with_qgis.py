"""Open a layer, with the style beside it, or a project in QGIS and draw it: run by the Python that QGIS is for."""

from __future__ import annotations

import json
import sys

from qgis.core import QgsApplication, QgsMapLayer, QgsMapRendererParallelJob, QgsMapSettings, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QEventLoop, QSize
from qgis.PyQt.QtGui import QColor


def draw(layers: list[QgsMapLayer], *, path: str) -> None:
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[0].crs())
    extent = layers[-1].extent()
    extent.scale(1.1)
    settings.setExtent(extent)
    settings.setOutputSize(QSize(800, 600))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    loop = QEventLoop()
    job.finished.connect(loop.quit)
    job.start()
    loop.exec_()
    job.renderedImage().save(path)


def tell_layer(layer: QgsMapLayer) -> dict[str, object]:
    told = {"is_valid": layer.isValid(), "crs": layer.crs().authid(), "renderer": layer.renderer().type()}
    if not isinstance(layer, QgsVectorLayer):
        return told
    categories = layer.renderer().categories() if told["renderer"] == "categorizedSymbol" else []
    return told | {
        "n_features": layer.featureCount(),
        "fields": [field.name() for field in layer.fields()],
        "categories": [category.value() for category in categories],
        "has_labels": layer.labelsEnabled(),
    }


def draw_layer(source: str, *, picture: str) -> dict[str, object]:
    # As a person opens it: no style is loaded here, QGIS finds the one beside the file.
    layer = QgsVectorLayer(source, "changes", "ogr")
    draw([layer], path=picture)
    return tell_layer(layer)


def draw_project(source: str, *, picture: str) -> dict[str, object]:
    project = QgsProject.instance()
    is_read = project.read(source)
    layers = project.layerTreeRoot().checkedLayers()
    draw(layers, path=picture)
    told = {
        "is_read": is_read,
        "crs": project.crs().authid(),
        "groups": [group.name() for group in project.layerTreeRoot().findGroups()],
        "shown": [layer.name() for layer in layers],
        "layers": {layer.name(): tell_layer(layer) for layer in project.mapLayers().values()},
    }
    project.clear()
    return told


def main() -> None:
    source, picture = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    # QGIS must not be ended while Python still holds one of its layers: none is left when these come back.
    told = (draw_project if source.endswith(".qgz") else draw_layer)(source, picture=picture)
    print(json.dumps(told))
    application.exitQgis()


if __name__ == "__main__":
    main()

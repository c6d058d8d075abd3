"""Open a layer in QGIS, with the style beside it, and draw it: run by the Python that QGIS is installed for."""

from __future__ import annotations

import json
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsVectorLayer
from qgis.PyQt.QtCore import QEventLoop, QSize
from qgis.PyQt.QtGui import QColor


def draw(layer: QgsVectorLayer, *, path: str) -> None:
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    extent = layer.extent()
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


def main() -> None:
    source, picture = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    # As a person opens it: no style is loaded here, QGIS finds the one beside the file.
    layer = QgsVectorLayer(source, "changes", "ogr")
    draw(layer, path=picture)
    told = {
        "is_valid": layer.isValid(),
        "n_features": layer.featureCount(),
        "crs": layer.crs().authid(),
        "fields": [field.name() for field in layer.fields()],
        "renderer": layer.renderer().type(),
        "categories": [category.value() for category in layer.renderer().categories()]
        if layer.renderer().type() == "categorizedSymbol"
        else [],
        "has_labels": layer.labelsEnabled(),
    }
    print(json.dumps(told))
    # QGIS must not be ended while Python still holds one of its layers.
    del layer
    application.exitQgis()


if __name__ == "__main__":
    main()

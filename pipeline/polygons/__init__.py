"""Polygons that people hand in: areas of interest and zones."""

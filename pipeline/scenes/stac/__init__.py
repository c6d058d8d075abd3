"""Scenes out of STAC APIs and catalogs."""

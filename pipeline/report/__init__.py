"""write_report: GeoParquet tables, page, plots and STAC item of a run."""

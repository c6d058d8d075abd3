"""Pixels and text in, text out: DeltaVLM with torch and transformers; no geography, no Dask, no Prefect."""

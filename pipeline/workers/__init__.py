"""What runs on the Dask workers: batches, the model that each holds, its memory."""

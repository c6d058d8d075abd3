"""Settings of runs and regions: read, checked, and nothing else."""

"""What Prefect shows of a run or a pass."""

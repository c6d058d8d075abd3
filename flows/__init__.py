"""When, where and how often: flows, cluster, artifacts and the command line."""

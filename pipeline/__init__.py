"""What happens to the data: six verbs from a pair of scenes to a GeoParquet report."""

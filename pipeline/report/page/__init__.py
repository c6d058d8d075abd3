"""The report's page: map, tables and pictures that work offline."""

"""The grid of a pair: CRS, resolution, origin, tiles and cells, as plain arithmetic."""

"""write_tiles and select_tiles: the tile store of a pair, and which of its tiles are looked at."""

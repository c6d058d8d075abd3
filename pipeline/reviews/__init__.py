"""Reviews: what people have said of tiles and changes, kept beside the answers and never in them."""

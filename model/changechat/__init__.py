"""ChangeChat-style instruction data: built from image pairs, masks and captions, and read from published files."""

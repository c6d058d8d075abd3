"""Pairs of tiles with masks and captions, for training, evaluation and instruction data."""

"""Accuracy: a sample of tiles that people look at, and what it says of all the others, with intervals."""

"""Weights that ship, one folder a model, in transformers' layout."""

"""Regions: areas that are watched, the pairs they yield, and what is told of them."""

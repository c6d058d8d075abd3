"""Folders and object stores that runs are kept in, and the locks on them."""

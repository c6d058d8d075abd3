"""Runs: the six verbs in one folder, their record, and what reads them."""

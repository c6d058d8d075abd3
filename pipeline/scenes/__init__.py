"""find_pair: two scenes of one place, read on one grid."""

"""collect_answers: what the model says of each tile, kept in parts."""

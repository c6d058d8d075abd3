"""How good the answers of a model are: what to ask, what is true, what the figures are and what they are worth."""

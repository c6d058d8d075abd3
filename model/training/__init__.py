"""Where weights come from: instruction data, trainer and evaluation."""

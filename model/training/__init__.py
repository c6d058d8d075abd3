"""Where weights come from: scene synthesis, instruction data, trainer and evaluation."""

"""Made scenes and tiles with their truth, for `deltavlm data synthesize`."""

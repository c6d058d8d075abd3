"""From the files of the original to a folder in transformers' layout: `deltavlm model convert`."""

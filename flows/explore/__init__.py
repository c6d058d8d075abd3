"""The server of `deltavlm explore`."""

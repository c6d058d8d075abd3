"""The server of `deltavlm mcp`: finished runs and regions for assistants that speak the Model Context Protocol."""

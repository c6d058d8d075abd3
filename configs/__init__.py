"""Settings as data: YAML files that ship with the package."""

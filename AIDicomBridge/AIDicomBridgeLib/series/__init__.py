"""From received instances to a checked series and its volume."""

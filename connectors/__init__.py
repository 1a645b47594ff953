"""The outside world: one module per foreign system. Knows nothing of domains."""

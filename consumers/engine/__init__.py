"""The engine: keeps models in step with their queries. Knows no domain."""

"""Versions of the schema that is our own."""

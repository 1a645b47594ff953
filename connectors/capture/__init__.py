"""Capture: a source's own log, read and appended to ours as Debezium envelopes."""

"""Capture from PostgreSQL by logical replication."""

from connectors.capture.postgres.capture import PostgresCapture
from connectors.capture.postgres.preflight import check, grants, object_name
from connectors.capture.running import CaptureStoppedError, Progress

__all__ = ["CaptureStoppedError", "PostgresCapture", "Progress", "check", "grants", "object_name"]

"""Capture from MySQL and MariaDB: a consistent snapshot, then the binlog, read by our own parser."""

from connectors.capture.mysql.capture import MySQLCapture
from connectors.capture.mysql.catalogue import foreign_keys
from connectors.capture.mysql.connection import Dsn, connect, describe, read_dsn
from connectors.capture.mysql.preflight import check as preflight
from connectors.capture.mysql.preflight import grants

__all__ = ["Dsn", "MySQLCapture", "connect", "describe", "foreign_keys", "grants", "preflight", "read_dsn"]

"""Capture: a source's own log, read and appended to ours as Debezium envelopes.

What every capture has in common is here and in `running`; each family of sources has a package.
"""

from connectors.capture.running import CaptureStoppedError, Progress, Reporter, SourceUnavailableError, keep_running

__all__ = ["CaptureStoppedError", "Progress", "Reporter", "SourceUnavailableError", "keep_running"]

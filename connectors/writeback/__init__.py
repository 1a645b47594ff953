"""Writing flag columns back to a source: guarded, idempotent updates of rows by their key.

Knows tables, columns and values; not why they are written. One module per family of databases does the talking.
"""

from connectors.writeback.columns import ColumnsUnfitError, Wanted
from connectors.writeback.updates import (
    FlagWriter,
    Outcome,
    Target,
    Update,
    WriteBackBlockedError,
    Written,
)

__all__ = [
    "ColumnsUnfitError",
    "FlagWriter",
    "Outcome",
    "Target",
    "Update",
    "Wanted",
    "WriteBackBlockedError",
    "Written",
]

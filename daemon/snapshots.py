"""Where in the log a snapshot of all tables begins: from there on it tells the source's rows without what came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.event import SNAPSHOT, Boundary, Truncate
from connectors.log import TopicPartition
from consumers.reader import decode

if TYPE_CHECKING:
    from daemon.app import App

_PORTION = 5000


def newest(app: App, place: TopicPartition) -> int | None:
    """The offset at which the newest complete snapshot of a partition begins; None where it has none.

    Such a snapshot empties every declared table before its rows, as one does that capture takes on request. Reads all
    that is retained.
    """
    decoder, tables = app.decoder(), set(app.domain.tables)
    extent = app.log.extents([place.topic])[place]
    at, found = extent.start, None
    begun: tuple[int, str] | None = None
    emptied: set[str] = set()
    while at < extent.end:
        records = app.log.read({place: at}, limit=_PORTION)
        for record in records:
            event = decode(decoder, record)
            if isinstance(event, Truncate):
                emptied.add(event.table)
            elif isinstance(event, Boundary) and event.transaction.startswith(SNAPSHOT):
                if event.status == "BEGIN":
                    begun, emptied = (record.offset, event.transaction), set()
                elif begun is not None and begun[1] == event.transaction and emptied >= tables:
                    found = begun[0]
        if not records:
            break
        at = records[-1].offset + 1
    return found

"""A log as it was at certain positions: what lies behind them is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from connectors.log import Extent, Record, TopicPartition
from consumers.reader import Readable


class BoundedLog:
    """Reads a log up to given positions, and no further.

    Args:
        ends: the offset before which reading ends, of each partition; those that are not named are read to their end.
    """

    def __init__(self, source: Readable, ends: Mapping[TopicPartition, int]) -> None:
        self._log = source
        self._ends = dict(ends)

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """See `connectors.log.Log`. Raises as the log that is read."""
        wanted = {place: offset for place, offset in positions.items() if not self._ended(place, offset)}
        while wanted:
            found = self._log.read(wanted, limit=limit, max_bytes=max_bytes)
            records = [r for r in found if not self._ended(TopicPartition(r.topic, r.partition), r.offset)]
            if records or not found:
                return records
            for record in found:  # numbers are left out: the next record of the partition lies behind its bound
                wanted.pop(TopicPartition(record.topic, record.partition), None)
        return []

    def _ended(self, place: TopicPartition, offset: int) -> bool:
        end = self._ends.get(place)
        return end is not None and offset >= end

    def wait(self, timeout: float) -> bool:
        """See `connectors.log.Log`. Nothing will be appended to what was."""
        del timeout
        return True

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """See `connectors.log.Log`."""
        return {
            place: Extent(extent.start, min(extent.end, self._ends.get(place, extent.end)))
            for place, extent in self._log.extents(topics).items()
        }

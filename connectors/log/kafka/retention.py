"""From which offset on a partition keeps its records, by age and by size."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from connectors.log import Extent, TopicPartition
from connectors.log.kafka.cluster import Cluster
from connectors.log.kafka.reading import Session

_OVERHEAD = 64  # bytes of a record besides key and value, as in the embedded log
_WINDOW = 20_000  # offsets looked at together
_BYTES = 16 * 1024 * 1024


def keep_from(
    cluster: Cluster,
    reader: Session,
    extents: Mapping[TopicPartition, Extent],
    *,
    age: timedelta | None,
    size: int | None,
    now_ms: int,
) -> dict[TopicPartition, int]:
    """The first offset of each partition that stays; `size` in bytes for each partition."""
    keep = {place: extent.start for place, extent in extents.items()}
    if age is not None:
        oldest = now_ms - age // timedelta(milliseconds=1)
        if oldest > 0:
            for place, offset in cluster.offsets_at(list(extents), oldest).items():
                begin = max(keep[place], extents[place].end if offset < 0 else offset)
                keep[place] = _recent(reader, place, Extent(begin, extents[place].end), oldest)
    if size is not None:
        for place, extent in extents.items():
            keep[place] = max(keep[place], _newest(reader, place, Extent(keep[place], extent.end), size))
    return keep


def _recent(reader: Session, place: TopicPartition, extent: Extent, oldest: int) -> int:
    """The offset of the first record that is not older; reads what is."""
    at = extent.start
    while at < extent.end:
        records = reader.read({place: at}, _WINDOW, _BYTES)
        for record in records:
            if record.ts_ms >= oldest:
                return record.offset
        if not records:
            break
        at = records[-1].offset + 1
    return extent.end


def _newest(reader: Session, place: TopicPartition, extent: Extent, size: int) -> int:
    """The offset from which on the records have at most `size` bytes; read back window by window from the end."""
    total, end = 0, extent.end
    while end > extent.start:
        begin = max(extent.start, end - _WINDOW)
        sizes = _sizes(reader, place, begin, end)
        for offset in range(end - 1, begin - 1, -1):
            total += sizes.get(offset, 0)
            if total > size:
                return offset + 1
        end = begin
    return extent.start


def _sizes(reader: Session, place: TopicPartition, begin: int, end: int) -> dict[int, int]:
    sizes: dict[int, int] = {}
    at = begin
    while at < end:
        records = reader.read({place: at}, end - at, _BYTES)
        for record in records:
            sizes[record.offset] = len(record.key or b"") + len(record.value or b"") + _OVERHEAD
        if not records:
            break
        at = records[-1].offset + 1
    return sizes

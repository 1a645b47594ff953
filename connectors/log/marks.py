"""Marks: by what the last record that was taken in is known again.

A log that lost its end while nobody read it, and grew again beyond the stored position, looks like one that goes on:
only a record that was read before tells that another stands in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from connectors.log import Extent, LogTruncatedError, Record, TopicPartition


class Readable(Protocol):
    """What is needed of a log; see `connectors.log.Log`."""

    def read(self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = ...) -> Sequence[Record]:
        """Up to `limit` records from the positions on."""

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """The retained offsets of every partition of the topics."""

    def leaves_out(self, topic: str) -> bool:
        """Whether the topic removes records from among others."""


def mark_of(record: Record) -> str:
    """The mark of a record: its offset, and a digest of what it is."""
    digest = hashlib.blake2b(digest_size=12)
    for part in (record.ts_ms.to_bytes(8, "big", signed=True), record.key, record.value):
        digest.update(b"-" if part is None else len(part).to_bytes(4, "big") + part)
    return f"{record.offset}:{digest.hexdigest()}"


def check(log: Readable, marks: Mapping[TopicPartition, str]) -> None:
    """Compare the marked records with those that stand in their places now.

    What retention has removed cannot be compared. Raises LogTruncatedError where another record stands there, and as
    `Log.read`.
    """
    extents = log.extents({place.topic for place in marks})
    for place, mark in sorted(marks.items()):
        offset, extent = int(mark.partition(":")[0]), extents.get(place)
        if extent is None or offset < extent.start:
            continue
        records = log.read({place: offset}, limit=1) if offset < extent.end else []
        if records and mark_of(records[0]) == mark:
            continue
        if records and records[0].offset != offset and log.leaves_out(place.topic):
            continue
        raise LogTruncatedError(
            f"The record {offset} of {place.topic}/{place.partition} is not the one that was taken in: the log lost its end "
            "and has grown again.",
            hint="The cluster lost records (an unclean leader election, or a restored disk): run "
            "`rowtide init --snapshot`, then start again.",
        )

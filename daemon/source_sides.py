"""Rows of the source and of the mirror by hashes that can be compared, keys as the mirror has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from connectors.event import Change, Decoder
from connectors.log import Record
from connectors.source_rows import Key, Keys, SourceRows, Written
from connectors.table import Table
from consumers.engine.mirror_rows import MirrorRows
from consumers.engine.units import Parked
from consumers.reader import decode

REFUSED = "refused"  # stands for a row that cannot be in the mirror: its event would be parked


@dataclass(frozen=True)
class Sides:
    """The two sides of a comparison."""

    source: SourceRows
    mirror: MirrorRows
    decoder: Decoder

    def hashes(self, table: Table, rows: Sequence[Written]) -> dict[Key, str]:
        """The source's rows as the mirror would have them, by the way that events take."""
        decoded: list[Change] = []
        hashes: dict[Key, str] = {}
        for row in rows:
            event = decode(self.decoder, Record("", 0, 0, 0, row.key, row.value))
            if isinstance(event, Change):
                decoded.append(event)
            elif isinstance(event, Parked):
                hashes |= dict.fromkeys(self.mirror.keys_of(table, [_raw_key(table, row)]), REFUSED)
        texts = [[v if isinstance(v, str) else None for v in event.row or ()] for event in decoded]
        for event, found in zip(decoded, self.mirror.hashes_of(table, texts), strict=True):
            if found is None:
                hashes |= dict.fromkeys(self.mirror.keys_of(table, [event.key]), REFUSED)
            else:
                hashes[found[0]] = found[1]
        return hashes

    def there(self, table: Table, keys: Iterable[Key]) -> dict[Key, str]:
        """The source's rows of these keys, read anew."""
        return self.hashes(table, [row for part in _parts(keys) for row in self.source.rows(table, Keys(part))])

    def here(self, table: Table, keys: Iterable[Key]) -> dict[Key, str]:
        """The mirror's."""
        return {key: found for part in _parts(keys) for key, found in self.mirror.hashes(table, Keys(part)).items()}


def differing(there: dict[Key, str], here: dict[Key, str]) -> set[Key]:
    """The keys whose rows are not alike, or that one side only has."""
    return {key for key in there.keys() | here.keys() if there.get(key) != here.get(key)}


def _raw_key(table: Table, row: Written) -> Key:
    """The key of a row that is refused as an event, from the message's own."""
    found = msgspec.json.decode(row.key or b"{}")
    return tuple(str(found.get(name)) for name in table.key)


def _parts(keys: Iterable[Key], size: int = 500) -> Iterator[list[Key]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]

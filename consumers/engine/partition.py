"""One partition in which the boundaries of transactions stand among the changes, put together into units.

Three things keep what belongs together from being seen by halves:

* A transaction is a unit from its beginning to its end.
* A connector that was killed goes back: it sends transactions again that it has sent before, in their order, and the
  one in which it was killed once more as a whole. From the moment it went back until the furthest transaction has
  ended again, everything is one unit. Else half of that one would be seen, or rows of an earlier state beside later ones.
* Where no boundaries are told, the first half of a changed key waits for the other one.

Nothing waits for ever. Only what may have been sent before is waited through: a transaction that was begun here
before or, where that is not remembered, one that is not later than any. What is given up goes on as it is, counted.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from connectors.event import SNAPSHOT, Boundary, Change, Event, Ignored
from connectors.log import Record, TopicPartition
from consumers.engine.units import Parked, Put, Unit, is_half, is_other_half


class Waits(NamedTuple):
    """How long is waited for the rest of what has begun.

    Args:
        silence: seconds without news for a connector that has broken off. Kafka Connect by its defaults gives a lost
            worker's connectors to another one only after five minutes.
        patience: the same where it has gone back, but not from within a transaction, or what it sends may as well be new.
        again: seconds, whatever comes, since it has sent something that it surely had sent before; also how much later,
            in business time, may be what it had sent before anything is remembered.
        transactions: as `again`, their number; and how many are remembered.
        half: seconds at the log's end for the other half of a changed key.
    """

    silence: float = 600.0
    patience: float = 30.0
    again: float = 60.0
    transactions: int = 20_000
    half: float = 1.0


class Partition:
    """What is open in one partition.

    Args:
        put: hands a unit on; told on whose behalf.
    """

    __slots__ = (
        "_back",
        "_begun",
        "_blind",
        "_half",
        "_named",
        "_put",
        "_reached",
        "_resumes",
        "_since",
        "_torn",
        "_touched",
        "_unsure",
        "_waits",
        "incomplete",
        "place",
        "transaction",
        "unit",
    )

    def __init__(self, place: TopicPartition, put: Put, waits: Waits) -> None:
        self.place = place
        self.unit: Unit | None = None
        self._half: Unit | None = None  # a deletion that may be the first half of a changed key
        self.transaction = ""  # the furthest one that has begun: with its end the unit is complete
        self.incomplete = 0
        self._put = put
        self._waits = waits
        self._begun: OrderedDict[str, int] = OrderedDict()  # transactions begun lately, with their times
        self._reached = 0  # the latest business time that a boundary has told, in ms
        self._touched = 0.0
        self._named = False  # whether the changes of what is open tell their transaction
        self._resumes = False  # whether what is open is our own capture's, which goes on exactly where it broke off
        # --- of a connector that has gone back ---
        self._back = False
        self._torn = False  # from within a transaction
        self._blind = False  # whether nothing is remembered from before
        self._since = 0.0  # when something came last that had surely come before
        self._unsure = 0  # transactions since then

    # --- boundaries ---

    def boundary(self, record: Record, event: Boundary, moment: float, units: list[Unit]) -> None:
        """Take a beginning or an end; `moment` is now, in seconds."""
        if self._half is not None:
            self._put_half(units)
        self._touched = moment
        begins, ts_ms = event.status == "BEGIN", event.ts_ms
        if begins:
            self._begin(record, event, moment, units)
        unit = self.unit
        if unit is None:  # as nearly always, where one begins
            unit = Unit([], [], ts_ms or None, "", {self.place: record.offset + 1})
            if begins:
                self.unit = unit
            else:
                self.end(unit, units)
            return
        unit.positions[self.place] = record.offset + 1
        if ts_ms and (unit.ts_ms is None or ts_ms > unit.ts_ms):
            unit.ts_ms = ts_ms
        if not begins and event.transaction == self.transaction:
            self.end(unit, units)

    def end(self, unit: Unit, units: list[Unit]) -> None:
        """The open unit is complete."""
        self.unit = None
        self._back = self._named = self._resumes = False
        if unit.ts_ms is not None and unit.ts_ms > self._reached:
            self._reached = unit.ts_ms
        self._put(self, unit, units)

    def ends(self, transaction: str | None) -> bool:
        """Whether a change that ends its transaction ends the open unit with it."""
        return not self._back or transaction == self.transaction

    def _begin(self, record: Record, event: Boundary, moment: float, units: list[Unit]) -> None:
        """See to which unit a transaction belongs that begins: a new one, unless there is an open one afterwards."""
        name, begun = event.transaction, self._begun
        if name.startswith(SNAPSHOT):
            # What was open will not end: its rows are read anew, and only with these it is whole.
            self.transaction, self._back = name, False
            begun.clear()
            return
        if self.unit is None:
            if name in begun and name != self.transaction and event.ts_ms and begun[name] == event.ts_ms:
                self._go_back(moment)
            else:
                self.transaction = name
        elif self.transaction.startswith(SNAPSHOT):
            return  # it is streamed within the snapshot, and seen with it
        elif name == self.transaction:
            self._back = False
        else:
            if not self._back:
                self._go_back(moment)
            if not self._was_sent(event, moment):
                self._give_up(self.unit, record.offset, units)
                self.transaction = name
        begun[name] = event.ts_ms
        if len(begun) > self._waits.transactions:
            begun.popitem(last=False)

    # --- a connector that has gone back ---

    def _go_back(self, moment: float) -> None:
        self._back, self._since, self._unsure = True, moment, 0
        self._torn = self.unit is not None
        self._blind = len(self._begun) <= 1
        if self.unit is not None and self.unit.ts_ms is not None:
            self._reached = max(self._reached, self.unit.ts_ms)

    def _was_sent(self, event: Boundary, moment: float) -> bool:
        """Whether a transaction that begins may have been sent before, or before what is remembered.

        Some end without telling it (Debezium tells no end of an XA transaction): what comes next is new then, and with
        the first that is later than all before, what is open goes on.
        """
        if self._begun.get(event.transaction) == event.ts_ms:
            self._since, self._unsure = moment, 0
            return True
        self._unsure += 1
        if self._unsure > self._waits.transactions or moment - self._since >= self._waits.again:
            return False
        if not event.ts_ms:
            return self._blind
        # MySQL tells when a transaction's statement began, not when it was committed: not quite the order of its log.
        return event.ts_ms <= self._reached + (self._waits.again * 1000 if self._blind else 0)

    def _give_up(self, unit: Unit, offset: int, units: list[Unit]) -> None:
        """The open unit goes on as it is, up to an offset."""
        unit.positions[self.place] = max(offset, unit.positions.get(self.place, 0))
        self.incomplete += 1
        self.end(unit, units)

    # --- time ---

    @property
    def open(self) -> bool:
        """Whether something waits for its rest."""
        return self.unit is not None or self._half is not None

    def left(self, moment: float, units: list[Unit]) -> None:
        """Records of the partition have been taken, and those of another one follow, or none."""
        if self.unit is None or not self.unit.changes:
            self._touched = moment
            return
        last = self.unit.changes[-1].event
        self._named = self._named or last.transaction is not None
        if last.transaction is None and self._named:  # another one's: no news of what is open
            self.wait(moment, units)
            return
        self._touched, self._resumes = moment, last.order is None

    def wait(self, moment: float, units: list[Unit]) -> None:
        """Let go on what has waited for long enough."""
        waits, silent = self._waits, moment - self._touched
        if self._half is not None and silent >= waits.half:
            self._put_half(units)
        unit = self.unit
        if unit is None or self.transaction.startswith(SNAPSHOT) or (self._resumes and not self._back):
            return
        if silent >= (waits.patience if self._back and (self._unsure or not self._torn) else waits.silence):
            self._give_up(unit, unit.changes[-1].record.offset + 1 if unit.changes else 0, units)

    # --- events without boundaries ---

    def single(self, record: Record, event: Event | Parked, units: list[Unit]) -> None:
        """Take an event while no transaction is open."""
        half = self._half
        if half is not None:
            if isinstance(event, Ignored):  # a tombstone goes with its deletion
                half.add(record, event)
                return
            if isinstance(event, Change) and is_other_half(half, event):
                half.add(record, event)
                self._put_half(units)
                return
            self._put_half(units)
        unit = Unit()
        unit.add(record, event)
        if is_half(event):
            self._half = unit
        else:
            self._put(self, unit, units)

    def _put_half(self, units: list[Unit]) -> None:
        half, self._half = self._half, None
        if half is not None:
            self._put(self, half, units)

"""Source transactions that a connector has spread over topics, put together again.

With one topic for each table, a connector tells the beginning and end of its transactions in a topic of their own,
the end with the number of changes of each table. Nothing orders one topic against another: a transaction's changes
are held back until all of them have come, and go on in the order of the ends.

Two things always hold, whatever a connector leaves out or repeats: changes of one partition go on in their order, and
a position goes on only together with everything before it. So nothing is lost or done twice; a transaction that
cannot be made whole goes on in parts, by these rules, and is counted:

* its other changes cannot come any more: their partitions are already at later transactions, or
* nothing that it waits for has come for a while, at the end of the log.

What is held is bounded: a partition that is far ahead of the others is not read on (`paused`), and a transaction too
large to hold goes on in pieces, which are applied in one transaction of the state database.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from connectors.event import Boundary, Change, Event, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.held import Item, Occurrence, Run, fill, merged
from consumers.engine.units import Parked, Put, Unit

_REMEMBERED = 1000  # transactions lately gone on, by which repeated ones are told


class Limits(NamedTuple):
    """How much is held back, and for how long.

    Args:
        events, size: of one partition (`size` in bytes) before it is not read on; all partitions may come this far.
        transactions: ends read ahead.
        patience: seconds at the log's end for changes that an end has announced.
        end_patience: seconds at the log's end for an end.
    """

    events: int = 50_000
    size: int = 32 * 1024 * 1024
    transactions: int = 20_000
    patience: float = 30.0
    end_patience: float = 60.0


class Line:
    """One partition of changes."""

    __slots__ = ("_weaver", "events", "place", "runs", "size", "tables")

    def __init__(self, weaver: Weaver, place: TopicPartition) -> None:
        self._weaver = weaver
        self.place = place
        self.runs: deque[Run] = deque()
        self.tables: set[str] = set()
        self.events = 0
        self.size = 0

    def put(self, record: Record, event: Event | Parked, units: list[Unit]) -> None:
        """Take the partition's next record."""
        runs = self.runs
        if isinstance(event, Change | Truncate):
            transaction = event.transaction
            if event.table not in self.tables:
                self._weaver.serves(self, event.table)
            if runs and runs[-1].transaction == transaction:
                run = runs[-1]
            else:
                if transaction is None and not runs:
                    self._weaver.single(record, event, units)
                    return
                run = self._weaver.begin(transaction)
                runs.append(run)
        elif runs:  # it belongs to no transaction, or does not tell: it goes with what stands before it
            run = runs[-1]
        else:
            self._weaver.single(record, event, units)
            return
        self.size += run.add(record, event)
        run.touched = self._weaver.moment
        self.events += 1

    def pop(self) -> Run:
        """Take the first run off."""
        run = self.runs.popleft()
        self.events -= len(run.items)
        self.size -= run.size
        return run

    def drain(self) -> list[Item]:
        """Take what may go of the first run, which stays open."""
        run = self.runs[0]
        size = run.size
        taken = run.take()
        self.events -= len(taken)
        self.size -= size - run.size
        return taken


class Ends:
    """One partition of beginnings and ends."""

    __slots__ = ("_weaver", "place")

    def __init__(self, weaver: Weaver, place: TopicPartition) -> None:
        self._weaver = weaver
        self.place = place

    def put(self, record: Record, event: Event | Parked, units: list[Unit]) -> None:
        """Take the partition's next record."""
        self._weaver.boundary(self.place, record, event, units)


class Weaver:
    """Puts together the transactions of one connector.

    Args:
        ends: the partitions with beginnings and ends.
        lines: the partitions with changes.
        tables: the names of the declared tables.
        put: hands a unit on; told on whose behalf.
        piece: how many changes of an unfinished transaction are held before they go on as a piece.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        ends: Iterable[TopicPartition],
        lines: Iterable[TopicPartition],
        tables: Iterable[str],
        *,
        put: Put,
        piece: int,
        limits: Limits,
        now: Callable[[], float],
    ) -> None:
        self.ends = [Ends(self, place) for place in ends]
        self.lines = [Line(self, place) for place in lines]
        self.incomplete = 0
        self._put = put
        self._piece = piece
        self._limits = limits
        self._now = now
        self.moment = now()
        self._occurrences: deque[Occurrence] = deque()
        self._pending: Counter[str] = Counter()
        self._released: OrderedDict[str, None] = OrderedDict()
        self._arrivals = 0
        self._paused: set[TopicPartition] = set()
        self._serving: dict[str, list[Line]] = {}
        for line in self.lines:
            name = line.place.topic.lower()
            for table in tables:
                if name.endswith("." + "".join(c if c.isalnum() or c in "._-" else "_" for c in table.lower())):
                    self.serves(line, table)
        # Where topics are not named after tables, any of them may bring any table's changes.
        self._named = bool(self._serving)

    # --- what comes in ---

    def serves(self, line: Line, table: str) -> None:
        """A partition brings changes of a table."""
        line.tables.add(table)
        self._serving.setdefault(table, []).append(line)

    def begin(self, transaction: str | None) -> Run:
        """A new run."""
        self._arrivals += 1
        return Run(transaction, self._arrivals)

    def single(self, record: Record, event: Event | Parked, units: list[Unit]) -> None:
        """What belongs to no transaction, and to nothing that is held."""
        unit = Unit()
        unit.add(record, event)
        self._hand(unit, units)

    def _hand(self, unit: Unit, units: list[Unit]) -> None:
        """Hand on what is not the first transaction's; while that one comes in pieces, as one of them.

        Else it would go behind the pieces, and with it the position of a partition behind which one of them stands.
        """
        head = self._occurrences[0] if self._occurrences else None
        if head is not None and head.begun:
            unit.complete, unit.continued = False, True
            _further(head.positions, unit.positions)
            self._put(head, unit, units)
        else:
            self._put(self, unit, units)

    def boundary(self, place: TopicPartition, record: Record, event: Event | Parked, units: list[Unit]) -> None:
        """A beginning or an end; anything else in their topic goes with what stands before it."""
        last = self._occurrences[-1] if self._occurrences else None
        if not isinstance(event, Boundary):
            if last is None:
                self.single(record, event, units)
                return
            last.extra.append((record, event))
        elif last is None or last.transaction != event.transaction or (last.ended and event.status == "BEGIN"):
            if last is not None:
                last.ended = True  # the next one has begun: its own end never came
            last = self._open(event)
        last.positions[place] = record.offset + 1
        last.touched = self.moment
        if isinstance(event, Boundary):
            last.ts_ms = max(last.ts_ms, event.ts_ms)
            if event.status == "END" and not last.ended:
                last.ended = True
                last.counts = None if event.counts is None else dict(event.counts)

    def _open(self, event: Boundary) -> Occurrence:
        self._arrivals += 1
        occurrence = Occurrence(event.transaction, self._arrivals)
        self._occurrences.append(occurrence)
        self._pending[event.transaction] += 1
        if event.status == "END" and event.transaction in self._released:
            occurrence.ended, occurrence.counts = True, {}  # the end alone, repeated
        return occurrence

    # --- what goes on ---

    @property
    def open(self) -> bool:
        """Whether anything is held."""
        return bool(self._occurrences) or any(line.runs for line in self.lines)

    @property
    def paused(self) -> set[TopicPartition]:
        """The partitions not to read on for now: they are far ahead of what they wait for."""
        limits = self._limits
        for line in self.lines:
            self._mark(line.place, max(line.events / limits.events, line.size / limits.size))
        for ends in self.ends:
            self._mark(ends.place, len(self._occurrences) / limits.transactions)
        return self._paused

    def _mark(self, place: TopicPartition, share: float) -> None:
        if share >= 1:
            self._paused.add(place)
        elif share < 0.5:
            self._paused.discard(place)

    def settle(self, units: list[Unit]) -> None:
        """Hand on whatever can go on."""
        while self._step(units):
            pass

    def look(self) -> None:
        """See what time it is: what is taken from now on comes now."""
        self.moment = self._now()

    def idle(self, units: list[Unit]) -> None:
        """The log has nothing more for now: hand on what has been waited for long enough."""
        self.look()
        self.settle(units)
        while self._force(units):
            self.settle(units)

    def _force(self, units: list[Unit]) -> bool:
        """Let go on what stands in the way: a run that nobody announces, else the first transaction as it is.

        Returns False where nothing stands for so long. The time counts from the last record of what waits, so that a
        row of many does not wait for each in turn.
        """
        head = self._occurrences[0] if self._occurrences else None
        gathered = [] if head is None else self._gathered(head)
        if head is not None and not head.ended:
            touched = max([head.touched, *(line.runs[0].touched for line in gathered)])
            if self.moment - touched < self._limits.end_patience:
                return False
            self._release(head, gathered, units, whole=False)
            return True
        waited = [line for line in (self.lines if head is None else self._missing(head, gathered)) if line.runs]
        unknown = [line for line in waited if line.runs[0].transaction not in self._pending]
        if unknown:
            first = min(unknown, key=lambda line: line.runs[0].arrival)
            if self.moment - first.runs[0].touched < self._limits.patience:
                return False
            self._leave(first, units)
            return True
        if head is None:
            return False
        if self.moment - max([head.touched, *(line.runs[0].touched for line in waited)]) < self._limits.patience:
            return False
        self._release(head, gathered, units, whole=False)
        return True

    def _gathered(self, head: Occurrence) -> list[Line]:
        """The partitions that are at the transaction."""
        return [line for line in self.lines if line.runs and line.runs[0].transaction == head.transaction]

    def _step(self, units: list[Unit]) -> bool:
        """Hand one thing on. Returns whether there was one."""
        for line in self.lines:
            if line.runs and self._alone(line.runs[0]):
                self._scatter(line, units)
                return True
        if not self._occurrences:
            return False
        head = self._occurrences[0]
        gathered = self._gathered(head)
        if not head.ended and any(line.runs[0].ends for line in gathered):
            head.ended, head.counts = True, {}
        if head.ended:
            missing = self._missing(head, gathered)
            if not missing:
                self._release(head, gathered, units, whole=True)
                return True
            if all(self._past(line, head) for line in missing):
                stranger = next((line for line in missing if self._deeper(line, head)), None)
                if stranger is not None:
                    self._leave(stranger, units)
                else:
                    self._release(head, gathered, units, whole=False)
                return True
        held = sum(len(line.runs[0].items) for line in gathered)
        if held >= self._piece or (held and any(self._full(line) for line in gathered)):
            self._hand_piece(head, gathered, units)
            return True
        return False

    def _full(self, line: Line) -> bool:
        """Whether a partition is not read on until what is held of it goes."""
        return line.events >= self._limits.events or line.size >= self._limits.size

    def _alone(self, run: Run) -> bool:
        """Whether a run goes on without its transaction: it has none, or its only change is one done before."""
        if run.transaction is None:
            return True
        return run.ends and run.transaction in self._released and run.transaction not in self._pending

    def _missing(self, head: Occurrence, gathered: list[Line]) -> list[Line]:
        """The partitions from which changes of the transaction have still to come."""
        if head.counts is None:
            if head.transaction in self._released and not gathered:
                return []  # a beginning that was repeated
            return self.lines
        missing: list[Line] = []
        for table, count in head.counts.items():
            serving = self._serving.get(table)
            if serving is None:
                if self._named:
                    continue  # its topic is not among those read
                serving = self.lines
            if sum(line.runs[0].counts.get(table, 0) for line in gathered) < count:
                missing += serving
        return missing

    def _past(self, line: Line, head: Occurrence) -> bool:
        """Whether a partition has left the transaction behind, or has something before it that nothing announces."""
        if not line.runs:
            return False
        if line.runs[0].transaction == head.transaction:
            return len(line.runs) > 1
        return line.runs[0].transaction in self._pending or self._deeper(line, head)

    @staticmethod
    def _deeper(line: Line, head: Occurrence) -> bool:
        """Whether the transaction stands in a partition behind others."""
        runs = iter(line.runs)
        first = next(runs, None)
        return (
            first is not None
            and first.transaction != head.transaction
            and any(run.transaction == head.transaction for run in runs)
        )

    def _scatter(self, line: Line, units: list[Unit]) -> None:
        """Changes without a transaction: each by itself."""
        for _, record, event in line.pop().items:
            self.single(record, event, units)

    def _leave(self, line: Line, units: list[Unit]) -> None:
        """A run goes on without the rest of its transaction."""
        run = line.pop()
        unit = Unit()
        fill(unit, run.items)
        unit.positions[line.place] = run.next_offset
        self.incomplete += 1
        self._hand(unit, units)

    def _hand_piece(self, head: Occurrence, gathered: list[Line], units: list[Unit]) -> None:
        """What is there of a large transaction goes on."""
        unit = Unit(complete=False, continued=head.begun)
        fill(unit, merged(line.drain() for line in gathered))
        head.begun = True
        self._put(head, unit, units)

    def _release(self, head: Occurrence, gathered: list[Line], units: list[Unit], *, whole: bool) -> None:
        """The first transaction goes on, with all that is there of it."""
        self._occurrences.popleft()
        self._pending[head.transaction] -= 1
        if not self._pending[head.transaction]:
            del self._pending[head.transaction]
        self._released[head.transaction] = None
        self._released.move_to_end(head.transaction)
        if len(self._released) > _REMEMBERED:
            self._released.popitem(last=False)
        runs = {line.place: line.pop() for line in gathered}
        unit = Unit(continued=head.begun)
        if len(runs) == 1:
            fill(unit, next(iter(runs.values())).items)
        else:
            fill(unit, merged(run.items for run in runs.values()))
        for record, event in head.extra:
            unit.add(record, event)
        unit.positions.update({place: run.next_offset for place, run in runs.items()})
        _further(unit.positions, head.positions)  # what pieces before left behind too: the last one's are stored
        if head.ts_ms and (unit.ts_ms is None or head.ts_ms > unit.ts_ms):
            unit.ts_ms = head.ts_ms
        self.incomplete += not whole
        self._put(head if head.begun else self, unit, units)


def _further(positions: dict[TopicPartition, int], others: Mapping[TopicPartition, int]) -> None:
    """Take the further position of each partition."""
    for place, offset in others.items():
        positions[place] = max(offset, positions.get(place, 0))

"""The engine: applies units to one domain instance, each batch in one transaction with its positions.

One transaction is these steps, always in this order:

1. prove to be the instance's only writer (its epoch row, locked),
2. let the clock reach the batch: the due times before it first, each by itself where a history depends on it,
3. bring the changed rows into the mirror and collect the keys they reach, wave by wave where histories are kept,
4. refresh the models in dependency order,
5. store parked events, the clock and the positions; commit.

Nothing here reads a log or a wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from connectors.event import Change, Truncate
from connectors.failpoints import failpoint
from connectors.log import TopicPartition
from connectors.pipe import Pipe
from consumers.engine import cuts, foreignkeys, moments, schema, waves
from consumers.engine.analysis import Analysis
from consumers.engine.cascades import Cascades
from consumers.engine.cuts import Times
from consumers.engine.differences import find_plans
from consumers.engine.ledger import DueError, Ledger
from consumers.engine.mirror import Foretell, Mirror, MissingRowsError
from consumers.engine.parking import plain, without_missing, without_refused
from consumers.engine.refresh import Refresher
from consumers.engine.relations import describe_all
from consumers.engine.running import Causes, ForetoldError, Runner
from consumers.engine.statements import build_inputs
from consumers.engine.tokens import cone, exact_models, steps_count, table_tokens
from consumers.engine.transitions import Key, Transitions
from consumers.engine.units import Unit

DUE = "due"
# The state database may lose its last moments in a crash of the machine: positions and effects go together, and
# the log still has the events. So no commit waits for the disk. What is worked on is in memory, hence the page costs;
# rows are looked up by key, and a plan made while a table was empty must not read all of it ever after.
SESSION = """
SET synchronous_commit = off; SET join_collapse_limit = 16; SET from_collapse_limit = 16; SET jit = off;
SET plan_cache_mode = force_generic_plan; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET work_mem = '64MB'; SET application_name = 'rowtide';
SET random_page_cost = 0.1; SET seq_page_cost = 0.1; SET enable_seqscan = off
"""


class _CutError(Exception):
    """A row changes by itself among the units of a batch: only `count` of them may go together."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


@dataclass
class Applied:
    """What one call did: units and events applied, events parked, keys refreshed by model."""

    units: int = 0
    events: int = 0
    parked: int = 0
    transactions: int = 0
    keys: dict[str, int] = field(default_factory=dict)


class Engine:
    """Applies units to one instance. Not thread-safe; one connection, whose transactions it owns.

    Args:
        connection: to the state database, not in a transaction.
        analysis: the domain's models.
        instance: the name of the instance, whose schemas exist.
        epoch: this writer's epoch; a higher one in the database fences it off.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[Any, ...]], analysis: Analysis, instance: str, epoch: int
    ) -> None:
        self._connection = connection
        connection.autocommit = True  # transactions begin and end where the engine says so
        self._analysis = analysis
        self._instance = instance
        self.epoch = epoch
        connection.execute(SESSION)
        schema.use(connection, instance)
        tables = analysis.domain.mirror_tables
        relations = describe_all(connection, instance, analysis)
        plans, _ = find_plans(analysis, relations)
        inputs = build_inputs(analysis, relations, plans)
        self._tables = tables
        self._mirror = Mirror(tables, inputs)
        self._exact = exact_models(analysis)
        self._cone = cone(analysis, self._exact)
        self._tokens = table_tokens(analysis) if self._exact else {}
        self._transitions = Transitions(tables, self._tokens, self._mirror.lookup)
        self._steps = steps_count(analysis)
        self._clocked = [n for n, model in enumerate(analysis.models) if model.clocked]
        self._exact_clocked = [analysis.models[n] for n in self._clocked if analysis.models[n].name in self._cone]
        self._pipe = Pipe(connection)
        runner = Runner(self._pipe, analysis, inputs, relations, plans)
        self._refresher = Refresher(self._pipe, runner, analysis, inputs, plans, self._exact)
        self.ledger = Ledger(self._pipe, instance, epoch, [analysis.models[n] for n in self._clocked])
        self._cascades = Cascades(tables, ())
        self.reload()

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to read of each partition seen."""
        return self.ledger.known.positions

    @property
    def clock(self) -> int | None:
        """Business time in µs since the epoch; None before the first event."""
        return self.ledger.clock

    @property
    def unfollowed(self) -> Sequence[foreignkeys.Gap]:
        """The source's foreign keys whose effects the mirror cannot follow, each with the reason."""
        return self._cascades.gaps

    @property
    def next_due(self) -> int | None:
        """When the next row changes by itself, in µs; None: never."""
        return self.ledger.due

    def reload(self) -> None:
        """Read positions, clock and due time from the database, where the truth is."""
        self.ledger.reload()
        self._cascades = Cascades(self._tables, foreignkeys.load(self._pipe, self._instance))

    def _set_clock(self, moment: int | None) -> None:
        if moment is not None:
            if self.ledger.clock is None:
                self._refresher.begin()
            self.ledger.set_clock(moment)

    # --- applying ---

    def apply(self, units: Sequence[Unit]) -> Applied:
        """Apply complete units in order, in as few transactions as exactness allows.

        Raises FencedError, ModelFailedError, DueContractError; then nothing of the failed transaction is kept.
        """
        result = Applied()
        units = [unit for unit in units if self._is_new(unit)]
        while units:
            times = cuts.times_of(units, self.ledger.clock)
            self._reach(times[0], result)
            count = self._together(units, times)
            done = self._transact(units[:count], times[:count], result)
            units = units[done:]
        return result

    def _is_new(self, unit: Unit) -> bool:
        """Whether the unit lies behind the stored positions; a log may deliver one twice."""
        known = self.ledger.known.positions
        for place, offset in unit.positions.items():  # noqa: SIM110 - any() with a generator costs twice as much
            if offset > known.get(place, 0):
                return True
        return False

    def _reach(self, moment: int | None, result: Applied) -> None:
        """Where every state counts, step the clock to each due time up to the moment."""
        while self._steps and moment is not None and (due := self.ledger.due) is not None and due <= moment:
            self.step(due)
            result.transactions += 1

    def _together(self, units: Sequence[Unit], times: Times) -> int:
        """How many of the units may go in one transaction, as far as can be told before."""
        counts = [cuts.before_foreign_keys(units), cuts.before_first_time(times)]
        if self._steps and self.ledger.due is not None:
            counts.append(cuts.before_due(times, self.ledger.due))
        if self._steps or self._exact:
            counts.append(cuts.before_parameters(units))
        return min(counts)

    def step(self, moment: int) -> None:
        """Let the clock reach the moment, which is a due time or at least before the next one."""
        with self._transaction(moment):
            self._set_clock(moment)
            self._refresher.due(self._clocked, moments.to_text(moment))
            self._refresher.refresh(Causes(moments.to_text(moment), DUE))
            self.ledger.read_due()
            self._pipe.flush()
            self.ledger.check_due(moment)

    def advance(self, moment: int) -> int:
        """Let business time reach the moment, due times included. Returns the number of steps."""
        result = Applied()
        self._reach(moment, result)
        if self.ledger.clock is None or moment > self.ledger.clock:
            self.step(moment)
            result.transactions += 1
        return result.transactions

    def _transact(self, units: Sequence[Unit], times: Times, result: Applied) -> int:
        """One transaction for these units, or for fewer if a due time arises among them. Returns how many."""
        foretell: Foretell | None = self._refresher.foretell
        while True:
            try:
                self._attempt(units, times, foretell)
            except ForetoldError:
                foretell = None
                continue
            except _CutError as cut:
                units, times = units[: cut.count], times[: cut.count]
                continue
            except MissingRowsError as error:
                units = [without_missing(unit, error) for unit in units]
                continue
            except (psycopg.DataError, psycopg.errors.NotNullViolation):
                units = without_refused(self._refusal, units)
                continue
            break
        result.units += len(units)
        result.events += sum(unit.events for unit in units)
        result.parked += sum(len(unit.parked) for unit in units)
        result.transactions += 1
        for name, count in self._refresher.refreshed.items():
            result.keys[name] = result.keys.get(name, 0) + count
        self._refresher.forget()
        return len(units)

    def _attempt(self, units: Sequence[Unit], times: Times, foretell: Foretell | None) -> None:
        """Try one transaction. Raises _CutError with how many units it may hold, if fewer."""
        first, last = times[0], times[-1]
        # Where every state counts, rows are computed at the time of the first unit; if none of them changes by
        # itself before the last unit's time, they are the same then.
        moment = first if self._steps else last
        with self._transaction(last):
            self._set_clock(moment)
            self._take_due(moment)

            def finish() -> None:
                failpoint("models_refreshed")
                self._set_clock(last)
                self.ledger.store(units)
                failpoint("before_commit")
                refreshed = not self._refresher.started.isdisjoint(self._clocked)
                self.ledger.commit_unless_due(last if self._steps else moment, refreshed=refreshed)

            try:
                self._write(self._expand(units), times, foretell, finish)
            except DueError:
                self._connection.execute("ROLLBACK TO SAVEPOINT refreshed")
                self.ledger.read_due()
                self._pipe.flush()
                self._check_cut(moment, times)
                raise

    def _take_due(self, moment: int | None) -> None:
        """Where only the last state counts, take the rows that fall due by the moment, however many times."""
        due = self.ledger.due
        if not self._steps and moment is not None and due is not None and due <= moment:
            self._refresher.due(self._clocked, moments.to_text(moment))

    def _expand(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """The units with what the source's foreign keys did besides; takes in what the first unit tells of them."""
        told = units[0].foreign_keys
        if told is not None:
            foreignkeys.store(self._pipe, self._instance, told, self._tables)
            self._cascades = Cascades(self._tables, told.keys)
        return self._cascades.expand(self._pipe, units)

    def _check_cut(self, moment: int | None, times: Times) -> None:
        """See whether a row changes by itself among these units, even one that a later unit changes again.

        `moment`: at which rows were computed.
        """
        if moment is not None:
            self.ledger.check_due(moment)
        last, due = times[-1], self.ledger.due
        if self._steps and due is not None and last is not None and due <= last:
            raise _CutError(cuts.before_due(times, due))

    def _write(
        self,
        units: Sequence[Unit],
        times: Times,
        foretell: Foretell | None,
        finish: Callable[[], object],
    ) -> None:
        """Mirror, keys and models for these units."""
        changes = [placed.event for unit in units for placed in unit.changes]
        if self._exact and sum(bool(unit.changes) for unit in units) > 1:
            changes = self._write_waves(units, times)
        self._apply_to_mirror(changes, foretell)
        failpoint("mirror_written")
        # What feeds histories is either done by now or stands in the only unit that has changes: it tells the time.
        number = next((n for n, unit in enumerate(units) if unit.changes), 0)
        self._refresher.refresh(Causes(_text(times[number]), units[number].cause), last=finish)

    def _apply_to_mirror(self, changes: Sequence[Change | Truncate], foretell: Foretell | None = None) -> None:
        refresher = self._refresher
        self._mirror.apply(self._pipe, changes, refresher.route, refresher.asks, foretell)

    def _write_waves(self, units: Sequence[Unit], times: Times) -> list[Change | Truncate]:
        """Apply what feeds histories wave by wave. Returns the changes that feed none, in their order."""
        touched = self._transitions.touched(self._pipe, units)
        feeding = [number for number, tokens in enumerate(touched) if tokens is None or tokens]
        groups = waves.grouped(waves.assign([touched[number] for number in feeding]))
        for group in groups:
            members = [feeding[number] for number in group]
            by_key: dict[int, dict[Key, tuple[str, str]]] = {n: {} for n in self._exact}
            for number in members:
                told = (_text(times[number]), units[number].cause)
                for owner, key in touched[number] or ():
                    if owner.__class__ is int:
                        by_key[owner][key] = told
            alone = touched[members[0]] is None
            self._apply_to_mirror(
                [p.event for number in members for p in units[number].changes if p.event.table in self._tokens]
            )
            causes = Causes(_text(times[members[-1]]), units[members[-1]].cause, None if alone else by_key)
            self._refresher.refresh(causes, only=self._cone)
            self.ledger.read_due(self._exact_clocked)
            self._pipe.flush()
            self._check_cut(self.ledger.clock, times)
        return [p.event for unit in units for p in unit.changes if p.event.table not in self._tokens]

    # --- a unit too large to hold ---

    def begin_pieces(self, moment_ms: int | None) -> None:
        """Open a transaction for a unit that comes in pieces; due times before it are done first."""
        moment = cuts.times_of([Unit(ts_ms=moment_ms)], self.ledger.clock)[0]
        self._reach(moment, Applied())
        self.ledger.begin(moment)
        self._set_clock(moment)
        self._take_due(moment)

    def add_piece(self, unit: Unit) -> None:
        """Bring one piece into the mirror."""
        (expanded,) = self._expand([unit])
        self._apply_to_mirror([placed.event for placed in expanded.changes])
        self.ledger.park(unit.parked)
        self._pipe.flush()

    def end_pieces(self, last: Unit) -> None:
        """Refresh and commit. Raises as `apply`."""
        self._recompute(Causes(_text(self.ledger.clock), last.cause), last)
        self._connection.commit()
        self._refresher.forget()

    def abandon(self) -> None:
        """Roll back whatever is open and read the truth anew. On a closed connection both are another engine's."""
        self._roll_back()
        if not self._connection.closed:
            self.reload()

    def _roll_back(self) -> None:
        if not self._connection.closed:
            self._connection.rollback()
        self._pipe.forget()
        self._refresher.forget()

    # --- events that were applied before ---

    def absorb(self, units: Sequence[Unit]) -> int:
        """Bring units, or pieces of them, into the mirror alone; returns how many changes. `recompute` must follow.

        For events that the mirror has seen before: rows go back to what they were and come forward again, states that
        no model may show.
        """
        absorbed = 0
        units = [unit for unit in units if self._is_new(unit)]
        while units:
            count = cuts.before_foreign_keys(units)
            batch = units[:count]
            try:
                with self._transaction():
                    changes = [placed.event for unit in self._expand(batch) for placed in unit.changes]
                    self._mirror.apply(self._pipe, changes)
                    self.ledger.store(batch)
                    self._pipe.flush()
            except MissingRowsError as error:
                units[:count] = [without_missing(unit, error) for unit in batch]
                continue
            except (psycopg.DataError, psycopg.errors.NotNullViolation):
                units[:count] = without_refused(self._refusal, batch)
                continue
            absorbed += sum(unit.events for unit in batch)
            units = units[count:]
        return absorbed

    def recompute(self, positions: Mapping[TopicPartition, int], cause: str) -> None:
        """Refresh every model whole, at the clock, and store these positions with it. Raises as `apply`.

        A history gets a transition, of this cause, where its column is not what it was.
        """
        with self._transaction():
            self._refresher.all()
            self._recompute(Causes(_text(self.ledger.clock), cause), Unit(positions=dict(positions)))
        self._refresher.forget()

    # --- parts of a transaction ---

    def _recompute(self, causes: Causes, last: Unit) -> None:
        """Refresh what is pending, at the clock, and store where that leads."""
        self._refresher.refresh(causes)
        self.ledger.read_due()
        self.ledger.store([last])
        self._pipe.flush()
        if self.ledger.clock is not None:
            self.ledger.check_due(self.ledger.clock)

    @contextmanager
    def _transaction(self, clock: int | None = None) -> Iterator[None]:
        """A fenced transaction that leads to this clock; if it fails, the engine knows again what the database knows."""
        before = (self.ledger.known, self._cascades)
        try:
            self.ledger.begin(clock)
            yield
            self._pipe.flush()
        except (_CutError, ForetoldError, MissingRowsError, psycopg.DataError, psycopg.errors.NotNullViolation):
            # Tried again in another way, by this writer: nobody else has written meanwhile.
            self._roll_back()
            self.ledger.known, self._cascades = before
            raise
        except BaseException:
            self.abandon()
            raise
        self._connection.commit()

    def _refusal(self, event: Change | Truncate) -> str | None:
        """Why the mirror refuses an event, tried alone."""
        try:
            with self._connection.transaction(force_rollback=True):
                self._mirror.apply(self._pipe, [event])
        except (psycopg.DataError, psycopg.errors.NotNullViolation) as error:
            return f"the table {event.table} refuses it: {plain(error)}"
        except MissingRowsError:
            pass  # alone, it misses the row that an event before it brings
        return None


def _text(moment: int | None) -> str:
    return "-infinity" if moment is None else moments.to_text(moment)

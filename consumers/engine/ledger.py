"""What the state database knows of an instance: its writer, its positions, its clock, when a row is next due.

Read once, then known, and written with every transaction that changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import psycopg

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.pipe import Pipe, Rows
from consumers.engine import moments
from consumers.engine.analysis import Model
from consumers.engine.sqltext import array_literal
from consumers.engine.statements import next_due_sql
from consumers.engine.units import Parked, Unit

_BEGIN = "UPDATE rowtide.instance SET clock = coalesce($2, clock) WHERE name = $1 RETURNING epoch"
_STORE = """
INSERT INTO rowtide.position AS p (instance, topic, partition, next_offset, mark)
{} ON CONFLICT (instance, topic, partition)
    DO UPDATE SET next_offset = EXCLUDED.next_offset, mark = coalesce(EXCLUDED.mark, p.mark)
"""
_STORE_ONE = _STORE.format("VALUES ($1, $2, $3, $4, $5)")  # what most batches need takes the least time
_STORE_SEVERAL = _STORE.format("SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::text[])")


class FencedError(RowtideError):
    """Another writer has taken over the instance; nothing of the batch was kept."""


class DueError(Exception):
    """A row changes by itself among the units of a batch, or should have done so before: it was not committed."""


class DueContractError(RowtideError):
    """A model named a time of change that is not after the clock; it would never be done."""


class Known(NamedTuple):
    """What is known at one moment.

    Args:
        positions: the next offset to read of each partition seen.
        clock: business time in µs since the epoch; None before the first event.
        due: when the next row changes by itself, in µs; None: never.
    """

    positions: Mapping[TopicPartition, int]
    clock: int | None
    due: int | None


class Ledger:
    """Keeps an instance's row, positions and clock. Its statements go with the pipe's next flush.

    Args:
        pipe: to the state database.
        instance: its name.
        epoch: this writer's.
        clocked: the models whose rows change by themselves.
    """

    def __init__(
        self,
        pipe: Pipe,
        instance: str,
        epoch: int,
        clocked: Sequence[Model],
    ) -> None:
        self._pipe = pipe
        self._instance = instance
        self._epoch = epoch
        self._clocked = clocked
        self.known = Known({}, None, None)
        self._commit_sql = f"SELECT due, 1 / (CASE WHEN due <= $1 THEN 0 ELSE 1 END) FROM {_due(clocked)}"
        self._knows_all_due = False  # whether `due` is of all clocked models
        # The mark of the record before a position, to be stored with it; None: not known.
        self.mark_of: Callable[[TopicPartition, int], str | None] = lambda _place, _offset: None

    @property
    def clock(self) -> int | None:
        """See `Known`."""
        return self.known.clock

    @property
    def due(self) -> int | None:
        """See `Known`."""
        return self.known.due

    def reload(self) -> None:
        """Read everything from the database, where the truth is."""
        found = self._pipe.now(
            "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = $1", [self._instance]
        )
        positions = {TopicPartition(topic, partition): offset for topic, partition, offset in found}
        rows = self._pipe.now(
            "SELECT CASE WHEN isfinite(now) THEN (extract(epoch FROM now) * 1000000)::bigint END FROM clock"
        )
        self.known = Known(positions, rows[0][0] if rows else None, None)
        self.read_due()
        self._pipe.flush()

    def begin(self, clock: int | None = None) -> None:
        """Begin, with the pipe's next flush, and prove then that this is the only writer.

        `clock`: how far business time will be at the end, in µs, for what reads no domain's schema; None: as it is.
        """

        def then(rows: Rows) -> None:
            epoch = rows[0][0] if rows else "none"
            if epoch != self._epoch:
                raise FencedError(
                    f"Another writer has taken over {self._instance} (epoch {epoch}, ours {self._epoch}).",
                    hint="This daemon stands by; see `rowtide status`.",
                )

        self._pipe.later("BEGIN", prepare=False)
        # Both in one statement: who has written the row has it for itself until the end.
        self._pipe.later(_BEGIN, [self._instance, None if clock is None else moments.to_text(clock)], then)

    def read_due(self, of: Sequence[Model] | None = None) -> None:
        """Learn, with the pipe's next flush, when the next row of these models changes by itself."""
        self._knows_all_due = of is None
        models = self._clocked if of is None else of
        if not models:
            self._learn_due(())
        else:
            self._pipe.later(f"SELECT due FROM {_due(models)}", (), self._learn_due)

    def _learn_due(self, rows: Rows) -> None:
        self.known = self.known._replace(due=rows[0][0] if rows else None)

    def check_due(self, moment: int) -> None:
        """Raise DueContractError where a row was due by the moment at which rows were computed."""
        if self.due is None or self.due > moment:
            return
        late = [
            model.name
            for model in self._clocked
            if self._pipe.now(
                f'SELECT EXISTS (SELECT 1 FROM "{model.name}" WHERE "{model.file.changes_at}" <= $1)',
                [moments.to_text(moment)],
            )
            == [(True,)]
        ]
        names = ", ".join(late)
        raise DueContractError(
            f"The model {names} names a time of its next change that is not after the clock.",
            hint="In `-- changes_at:` give NULL or a time after clock.now, else the row would be refreshed for ever.",
        )

    def commit_unless_due(self, moment: int | None, *, refreshed: bool) -> None:
        """Learn when a row is next due, and commit, with the pipe's next flush.

        The server decides, and raises DueError: asking first would cost another round trip.

        Args:
            moment: by which no row may be due.
            refreshed: whether models whose rows change by themselves may have changed; else it is known.
        """
        if moment is None or not self._clocked:
            self.read_due()
        elif refreshed or not self._knows_all_due or (self.due is not None and self.due <= moment):
            self._knows_all_due = True
            self._pipe.later("SAVEPOINT refreshed", prepare=False)
            self._pipe.later(
                self._commit_sql,
                [moment],
                self._learn_due,
                failed=lambda error: DueError() if isinstance(error, psycopg.errors.DivisionByZero) else error,
            )
        self._pipe.later("COMMIT", prepare=False)

    def set_clock(self, moment: int) -> None:
        """Let business time be that moment, in µs."""
        if moment != self.clock:
            self._pipe.later("UPDATE clock SET now = $1", [moments.to_text(moment)])
            self.known = self.known._replace(clock=moment)

    def store(self, units: Sequence[Unit]) -> None:
        """Store the positions behind the units, and their parked events."""
        positions: dict[TopicPartition, int] = {}
        for unit in units:
            positions.update(unit.positions)
            self.park(unit.parked)
        if len(positions) == 1:
            ((place, offset),) = positions.items()
            mark = self.mark_of(place, offset)
            self._pipe.later(_STORE_ONE, [self._instance, place.topic, str(place.partition), str(offset), mark])
        else:
            places = list(positions.items())
            columns = [
                array_literal([place.topic for place, _ in places], "text"),
                array_literal([str(place.partition) for place, _ in places], "integer"),
                array_literal([str(offset) for _, offset in places], "bigint"),
                array_literal([self.mark_of(place, offset) for place, offset in places], "text"),
            ]
            self._pipe.later(_STORE_SEVERAL, [self._instance, *columns])
        self.known = self.known._replace(positions={**self.known.positions, **positions})

    def park(self, parked: Sequence[Parked]) -> None:
        """Keep events that could not be applied, whole, with the reasons."""
        for record, reason in parked:
            self._pipe.later(
                'INSERT INTO rowtide.parked_event (instance, topic, partition, "offset", ts, key, value, reason) '
                "VALUES ($1, $2, $3, $4, to_timestamp($5::float8 / 1000), $6, $7, $8) ON CONFLICT DO NOTHING",
                [self._instance, *record[:4], record.key, record.value, reason],
            )


def _due(models: Sequence[Model]) -> str:
    """A relation of when the next row of these models changes by itself, in µs; no row: never."""
    return (
        f"(SELECT (extract(epoch FROM due) * 1000000)::bigint FROM ({next_due_sql(models)}) AS d(due) "
        "WHERE isfinite(due)) AS e(due)"
    )

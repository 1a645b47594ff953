"""What does not come from the source: parameters, inputs by command, the passing of time.

All of it is appended to the domain's own topic in the log, so that a replay leaves the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg

from connectors.errors import RowtideError
from connectors.event import Decoder, Source, encode_change, encode_heartbeat
from connectors.log import Log, Message, TopicPartition
from connectors.state import connect
from consumers.domain import Domain
from consumers.engine import schema
from daemon.times import BusinessTime

_RECENT = 100  # how far back the topic is searched for parameters that no worker has taken in yet


class OwnTopic:
    """Writes the domain's own topic.

    Args:
        given: the parameters of the settings, by name.
    """

    def __init__(self, dsn: str, log: Log, domain: Domain, given: Mapping[str, Any], time: BusinessTime) -> None:
        self._dsn = dsn
        self._log = log
        self._domain = domain
        self._given = given
        self._time = time

    def parameters(self) -> dict[str, str | None]:
        """The domain's parameters with the settings' values. Raises RowtideError for unknown ones."""
        values: dict[str, str | None] = {p.name: p.default for p in self._domain.parameters}
        for name, value in self._given.items():
            if name not in values:
                raise RowtideError(
                    f"The domain {self._domain.name} has no parameter “{name}”.",
                    hint=f"It has: {', '.join(values) or 'none'}; correct [parameters] in the settings.",
                )
            text = str(value).lower() if isinstance(value, bool) else str(value)
            values[name] = None if value is None or text == "" else text
        return values

    def decoder(self) -> Decoder:
        """The decoder for the domain's tables. Raises RowtideError for an unknown time zone."""
        zone = self.parameters().get("time_zone")
        try:
            return Decoder(self._domain.mirror_tables.values(), zone=ZoneInfo(str(zone or "UTC")))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise RowtideError(
                f"There is no time zone “{zone}”.",
                hint="Set parameters.time_zone to a name such as Europe/Berlin.",
            ) from None

    def append_input(self, table: str, row: Sequence[Any] | None, key: Sequence[str]) -> None:
        """Record a change of one of our own inputs; it takes effect at the clock of that moment.

        It tells no time of its own (ts_ms 0): a history of years ago must not be carried into the present by it.
        """
        self.append_inputs(table, [(row, key)])

    def append_inputs(self, table: str, rows: Sequence[tuple[Sequence[Any] | None, Sequence[str]]]) -> None:
        """Record many changes of one of our own inputs at once: (row, key) each, the row None where it goes."""
        declared = self._domain.mirror_tables[table]
        name = self._domain.name
        source = Source("rowtide", name, "rowtide", name, table, 0)
        now = self._time.now_ms()
        changes = [
            encode_change(declared, "u" if row is not None else "d", key, row, source=source) for row, key in rows
        ]
        self._log.append(self._domain.own_topic, [Message(*change, now) for change in changes])

    def tick(self, now_ms: int) -> None:
        """Record that business time has passed."""
        self._log.append(self._domain.own_topic, [Message(*encode_heartbeat(now_ms), now_ms)])

    def publish_parameters(self) -> bool:
        """Append the parameters where they differ from the last ones there: a change like any other."""
        wanted = ("1", *self.parameters().values())
        with connect(self._dsn) as connection:
            schema.use(connection, self._domain.name)
            table = self._domain.params_table
            columns = ", ".join(f'"{name}"::text' for name in table.names)
            current = connection.execute(f"SELECT {columns} FROM params").fetchone()
            row = self._fitting(connection, wanted)
        if row in (current, self._pending_parameters()):
            return False
        self.append_input("params", row, ("1",))
        return True

    def publish_first_parameters(self) -> None:
        """Append the parameters where the topic is empty: a history begins with them."""
        place = TopicPartition(self._domain.own_topic, 0)
        if self._log.extents([place.topic])[place].end == 0:
            self.append_input("params", ("1", *self.parameters().values()), ("1",))

    def _fitting(self, connection: psycopg.Connection[Any], wanted: Sequence[str | None]) -> tuple[Any, ...]:
        """The values as PostgreSQL spells them in their types."""
        casts = ", ".join(f"%s::{column.type}::text" for column in self._domain.params_table.columns)
        try:
            row = connection.execute(f"SELECT {casts}", wanted).fetchone()
        except psycopg.DataError as error:
            raise RowtideError(
                f"A parameter of {self._domain.name} does not fit its type: {error.diag.message_primary}.",
                hint="Correct [parameters] in the settings; `rowtide config show` tells where each came from.",
            ) from None
        return tuple(row or ())

    def _pending_parameters(self) -> tuple[Any, ...] | None:
        """The last parameters in the log, if no worker has taken them in yet."""
        decoder, last = Decoder([self._domain.params_table]), None
        place = TopicPartition(self._domain.own_topic, 0)
        extent = self._log.extents([place.topic])[place]
        offset = max(extent.start, extent.end - _RECENT)
        for record in self._log.read({place: offset}, limit=_RECENT):
            row = getattr(decoder.decode(record.key, record.value), "row", None)
            last = row if row is not None else last
        return last

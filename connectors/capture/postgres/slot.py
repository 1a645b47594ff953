"""The replication slot: whether it is ours to use, whether it still has all that we have not read."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import structlog

from connectors.capture.postgres.connection import Connection
from connectors.capture.postgres.position import Position
from connectors.capture.postgres.replication import format_lsn
from connectors.capture.running import CaptureStoppedError, SourceUnavailableError

log = structlog.get_logger()

_FRESH = "Run `rowtide init --snapshot`, then start again."


class Slot:
    """The slot `name` of a source.

    Args:
        application: the application name of our connections: what another of the same name holds is our own left over.
        patience: for how many seconds another's use of the slot is waited out.
        retained_bytes: more WAL than this kept for the slot is worth a warning.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        name: str,
        application: str,
        *,
        patience: float,
        retained_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._application = application
        self._patience = patience
        self._retained_bytes = retained_bytes
        self._clock = clock
        self._occupied_since: float | None = None
        self._warned = False

    def check(self, connection: Connection, position: Position) -> None:
        """Raise where the slot is lost, is another's, or has been moved on beyond what is in the log."""
        row = connection.execute(
            "SELECT wal_status, active_pid, confirmed_flush_lsn - '0/0', plugin FROM pg_catalog.pg_replication_slots "
            "WHERE slot_name = %s AND database = current_database()",
            [self.name],
        ).fetchone()
        if row is None or row[0] == "lost":
            raise self.lost()
        if row[3] != "pgoutput":
            raise CaptureStoppedError(
                f"The replication slot {self.name} is of the plug-in {row[3]}: it is not Rowtide's.",
                hint=f"Run SELECT pg_drop_replication_slot('{self.name}') in the source if nobody needs it. {_FRESH}",
            )
        if row[1] is not None:
            self._occupied(connection, int(row[1]))
        self._occupied_since = None
        if position.reached and int(row[2]) > position.reached:
            raise CaptureStoppedError(
                f"The replication slot {self.name} stands at {format_lsn(int(row[2]))}, but the log ends at "
                f"{format_lsn(position.reached)}: the slot was made anew or moved on, or the log was put back.",
                hint=f"The changes between are lost to the log. {_FRESH}",
            )

    def clear(self, connection: Connection) -> None:
        """Remove what an attempt before the first append has left, so that the slot can be made."""
        row = connection.execute(
            "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [self.name]
        ).fetchone()
        if row is None:
            return
        if row[0] is not None:
            self._occupied(connection, int(row[0]))
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [self.name])
        except psycopg.errors.ObjectInUse:
            raise self._busy() from None
        log.info("slot.dropped", slot=self.name)

    def _occupied(self, connection: Connection, pid: int) -> None:
        ours = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = %s AND application_name = %s",
            [pid, self._application],
        ).fetchone()
        if ours is not None:  # our own, from before the connection was lost
            raise self._busy()
        self._occupied_since = self._clock() if self._occupied_since is None else self._occupied_since
        if self._clock() - self._occupied_since >= self._patience:
            raise CaptureStoppedError(
                f"The replication slot {self.name} is in use by another process (the source's backend {pid}).",
                hint="Stop the other Rowtide that captures this domain, or give this domain another name.",
            )
        raise self._busy()

    def _busy(self) -> SourceUnavailableError:
        return SourceUnavailableError(f"The replication slot {self.name} is still in use.")

    def lost(self) -> CaptureStoppedError:
        """The slot does not have the changes that were never read."""
        return CaptureStoppedError(
            f"The replication slot {self.name} is gone from the source, and with it changes that were never read.",
            hint=f"{_FRESH} Raise max_slot_wal_keep_size if the source dropped it.",
        )

    def limited(self) -> CaptureStoppedError:
        """The source has no room for another slot."""
        return CaptureStoppedError(
            "The source has no replication slot left.",
            hint="Raise max_replication_slots in the source and restart it, or drop slots nobody needs.",
        )

    def watch(self, connection: Connection) -> None:
        """Warn, once each time, while the source keeps much WAL for the slot or may soon drop it."""
        row = connection.execute(
            "SELECT wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, safe_wal_size "
            "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
            [self.name],
        ).fetchone()
        if row is None or row[0] == "lost":
            raise self.lost()
        much = row[0] == "unreserved" or int(row[1] or 0) > self._retained_bytes
        if much and not self._warned:
            log.warning("slot.retains_wal", slot=self.name, bytes=row[1], status=row[0], bytes_left=row[2])
        elif self._warned and not much:
            log.info("slot.caught_up", slot=self.name, bytes=row[1])
        self._warned = much

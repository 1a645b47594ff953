"""What the binlog can hold that capture must not pass over: each with the reason and what to do."""

from __future__ import annotations

from connectors.capture.running import CaptureStoppedError

_ANEW = "Then run `rowtide init --snapshot`, and start again."


def statement_logged(table: str | None) -> CaptureStoppedError:
    """A change was logged as a statement."""
    about = f"a change of {table}" if table else "a routine's call"
    return CaptureStoppedError(
        f"The source logged {about} as a statement, without the changed rows (binlog_format was not ROW).",
        hint=f"Run SET GLOBAL binlog_format = 'ROW' in the source, set it in its configuration, and let no session "
        f"change it. {_ANEW}",
    )


def rows_gone(name: str) -> CaptureStoppedError:
    """A table was dropped, renamed or lost rows without logging them."""
    return CaptureStoppedError(
        f"{name} was dropped, renamed, or had a partition changed in the source: its rows went without being logged.",
        hint="Correct source.sql if the table is gone for good. " + _ANEW,
    )


def rolled_back() -> CaptureStoppedError:
    """A large transaction was undone after a part of it was appended."""
    return CaptureStoppedError(
        "The source logged a large transaction and then its rollback; a part of it is in the log already.",
        hint="It mixed tables with and without transactions: ALTER TABLE ... ENGINE = InnoDB. " + _ANEW,
    )


def two_phase() -> CaptureStoppedError:
    """An XA transaction was prepared."""
    return CaptureStoppedError(
        "The source logged a two-phase (XA) transaction that changes captured tables: its rows come before it is decided.",
        hint="Use ordinary transactions or XA COMMIT ... ONE PHASE there, or capture with Debezium. " + _ANEW,
    )


def partial_update() -> CaptureStoppedError:
    """A change inside a JSON value was logged without the rest."""
    return CaptureStoppedError(
        "The source logged a change inside a JSON value without the rest of it (binlog_row_value_options).",
        hint="Run SET GLOBAL binlog_row_value_options = '' in the source and set it in its configuration. " + _ANEW,
    )


def compressed_transaction() -> CaptureStoppedError:
    """A transaction came in MySQL's compression."""
    return CaptureStoppedError(
        "The source logged a transaction compressed with zstd (binlog_transaction_compression).",
        hint="Run SET GLOBAL binlog_transaction_compression = OFF in the source and set it in its configuration. "
        + _ANEW,
    )


def tagged_gtid() -> CaptureStoppedError:
    """A GTID has a tag, which positions cannot hold."""
    return CaptureStoppedError(
        "The source logged a transaction whose GTID has a tag (gtid_next = 'AUTOMATIC:tag').",
        hint="Use GTIDs without tags in the source. " + _ANEW,
    )


def incident() -> CaptureStoppedError:
    """The source says that its own log has a gap."""
    return CaptureStoppedError(
        "The source's binlog says that changes are missing from it (an incident event).",
        hint="See the source's error log. " + _ANEW,
    )


def binlog_refused(number: int, reason: str, start: str) -> CaptureStoppedError:
    """The server does not send its binlog from our position."""
    return CaptureStoppedError(
        f"The source does not send its binlog from {start} on (error {number}: {reason.rstrip('.')}).",
        hint="If its files were purged, changes that were never read are lost: run `rowtide init --snapshot`, and "
        "raise binlog_expire_logs_seconds in the source.",
    )


def number_taken(number: int) -> CaptureStoppedError:
    """Another replica has our number."""
    return CaptureStoppedError(
        f"Another capture or replica with the number {number} has connected to the source and taken this one's place.",
        hint="Let only one capture of this name run, or give this one another name.",
    )


def may_not_replicate() -> CaptureStoppedError:
    """The user may not read the binlog."""
    return CaptureStoppedError(
        "The source's user may not read the binlog: it lacks REPLICATION SLAVE.",
        hint="Run what `rowtide grants` prints, as an administrator.",
    )


def half_a_transaction(table: str) -> CaptureStoppedError:
    """A table is no longer declared, and a transaction that may have changed it is in the log by half."""
    return CaptureStoppedError(
        f"The table {table} is no longer in source.sql, and half of a large transaction is in the log.",
        hint=f"Put {table} back until capture has gone on for a while, then take it out.",
    )


def other_server() -> CaptureStoppedError:
    """A place in files means nothing on another server."""
    return CaptureStoppedError(
        "The source is another server than before, and without GTIDs a position in its files means nothing.",
        hint="Set gtid_mode = ON in the source. " + _ANEW,
    )

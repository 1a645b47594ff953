"""The rules every capture keeps, whatever its source; a subclass brings a `source` fixture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import structlog
from sources import (
    INTEGER,
    ITEM,
    ITEM_SQL,
    LINE,
    LINE_SQL,
    TEXT,
    Running,
    Source,
    Topic,
    Traffic,
    Watched,
    declared,
    table,
)

from connectors.capture import CaptureStoppedError, Progress
from connectors.capture.anew import ask_for_snapshot
from connectors.event import Boundary, Change, Truncate
from connectors.log import FencedError, Message
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from connectors.table import Column, Table

Setup = Callable[..., Topic]


class CaptureRules:
    """What a user may rely on, whatever the source."""

    @pytest.fixture
    def log(self, database: str) -> Iterator[Watched]:
        migrate(database)
        inner = EmbeddedLog(database)
        yield Watched(inner)
        inner.close()

    @pytest.fixture
    def setup(self, source: Source, log: Watched) -> Setup:
        """Make the tables, let the capturing user in, open a topic."""

        def prepare(tables: Sequence[Table] = (ITEM, LINE), *statements: str) -> Topic:
            source.execute(*(statements or (ITEM_SQL, LINE_SQL)))
            source.allow(tables)
            return Topic(log, "t", tables)

        return prepare

    def follow(self, source: Source, topic: Topic, **options: Any) -> Running:
        return Running(source.capture(list(topic.tables.values()), topic.log, topic.name, **options))

    def catch_up(self, source: Source, topic: Topic, **options: Any) -> None:
        capture = source.capture(list(topic.tables.values()), topic.log, topic.name, **options)
        capture.run_until_now(threading.Event())

    # --- snapshot and stream ---

    def test_snapshot_and_stream_meet_without_gap_or_overlap(self, source: Source, setup: Setup) -> None:
        """Under concurrent writes each commit is either in the snapshot or in the stream, once."""
        topic = setup((Traffic.ENTRY, ITEM), Traffic.ENTRY_SQL, ITEM_SQL)
        with Traffic(source) as traffic:
            topic.wait(lambda: traffic.count() > 20, "some commits before the capture begins")
            with self.follow(source, topic) as running:
                before = traffic.count()
                topic.wait(lambda: traffic.count() > before + 150, "some commits while it runs", running)
                traffic.__exit__(None, None, None)
                topic.wait_equal(source, running)
                running.stop()
        traffic.check(topic)
        snapshot = {change.key for change in topic.changes("entry") if change.op == "r"}
        streamed = {change.key for change in topic.changes("entry") if change.op == "c"}
        assert snapshot
        assert streamed
        assert not snapshot & streamed

    def test_the_snapshot_is_one_unit(self, source: Source, setup: Setup) -> None:
        """BEGIN and END of the snapshot enclose all that it read, so that nobody sees half of it."""
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'a', 1), (2, NULL, NULL)", "INSERT INTO line VALUES (1, 1, '')")
        self.catch_up(source, topic)
        kinds = [
            e.status if isinstance(e, Boundary) else e.op for e in topic.events() if isinstance(e, Boundary | Change)
        ]
        assert kinds == ["BEGIN", "r", "r", "r", "END"]
        assert topic.mirror("item") == {("1",): ("1", "a", "1"), ("2",): ("2", None, None)}
        assert topic.mirror("line") == {("1", "1"): ("1", "1", "")}

    def test_transactions_keep_their_boundaries(self, source: Source, setup: Setup) -> None:
        """A source transaction over several tables is one unit; what was rolled back, to a savepoint too, is not there."""
        topic = setup()
        self.catch_up(source, topic)
        with source.transaction() as session:
            session.execute("INSERT INTO item VALUES (1, 'one', 10)")
            session.execute("INSERT INTO line VALUES (1, 1, 'first'), (1, 2, 'second')")
            session.execute("SAVEPOINT here")
            session.execute("INSERT INTO item VALUES (2, 'undone', 0)")
            session.execute("ROLLBACK TO SAVEPOINT here")
            session.execute("UPDATE item SET amount = 11 WHERE id = 1")
        with pytest.raises(ZeroDivisionError), source.transaction() as session:  # noqa: PT012 - it is rolled back by it
            session.execute("INSERT INTO item VALUES (3, 'undone', 0)")
            raise ZeroDivisionError
        source.execute("DELETE FROM line WHERE no = 2")
        self.catch_up(source, topic)
        units = [[(c.table, c.op, c.key) for c in unit if isinstance(c, Change)] for unit in topic.transactions()]
        assert units == [
            [
                ("item", "c", ("1",)),
                ("line", "c", ("1", "1")),
                ("line", "c", ("1", "2")),
                ("item", "u", ("1",)),
            ],
            [("line", "d", ("1", "2"))],
        ]
        assert topic.mirror("item") == {("1",): ("1", "one", "11")}

    def test_transactions_come_in_the_order_of_their_commits(self, source: Source, setup: Setup) -> None:
        """Who begins first and commits last comes last; business time never goes back."""
        topic = setup()
        self.catch_up(source, topic)
        with source.transaction() as slow:
            slow.execute("INSERT INTO item VALUES (1, 'slow', 1)")
            source.execute("INSERT INTO item VALUES (2, 'quick', 1)")
            slow.execute("INSERT INTO item VALUES (3, 'slow', 1)")
        self.catch_up(source, topic)
        assert [[c.key[0] for c in unit if isinstance(c, Change)] for unit in topic.transactions()] == [
            ["2"],
            ["1", "3"],
        ]
        times = [c.ts_ms for c in topic.changes()]
        assert times == sorted(times)

    def test_keys_move_rows_go_and_nulls_stay(self, source: Source, setup: Setup) -> None:
        """A changed key ends the old row and begins the new one; deletions and NULLs come as they are."""
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, NULL, NULL)")
        self.catch_up(source, topic)
        source.execute(
            "UPDATE item SET id = 10 WHERE id = 1",
            "UPDATE item SET name = NULL, amount = NULL WHERE id = 2",
            "UPDATE item SET name = '' WHERE id = 3",
            "DELETE FROM item WHERE id = 3",
            "INSERT INTO line VALUES (1, 1, 'x')",
            "UPDATE line SET no = 7, note = NULL WHERE no = 1",
            "UPDATE item SET id = 1 WHERE id = 10",
        )
        self.catch_up(source, topic)
        assert topic.mirror("item") == {("1",): ("1", "a", "1"), ("2",): ("2", None, None)}
        assert topic.mirror("line") == {("1", "7"): ("1", "7", None)}
        moves = [c for c in topic.changes("line") if c.key[1] in "17"]
        assert ("d", ("1", "1")) in [(c.op, c.key) for c in moves]

    def test_truncate_empties_the_table(self, source: Source, setup: Setup) -> None:
        """TRUNCATE comes as such, in its place among the changes."""
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'a', 1)", "INSERT INTO line VALUES (1, 1, 'x')")
        self.catch_up(source, topic)
        source.execute(
            "INSERT INTO item VALUES (2, 'b', 1)", "TRUNCATE TABLE item", "INSERT INTO item VALUES (3, 'c', 1)"
        )
        self.catch_up(source, topic)
        assert [e.table for e in topic.events() if isinstance(e, Truncate)] == ["item"]
        assert topic.mirror("item") == {("3",): ("3", "c", "1")}
        assert topic.mirror("line") == source.rows(LINE)

    def test_every_type_is_alike_by_snapshot_and_by_stream(self, source: Source, log: Watched) -> None:
        """Each value of each column type is read by the snapshot as by the stream, and as the text that is expected."""
        tables = declared(source.types)
        for case in source.types:
            source.execute(
                f"CREATE TABLE {case.name} (id integer NOT NULL, value {case.source_type}, PRIMARY KEY (id))"
            )
        source.allow(list(tables.values()))
        topic = Topic(log, "t", list(tables.values()))
        for case in source.types:
            rows = ", ".join(f"({n}, {value})" for n, (value, _) in enumerate(case.values))
            source.execute(f"INSERT INTO {case.name} VALUES {rows}")
        self.catch_up(source, topic)
        for case in source.types:
            rows = ", ".join(f"({n + 100}, {value})" for n, (value, _) in enumerate(case.values))
            source.execute(f"INSERT INTO {case.name} VALUES {rows}")
        self.catch_up(source, topic)
        for case in source.types:
            mirror = topic.mirror(case.name)
            expected = [text for _, text in case.values]
            assert [mirror[str(n),][1] for n in range(len(expected))] == expected, f"{case.name} by the snapshot"
            assert [mirror[str(n + 100),][1] for n in range(len(expected))] == expected, f"{case.name} by the stream"

    def test_other_tables_are_nothing(self, source: Source, setup: Setup) -> None:
        """Tables nobody asked for leave no trace, alone or within a transaction of ours."""
        topic = setup()
        source.execute("CREATE TABLE other (id integer NOT NULL, PRIMARY KEY (id))", "INSERT INTO other VALUES (1)")
        self.catch_up(source, topic)
        before = len(topic.records())
        source.execute("INSERT INTO other VALUES (2)", "UPDATE other SET id = 3 WHERE id = 2")
        self.catch_up(source, topic)
        assert [r for r in topic.records()[before:] if r.key is not None] == []
        with source.transaction() as session:
            session.execute("INSERT INTO other VALUES (4)")
            session.execute("INSERT INTO item VALUES (1, 'a', 1)")
            session.execute("DELETE FROM other WHERE id = 4")
        self.catch_up(source, topic)
        assert [[(c.table, c.op) for c in unit if isinstance(c, Change)] for unit in topic.transactions()] == [
            [("item", "c")]
        ]

    def test_a_large_transaction_goes_in_pieces(self, source: Source, setup: Setup, log: Watched) -> None:
        """However large a transaction, no append holds more than a piece of it, in rows and in bytes."""
        topic = setup()
        self.catch_up(source, topic)
        longest = []
        log.before_append = lambda messages: longest.append(sum(len(m.value or b"") for m in messages))
        with source.transaction() as session:
            for start in range(0, 12_000, 2000):
                rows = ", ".join(f"({n}, 'x', {n})" for n in range(start, start + 2000))
                session.execute(f"INSERT INTO item VALUES {rows}")
            session.execute("UPDATE item SET name = 'y'")
        self.catch_up(source, topic)
        assert max(log.sizes) <= 5000
        assert max(longest) <= 8 * 1024 * 1024
        assert [len(unit) for unit in topic.transactions()] == [24_000]
        assert topic.mirror("item") == source.rows(ITEM)

    # --- time ---

    def test_a_heartbeat_tells_business_time(self, source: Source, setup: Setup) -> None:
        """While the source is idle, business time goes on and the stored position with it."""
        topic = setup()
        with self.follow(
            source, topic, heartbeat_seconds=0.2, to_business_ms=lambda ms: ms + 1_000_000_000_000
        ) as running:
            topic.wait(lambda: len(topic.heartbeats()) >= 3, "three heartbeats", running)
            source.execute("INSERT INTO item VALUES (1, 'a', 1)")
            topic.wait(lambda: topic.changes("item"), "the change", running)
            running.stop()
        beats = [beat.ts_ms for beat in topic.heartbeats()]
        assert beats == sorted(beats)
        assert len(set(beats)) >= 3
        assert topic.changes("item")[0].ts_ms > 2_000_000_000_000
        assert topic.changes("item")[0].ts_ms >= beats[2] - 1000, "MySQL tells commits in whole seconds"

    # --- the source's shape changes ---

    def test_columns_nobody_asked_for_come_and_go(self, source: Source, setup: Setup) -> None:
        """A column that is not declared may be added, renamed and dropped while the stream runs."""
        topic = setup()
        with self.follow(source, topic) as running:
            source.execute(
                "INSERT INTO item VALUES (1, 'a', 1)",
                "ALTER TABLE item ADD COLUMN extra integer",
                "INSERT INTO item VALUES (2, 'b', 2, 7)",
                "ALTER TABLE item RENAME COLUMN extra TO other",
                "UPDATE item SET other = 8, name = 'bb' WHERE id = 2",
                "ALTER TABLE item DROP COLUMN other",
                "INSERT INTO item VALUES (3, 'c', 3)",
            )
            topic.wait_equal(source, running)
            running.stop()

    @pytest.mark.parametrize("change", ["RENAME COLUMN amount TO total", "DROP COLUMN amount"])
    def test_a_needed_column_that_goes_is_a_stop(self, source: Source, setup: Setup, change: str) -> None:
        """Without a declared column capture stops, names it, and keeps what was committed before."""
        topic = setup()
        with self.follow(source, topic, heartbeat_seconds=0.2) as running:
            topic.wait(topic.heartbeats, "the stream", running)
            source.execute(
                "INSERT INTO item VALUES (1, 'a', 1)", f"ALTER TABLE item {change}", "UPDATE item SET name = 'z'"
            )
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "item" in error.message
        assert "amount" in error.message
        assert "source.sql" in error.hint
        assert topic.mirror("item")["1",] == ("1", "a", "1")

    def test_an_optional_column_reads_as_null_until_it_is_there(self, source: Source, setup: Setup) -> None:
        """A column declared optional may be missing, by snapshot and by stream, and may come later."""
        item = Table("item", (*ITEM.columns, Column("extra", INTEGER, optional=True)), ("id",))
        topic = setup((item,), ITEM_SQL)
        source.execute("INSERT INTO item VALUES (1, 'a', 1)")
        self.catch_up(source, topic)
        source.execute(
            "INSERT INTO item VALUES (2, 'b', 2)",
            "ALTER TABLE item ADD COLUMN extra integer",
            "INSERT INTO item VALUES (3, 'c', 3, 9)",
        )
        self.catch_up(source, topic)
        assert {key[0]: row[3] for key, row in topic.mirror("item").items()} == {"1": None, "2": None, "3": "9"}

    # --- interruptions ---

    def test_a_cut_connection_is_made_again(self, source: Source, setup: Setup) -> None:
        """Cut and healed under writes, several times: nothing lost, nothing twice; the log tells each change of state once."""
        topic = setup((Traffic.ENTRY, ITEM), Traffic.ENTRY_SQL, ITEM_SQL)
        with (
            structlog.testing.capture_logs() as lines,
            Traffic(source) as traffic,
            self.follow(source, topic) as running,
        ):
            topic.wait(topic.snapshot_done, "the snapshot", running)
            for _ in range(3):
                before = len(topic.changes())
                topic.wait(lambda before=before: len(topic.changes()) > before + 30, "it captures", running)
                told = _count(lines, "capture.reconnecting")
                source.link.cut()
                topic.wait(
                    lambda told=told: _count(lines, "capture.reconnecting") > told, "the cut is noticed", running
                )
                source.link.heal()
            traffic.__exit__(None, None, None)
            topic.wait_equal(source, running)
            running.stop()
        traffic.check(topic)
        topic.transactions()
        assert _count(lines, "capture.connected") >= 4
        assert source.password not in str(lines)

    def test_a_server_that_restarts_is_found_again(self, source: Source, setup: Setup) -> None:
        """The server goes and comes back: capture goes on where it was."""
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'a', 1)")
        with self.follow(source, topic) as running:
            topic.wait(lambda: topic.mirror("item"), "the snapshot", running)
            source.execute("INSERT INTO item VALUES (2, 'b', 2)")
            source.restart()
            source.execute("INSERT INTO item VALUES (3, 'c', 3)", "DELETE FROM item WHERE id = 1")
            topic.wait_equal(source, running)
            running.stop()
        assert [(c.op, c.key[0]) for c in topic.changes("item")] == [("r", "1"), ("c", "2"), ("c", "3"), ("d", "1")]

    def test_it_goes_on_from_the_stored_position(self, source: Source, setup: Setup) -> None:
        """Stopped and started again, many times, with writes between and meanwhile: each commit is there once."""
        topic = setup((Traffic.ENTRY, ITEM), Traffic.ENTRY_SQL, ITEM_SQL)
        with Traffic(source) as traffic:
            self.catch_up(source, topic)
            for _ in range(4):
                with self.follow(source, topic) as running:
                    before = len(topic.changes())
                    topic.wait(lambda before=before: len(topic.changes()) > before + 20, "it captures", running)
                    running.stop()
        self.catch_up(source, topic)
        traffic.check(topic)
        assert topic.mirror("item") == source.rows(ITEM)
        assert sum(isinstance(e, Boundary) and e.transaction.startswith("snapshot:") for e in topic.events()) == 2

    def test_a_snapshot_shows_progress_and_resumes(self, source: Source, setup: Setup) -> None:
        """Interrupted after its first portion, the snapshot goes on from there, though rows changed on both sides of it."""
        topic = setup()
        for start in range(0, 12_000, 2000):
            source.execute(
                "INSERT INTO item VALUES " + ", ".join(f"({n}, 'x', {n})" for n in range(start, start + 2000))
            )
        source.execute("INSERT INTO line VALUES (1, 1, 'x')")
        seen: list[Progress] = []
        stop = threading.Event()

        def progress(step: Progress) -> None:
            seen.append(step)
            stop.set()

        source.capture(list(topic.tables.values()), topic.log, "t", on_progress=progress).run(stop)
        assert [step.table for step in seen] == ["item"]
        assert 0 < seen[0].rows < 12_000
        assert seen[0].estimate >= seen[0].rows
        first = len(topic.changes("item"))
        assert first == seen[0].rows
        source.execute(
            "UPDATE item SET name = 'seen' WHERE id = 10",
            "UPDATE item SET name = 'unseen' WHERE id = 11500",
            "DELETE FROM item WHERE id IN (20, 11600)",
            "UPDATE item SET id = 30000 WHERE id = 30",
            "UPDATE item SET id = -5 WHERE id = 11700",
            "INSERT INTO item VALUES (-1, 'before', 0), (40000, 'behind', 0)",
            "UPDATE line SET note = 'y'",
        )
        source.capture(list(topic.tables.values()), topic.log, "t", on_progress=seen.append).run_until_now(
            threading.Event()
        )
        assert _difference(topic.mirror("item"), source.rows(ITEM)) == {}
        assert topic.mirror("line") == source.rows(LINE)
        read = [c for c in topic.changes("item") if c.op == "r"]
        assert len(read) < 12_000 + 100, "what was read before the interruption is not read again"
        assert [step.rows for step in seen if step.table == "item"] == sorted(s.rows for s in seen if s.table == "item")
        ends = [e for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
        assert [e.status for e in ends] == ["BEGIN", "END"]
        source.execute("INSERT INTO item VALUES (50000, 'later', 1)")
        self.catch_up(source, topic)
        assert topic.mirror("item") == source.rows(ITEM)

    # --- read anew ---

    def test_a_table_declared_later_is_read_beside_the_stream(self, source: Source, setup: Setup, log: Watched) -> None:
        """Under writes: its rows come as one unit, no commit of the other table is lost or repeated."""
        both = setup((Traffic.ENTRY, ITEM), Traffic.ENTRY_SQL, ITEM_SQL)
        topic = Topic(log, "t", (Traffic.ENTRY,))
        with Traffic(source) as traffic:
            self.catch_up(source, topic)
            before = traffic.count()
            topic.wait(lambda: traffic.count() > before + 20, "traffic")
            assert both.changes("item") == []
            self.catch_up(source, both)
            with self.follow(source, both) as running:
                before = len(both.changes("item"))
                both.wait(lambda: len(both.changes("item")) > before + 20, "it captures both", running)
        self.catch_up(source, both)
        traffic.check(both)
        assert both.mirror("item") == source.rows(ITEM)
        assert self.snapshots(both) == ["BEGIN", "END", "BEGIN", "END"]

    @pytest.mark.parametrize("tables", [None, ["item"]])
    def test_a_snapshot_that_is_asked_for_replaces_the_rows(
        self, source: Source, setup: Setup, log: Watched, tables: list[str] | None
    ) -> None:
        """Asked for under a running capture and under writes: rows that vanished meanwhile go, in the snapshot's unit.

        The capture that runs is fenced; the next one reads, and each row is at the end as the source has it.
        """
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'goes', 1), (2, 'stays', 2)", "INSERT INTO line VALUES (1, 1, 'x')")
        with self.follow(source, topic) as running:
            topic.wait(topic.snapshot_done, "the snapshot", running)
            assert ask_for_snapshot(log, "t", tables)
            source.execute("DELETE FROM item WHERE id = 1", "INSERT INTO item VALUES (3, 'comes', 3)")
            assert isinstance(running.error(), FencedError)
        assert len(topic.mirror("item")) == 2, "nothing is appended by the one that was fenced"
        self.catch_up(source, topic)
        assert topic.mirror("item") == source.rows(ITEM)
        assert topic.mirror("line") == source.rows(LINE)
        assert self.snapshots(topic) == ["BEGIN", "END", "BEGIN", "END"]
        emptied = [e.table for e in topic.events() if isinstance(e, Truncate)]
        assert emptied == (["item", "line"] if tables is None else ["item"])
        source.execute("UPDATE item SET amount = 5")
        self.catch_up(source, topic)
        assert topic.mirror("item") == source.rows(ITEM)

    def test_a_snapshot_asked_for_is_the_way_out_of_lost_changes(self, source: Source, setup: Setup) -> None:
        """Where the source no longer has what was not read, a new snapshot into the same topic tells the difference."""
        topic = setup()
        source.execute("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)")
        self.catch_up(source, topic)
        source.execute("DELETE FROM item WHERE id = 1")
        source.forget(ITEM)
        source.execute("UPDATE item SET amount = 7")
        with self.follow(source, topic) as running:
            assert isinstance(running.error(), CaptureStoppedError)
        assert ask_for_snapshot(topic.log, topic.name)
        self.catch_up(source, topic)
        assert topic.mirror("item") == source.rows(ITEM) != {}
        source.execute("DELETE FROM item")
        self.catch_up(source, topic)
        assert topic.mirror("item") == {}

    def test_a_paused_capture_appends_nothing_once_another_has(
        self, source: Source, setup: Setup, log: Watched
    ) -> None:
        """What it had read before the pause is the other's by then: it is refused, and nothing is there twice."""
        topic = setup((ITEM,), ITEM_SQL)
        self.catch_up(source, topic)
        reached, go_on = threading.Event(), threading.Event()

        def pause(messages: Sequence[Message]) -> None:
            if any(b"paused" in (message.value or b"") for message in messages):
                log.before_append = lambda messages: None
                reached.set()
                assert go_on.wait(30)

        log.before_append = pause
        with self.follow(source, topic) as running:
            source.execute("INSERT INTO item VALUES (1, 'paused', 1)")
            assert reached.wait(30)
            source.link.cut()
            source.link.heal()
            self.catch_up(source, topic)
            source.execute("INSERT INTO item VALUES (2, 'later', 2)")
            self.catch_up(source, topic)
            go_on.set()
            assert isinstance(running.error(), FencedError)
        self.catch_up(source, topic)
        assert [change.key for change in topic.changes("item")] == [("1",), ("2",)]

    def snapshots(self, topic: Topic) -> list[str]:
        """The boundaries of the snapshots' units."""
        events = [e for e in topic.events() if isinstance(e, Boundary)]
        return [e.status for e in events if e.transaction.startswith("snapshot:")]

    # --- what a person has to mend ---

    def test_lost_changes_are_a_stop(self, source: Source, setup: Setup) -> None:
        """Where the source no longer has what was not read, capture stops and says what to do; it never skips."""
        topic = setup()
        self.catch_up(source, topic)
        source.execute("INSERT INTO item VALUES (1, 'a', 1)")
        source.forget(ITEM)
        source.execute("INSERT INTO item VALUES (2, 'b', 2)")
        with self.follow(source, topic) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "snapshot" in error.hint
        assert topic.changes("item") == []

    @pytest.mark.parametrize("fault", ["wrong password", "absent database"])
    def test_a_refused_connection_is_a_stop(self, source: Source, setup: Setup, fault: str) -> None:
        """A wrong password or database is told at once, not tried for ever, and never with the password."""
        topic = setup()
        with self.follow(source, topic, fault=fault) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "source.dsn" in error.hint
        assert source.password not in str(error)

    def test_a_missing_table_is_a_stop(self, source: Source, setup: Setup) -> None:
        """The table is named."""
        topic = setup()
        with Running(source.capture([ITEM, table("absent", "id", id=INTEGER)], topic.log, "t")) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "absent" in error.message
        assert "source.sql" in error.hint

    def test_a_missing_column_is_a_stop(self, source: Source, setup: Setup) -> None:
        """The column is named before anything is read."""
        topic = setup()
        wider = Table("item", (*ITEM.columns, Column("extra", TEXT)), ("id",))
        with Running(source.capture([wider], topic.log, "t")) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "item" in error.message
        assert "extra" in error.message
        assert topic.records() == []

    def test_a_missing_right_is_a_stop(self, source: Source, setup: Setup) -> None:
        """A table that may not be read is named, with the command that prints the grants."""
        topic = setup()
        source.forbid(LINE)
        with self.follow(source, topic) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "line" in error.message
        assert "rowtide grants" in error.hint

    def test_a_missing_key_is_a_stop(self, source: Source, log: Watched) -> None:
        """A table whose declared key does not identify rows in the source is refused."""
        source.execute("CREATE TABLE item (id integer NOT NULL, name varchar(200), amount integer)")
        source.allow([ITEM])
        topic = Topic(log, "t", [ITEM])
        with self.follow(source, topic) as running:
            error = running.error()
        assert isinstance(error, CaptureStoppedError)
        assert "item" in error.message
        assert "key" in error.message

    def test_an_unreachable_server_is_tried_again(self, source: Source, setup: Setup) -> None:
        """The pauses grow to a bound; one line tells it, with a reason and without the password; one that it is back."""
        topic = setup()
        source.link.cut()
        pauses: list[float] = []

        def wait(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 9:
                source.link.heal()

        with structlog.testing.capture_logs() as lines, self.follow(source, topic, wait=wait) as running:
            topic.wait(topic.records, "it is connected", running)
            running.stop()
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
        states = [line for line in lines if line["event"].startswith("capture.")]
        assert [line["event"] for line in states] == ["capture.reconnecting", "capture.connected"]
        assert states[0]["reason"]
        assert source.password not in str(lines)


def _count(lines: Sequence[Any], event: str) -> int:
    return sum(line["event"] == event for line in lines)


def _difference(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> dict[Any, Any]:
    """What differs, by key: a thousand equal rows tell nothing."""
    return {
        key: (left.get(key), right.get(key)) for key in left.keys() | right.keys() if left.get(key) != right.get(key)
    }

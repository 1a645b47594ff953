"""Foreign keys whose effects the source does not tell: the mirror has them all the same, row for row."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from cascading import KEYS, TABLES, Following, constrain, create, random_statement, rows, table, unit

from connectors.event import Change, ForeignKey, ForeignKeys, Truncate
from connectors.state import migrate
from connectors.table import Table
from consumers.engine import foreignkeys
from consumers.engine.cascades import Cascades
from consumers.engine.units import Unit

MS = 1_700_000_000_000


@pytest.fixture
def connections(database: str) -> Iterator[list[psycopg.Connection[Any]]]:
    opened = [psycopg.connect(database) for _ in range(2)]
    yield opened
    for connection in opened:
        connection.close()


class Source:
    """A PostgreSQL whose foreign keys act; tells only what statements name, as MySQL's log does."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        connection.execute("CREATE SCHEMA source")
        for statement in create(TABLES, "source.") + constrain(KEYS, "source."):
            connection.execute(statement)
        connection.commit()
        self._position = 0

    def transaction(self, rng: random.Random) -> list[Change | Truncate]:
        """A transaction of random statements; those that the source refuses are taken back, and it goes on."""
        told: list[Change | Truncate] = []
        with self.connection.transaction():
            for _ in range(rng.choice([1, 2, 4, 8])):
                try:
                    with self.connection.transaction():
                        told += self._statement(*random_statement(rng))
                except (psycopg.errors.IntegrityError, psycopg.errors.TriggeredDataChangeViolation):
                    continue
        return told

    def _statement(self, name: str, condition: str, what: str | None) -> list[Change]:
        found = TABLES[name]
        after = ", ".join(f"{column}::text" for column in found.names)
        self._position += 100
        if what is None:
            gone = self.connection.execute(f"DELETE FROM source.{name} WHERE {condition} RETURNING {after}").fetchall()
            return [self._change(found, "d", row, number) for number, row in enumerate(gone)]
        if what.startswith("INSERT"):
            row = self.connection.execute(f"{what.format('source.')} RETURNING {after}").fetchone()
            assert row is not None
            return [self._change(found, "c", row, 0)]
        pairs = self.connection.execute(
            f"WITH o AS (SELECT ctid AS place, * FROM source.{name} WHERE {condition} ORDER BY {', '.join(found.key)}) "
            f"UPDATE source.{name} AS t SET {what.replace('= id', '= t.id')} FROM o WHERE o.place = t.ctid "
            f"RETURNING {', '.join(f'o.{c}::text' for c in found.names)}, {', '.join(f't.{c}::text' for c in found.names)}"
        ).fetchall()
        told = []
        for number, pair in enumerate(pairs):
            before, row = pair[: len(found.names)], pair[len(found.names) :]
            if self._key(found, before) == self._key(found, row):
                told.append(self._change(found, "u", row, number))
            else:
                told.append(self._change(found, "d", before, number))
                told.append(self._change(found, "c", row, number))
        return told

    def _key(self, found: Table, row: tuple[Any, ...]) -> tuple[str, ...]:
        return tuple(row[place] for place in found.key_positions)

    def _change(self, found: Table, op: Any, row: tuple[Any, ...], number: int) -> Change:
        after = None if op == "d" else row
        return Change(
            found.name, op, self._key(found, row), after, MS, cascades=True, place=("bin", self._position, number)
        )

    def rows(self) -> dict[str, list[tuple[str | None, ...]]]:
        with self.connection.transaction():
            return {name: rows(self.connection, found, "source.") for name, found in TABLES.items()}


def test_random_histories_leave_the_mirror_as_the_source(connections: list[psycopg.Connection[Any]], seed: int) -> None:
    """Random transactions, random batch cuts, batches repeated: after every batch the mirror equals the source.

    The children's events are withheld; several levels, trees, cycles, composite keys and keys that move are in it.
    """
    print(f"seed {seed}")
    rng = random.Random(seed)
    source, following = Source(connections[0]), Following(connections[1], TABLES, KEYS)
    offset = effects = batches = 0
    while batches < 150 or (effects < 150 and batches < 2000):
        units: list[Unit] = []
        for _ in range(rng.choice([1, 1, 3, 12])):
            told = source.transaction(rng)
            if told:
                units.append(unit(told, offset))
                offset += len(told)
        expanded = following.apply(units)
        effects += sum(len(u.changes) for u in expanded) - sum(len(u.changes) for u in units)
        assert following.rows() == source.rows(), f"seed {seed}, batch {batches}"
        batches += 1
    assert effects >= 150


PARENT = table("parent", "id integer, v text", "id")
CHILD = table("child", "id integer, parent_id integer, v text", "id")
SMALL = {"parent": PARENT, "child": CHILD}


def key(on_delete: str = "CASCADE", on_update: str = "CASCADE") -> ForeignKey:
    return ForeignKey("f", "child", ("parent_id",), "parent", ("id",), on_delete, on_update)


def change(name: str, op: Any, row: tuple[str | None, ...], **more: Any) -> Change:
    more = {"cascades": True, **more}
    return Change(name, op, (str(row[0]),), None if op == "d" else row, MS, **more)


def small(connection: psycopg.Connection[Any], told: ForeignKey) -> Following:
    following = Following(connection, SMALL, [told])
    start = [change("parent", "c", ("1", "a")), change("parent", "c", ("2", "b"))]
    start += [
        change("child", "c", ("10", "1", "x")),
        change("child", "c", ("11", "1", "y")),
        change("child", "c", ("12", "2", "z")),
    ]
    following.apply([unit(start, 0)])
    return following


@pytest.mark.parametrize(
    ("action", "children"),
    [
        ("CASCADE", [("12", "2", "z")]),
        ("SET NULL", [("10", None, "x"), ("11", None, "y"), ("12", "2", "z")]),
        ("SET DEFAULT", [("10", "1", "x"), ("11", "1", "y"), ("12", "2", "z")]),
        ("RESTRICT", [("10", "1", "x"), ("11", "1", "y"), ("12", "2", "z")]),
        ("NO ACTION", [("10", "1", "x"), ("11", "1", "y"), ("12", "2", "z")]),
    ],
)
def test_what_a_deletion_does(connections: list[psycopg.Connection[Any]], action: str, children: list[Any]) -> None:
    following = small(connections[0], key(on_delete=action))
    following.apply([unit([change("parent", "d", ("1",))], 9)])
    assert following.rows() == {"parent": [("2", "b")], "child": children}


@pytest.mark.parametrize(
    ("action", "children"),
    [
        ("CASCADE", [("10", "7", "x"), ("11", "7", "y"), ("12", "2", "z")]),
        ("SET NULL", [("10", None, "x"), ("11", None, "y"), ("12", "2", "z")]),
        ("RESTRICT", [("10", "1", "x"), ("11", "1", "y"), ("12", "2", "z")]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_a_change_of_key_does(
    connections: list[psycopg.Connection[Any]], action: str, children: list[Any], together: bool
) -> None:
    """A deletion and a creation with one place are one change of a key: the children are not deleted, in one unit or two."""
    following = small(connections[0], key(on_delete="CASCADE", on_update=action))
    halves = [change("parent", "d", ("1",), place=("f", 5, 0)), change("parent", "c", ("7", "a"), place=("f", 5, 0))]
    following.apply([unit(halves, 9)] if together else [unit(halves[:1], 9), unit(halves[1:], 10)])
    assert following.rows() == {"parent": [("2", "b"), ("7", "a")], "child": children}


def test_a_deletion_and_an_insertion_are_no_change_of_key(connections: list[psycopg.Connection[Any]]) -> None:
    """With places of their own, or none, the children of the deleted parent go."""
    for place, other in ((("f", 5, 0), ("f", 6, 0)), (("f", 5, 0), ("f", 5, 1)), (None, None)):
        with connections[0].transaction(force_rollback=True):
            following = small_in_transaction(connections[0])
            pair = [change("parent", "d", ("1",), place=place), change("parent", "c", ("7", "a"), place=other)]
            expanded = following.cascades.expand(following.pipe, [unit(pair, 9)])
            assert sorted(c.event.key for c in expanded[0].changes if c.event.table == "child") == [("10",), ("11",)]


def small_in_transaction(connection: psycopg.Connection[Any]) -> Following:
    following = Following(connection, SMALL, [key()])
    connection.execute("INSERT INTO parent VALUES (1, 'a'), (2, 'b')")
    connection.execute("INSERT INTO child VALUES (10, 1, 'x'), (11, 1, 'y'), (12, 2, 'z')")
    return following


def test_a_child_inserted_behind_its_parents_return_stays(connections: list[psycopg.Connection[Any]]) -> None:
    """What follows is computed at the parent's event, in order, though a batch writes each row's last image."""
    following = small(connections[0], key())
    following.apply(
        [
            unit([change("child", "u", ("12", "1", "z")), change("child", "u", ("11", "2", "y"))], 9),
            unit([change("parent", "d", ("1",))], 11),
            unit([change("parent", "c", ("1", "again")), change("child", "c", ("10", "1", "new"))], 12),
        ]
    )
    assert following.rows() == {"parent": [("1", "again"), ("2", "b")], "child": [("10", "1", "new"), ("11", "2", "y")]}


def test_the_effect_stands_behind_its_cause_in_the_same_unit(connections: list[psycopg.Connection[Any]]) -> None:
    following = small(connections[0], key("SET NULL"))
    units = [unit([change("child", "u", ("12", "2", "q"))], 9), unit([change("parent", "d", ("2",))], 10)]
    expanded = following.cascades.expand(following.pipe, units)
    assert expanded[0] is units[0]
    assert [(c.event.table, c.event.op, c.record.offset) for c in expanded[1].changes] == [  # type: ignore[union-attr]
        ("parent", "d", 10),
        ("child", "u", 10),
    ]
    assert [len(u.changes) for u in units] == [1, 1]


@pytest.mark.parametrize("cascades", [True, False])
def test_checks_switched_off_and_sources_that_tell_all(
    connections: list[psycopg.Connection[Any]], cascades: bool
) -> None:
    """Where the session had switched the checks off, or the source sends the children's events, nothing is added."""
    following = small(connections[0], key())
    deletion = [change("parent", "d", ("1",), cascades=cascades)]
    # Even where the mirror follows, the source's own events for the children change nothing more.
    children = [change("child", "d", ("10",)), change("child", "d", ("11",))]
    expanded = following.cascades.expand(following.pipe, [unit(deletion, 9)])
    assert (len(expanded[0].changes) == 3) is cascades
    following.apply([unit(deletion + children, 9)])
    assert following.rows() == {"parent": [("2", "b")], "child": [("12", "2", "z")]}


def test_truncated_children_are_gone(connections: list[psycopg.Connection[Any]]) -> None:
    following = small(connections[0], key("SET NULL"))
    following.apply(
        [unit([Truncate("child", MS), change("child", "c", ("12", "1", "n")), change("parent", "d", ("1",))], 9)]
    )
    assert following.rows() == {"parent": [("2", "b")], "child": [("12", None, "n")]}


def test_a_batch_that_causes_nothing_is_handed_on_as_it_is(connections: list[psycopg.Connection[Any]]) -> None:
    """Without a deletion of a parent nothing is read and nothing is copied."""
    cascades = Cascades(SMALL, [key()])
    units = [unit([change("child", "d", ("10",)), change("parent", "u", ("1", "x"))], 0)]
    assert cascades.expand(None, units) is units  # type: ignore[arg-type]
    assert Cascades(SMALL, []).expand(None, [unit([change("parent", "d", ("1",))], 0)])  # type: ignore[arg-type]


def test_values_are_found_however_they_are_spelled(connections: list[psycopg.Connection[Any]]) -> None:
    """A decimal's zeros and a timestamp's fraction do not hide a child."""
    at = "timestamp without time zone"
    tables = {
        "parent": Table(
            "parent", table("x", f"n numeric(6,2), at {at}", "n at").columns[:0] + _columns(at), ("n", "at")
        ),
        "child": Table("child", _columns(at, "id integer"), ("id",)),
    }
    told = ForeignKey("f", "CHILD", ("N", "At"), "Parent", ("n", "at"), "CASCADE", "CASCADE")
    following = Following(connections[0], tables, [told])
    following.apply(
        [
            unit(
                [
                    Change(
                        "parent", "c", ("1.5", "2024-01-01 00:00:00.500000"), ("1.5", "2024-01-01 00:00:00.500000"), MS
                    ),
                    Change("child", "c", ("1",), ("1", "1.50", "2024-01-01 00:00:00.5"), MS),
                ],
                0,
            )
        ]
    )
    following.apply(
        [
            unit(
                [
                    Change("child", "c", ("2",), ("2", "1.500", "2024-01-01 00:00:00.50"), MS),
                    Change("parent", "d", ("1.5", "2024-01-01 00:00:00.500000"), None, MS, cascades=True),
                ],
                2,
            )
        ]
    )
    assert following.rows() == {"parent": [], "child": []}


def _columns(at: str, *first: str) -> Any:
    names = ", ".join([*first, "n numeric(6,2)"])
    return (*(c for c in table("x", names.replace("(6,2)", ""), "").columns), *table("x", f"at {at}", "").columns)


def test_foreign_keys_that_cannot_be_followed_are_told() -> None:
    """A parent or a column that is not declared, or types that differ: named, with what to declare."""
    keys = [
        ForeignKey("f1", "child", ("parent_id",), "elsewhere", ("id",), "CASCADE"),
        ForeignKey("f2", "child", ("missing_id",), "parent", ("id",), "CASCADE"),
        ForeignKey("f3", "child", ("v",), "parent", ("id",), "CASCADE"),
        ForeignKey("f4", "child", ("parent_id",), "parent", ("id",), "RESTRICT", "NO ACTION"),
        ForeignKey("f5", "elsewhere", ("parent_id",), "parent", ("id",), "CASCADE"),
    ]
    cascades = Cascades(SMALL, keys)
    assert cascades.links == []
    assert [(gap.name, gap.table) for gap in cascades.gaps] == [("f1", "child"), ("f2", "child"), ("f3", "child")]
    assert "Declare elsewhere in source.sql" in cascades.gaps[0].hint
    assert "child is declared without missing_id" in cascades.gaps[1].reason


def test_foreign_keys_are_kept_replaced_and_indexed(database: str) -> None:
    """What the source tells replaces what it told before; referring columns get an index where none begins with them."""
    migrate(database)
    with psycopg.connect(database) as connection:
        following = Following(connection, SMALL, [])
        told = (key(), ForeignKey("g", "other", ("a", "b"), "parent", ("x", "y"), "NO ACTION", "SET NULL"))
        foreignkeys.store(following.pipe, "one", ForeignKeys(told, MS), SMALL)
        foreignkeys.store(following.pipe, "two", ForeignKeys(told[:1], MS), SMALL)
        assert foreignkeys.load(following.pipe, "one") == told
        foreignkeys.store(following.pipe, "one", ForeignKeys((), MS), SMALL)
        assert foreignkeys.load(following.pipe, "one") == ()
        assert foreignkeys.load(following.pipe, "two") == told[:1]
        found = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'child' ORDER BY 1").fetchall()
        assert len(found) == 2
        assert found[0][0].endswith("(parent_id)")

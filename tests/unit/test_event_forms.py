"""Every form of message that the connectors write becomes the right event, or is refused with the way out."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from event_messages import (
    DECODED,
    KEY,
    MARIADB,
    POSTGRES,
    ROW,
    TABLE,
    TYPED_DECODED,
    TYPED_ROW,
    change,
    fields,
    schema,
    wire,
)

from connectors.event import (
    UNAVAILABLE,
    Boundary,
    Change,
    Decoder,
    EventRefusedError,
    ForeignKey,
    ForeignKeys,
    Heartbeat,
    Ignored,
    Truncate,
    encode_foreign_keys,
)

decoder = Decoder([TABLE])
KEYED = wire(KEY)
SECRET = "s3cret-value"
DDL = {"databaseName": "sakila", "ddl": "DROP DATABASE IF EXISTS `sakila`"}


def with_schema(payload: dict[str, Any]) -> bytes:
    return wire({"schema": schema(fields()), "payload": payload})


def refused(key: bytes | None, value: bytes | None) -> EventRefusedError:
    with pytest.raises(EventRefusedError) as caught:
        decoder.decode(key, value)
    return caught.value


@pytest.mark.parametrize("key", [KEYED, wire({"schema": {"type": "struct"}, "payload": KEY}), None, b"null"])
@pytest.mark.parametrize(
    ("value", "row"),
    [(wire(change("c")), DECODED), (with_schema(change("c", after=TYPED_ROW)), TYPED_DECODED)],
    ids=["bare", "schema"],
)
def test_key_and_value_have_their_schemas_independently(key: bytes | None, value: bytes, row: tuple[str, ...]) -> None:
    """The four combinations of keys and values with and without schema are one event, with any key or none."""
    expected = Change(
        "thing", "c", ("7", "a"), row, 1700000000000, "0-1-4114",
        cascades=True, place=("mariadb-bin.000002", 1234, 0), order=1,
    )  # fmt: skip
    assert decoder.decode(key, value) == expected


@pytest.mark.parametrize(
    ("key", "before"),
    [
        (wire(KEY), None),
        (wire({"schema": {"type": "struct"}, "payload": KEY}), None),
        (wire({"ID": 7, "Code": "a"}), {"id": 1, "code": "invented"}),
        (None, {**dict.fromkeys(ROW), **KEY}),
        (b"null", {**dict.fromkeys(ROW), **KEY}),
    ],
)
def test_a_deletion_is_named_by_the_key_then_by_before(key: bytes | None, before: dict[str, Any] | None) -> None:
    """The message's key names the row; `before`, whose values PostgreSQL invents, only where there is no key."""
    event = decoder.decode(key, wire(change("d", before=before)))
    assert isinstance(event, Change)
    assert (event.op, event.key, event.row) == ("d", ("7", "a"), None)


def test_a_key_of_one_column_may_be_a_bare_value() -> None:
    """A transform that extracts the key's only field leaves a number or text."""
    single = Decoder([type(TABLE)("thing", TABLE.columns, ("id",))])
    event = single.decode(b"7", wire(change("d")))
    assert isinstance(event, Change)
    assert event.key == ("7",)


@pytest.mark.parametrize("key", [KEYED, None])
@pytest.mark.parametrize(
    "value",
    [None, b"null", wire({"schema": None, "payload": None}), wire({"schema": {"type": "struct"}, "payload": None})],
)
def test_tombstones_are_ignored(key: bytes | None, value: bytes | None) -> None:
    assert decoder.decode(key, value) == Ignored("tombstone")


@pytest.mark.parametrize(
    "value",
    [
        {"ts_ms": 1700000000000},
        {"ts_ms": 1700000000000, "ts_us": 1700000000000000, "ts_ns": 1700000000000000000},
        {
            "schema": {"type": "struct", "name": "io.debezium.connector.common.Heartbeat"},
            "payload": {"ts_ms": 1700000000000},
        },
    ],
)
def test_heartbeats(value: dict[str, Any]) -> None:
    assert decoder.decode(wire({"serverName": "shop"}), wire(value)) == Heartbeat(1700000000000)


@pytest.mark.parametrize(
    ("id_", "group"),
    [("0-1-4114", "0-1-4114"), ("555:24023128", "555"), ("file=mysql-bin.000003,pos=5", "file=mysql-bin.000003,pos=5"),
     ("24DA167-0C0C-11E8-8442-00059A3C7B00:19", "24DA167-0C0C-11E8-8442-00059A3C7B00:19")],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [False, True])
def test_boundaries_and_their_events_name_one_transaction(id_: str, group: str, wrapped: bool) -> None:
    """PostgreSQL's `txId:lsn` is cut before the colon, in boundaries and in events alike; GTIDs are kept."""
    for status in ("BEGIN", "END"):
        value: dict[str, Any] = {"status": status, "id": id_, "event_count": 3, "data_collections": [], "ts_ms": 5}
        if wrapped:
            value = {"schema": {"type": "struct"}, "payload": value}
        assert decoder.decode(wire({"id": id_}), wire(value)) == Boundary(status, group, 5)  # type: ignore[arg-type]
    source = POSTGRES if group == "555" else MARIADB
    event = decoder.decode(KEYED, wire(change(source=source, transaction={"id": id_, "total_order": 2})))
    assert isinstance(event, Change)
    assert event.transaction == group


@pytest.mark.parametrize(
    ("count", "listed", "expected"),
    [
        (6, {"shop.thing": 2, "shop.other": 4}, (("thing", 2),)),
        (6, {"shop.thing": 2, "sh.op.THING": 4}, (("thing", 6),)),
        (4, {"shop.other": 4}, ()),
        (0, {}, ()),
        (5, {"shop.thing": 2}, None),
        (3, {}, None),
    ],
)
def test_the_end_of_a_transaction_tells_the_changes_of_each_declared_table(
    count: int, listed: dict[str, int], expected: tuple[tuple[str, int], ...] | None
) -> None:
    """Tables are named with their database or schema; a list that leaves events out tells nothing."""
    collections = [{"data_collection": name, "event_count": number} for name, number in listed.items()]
    value = {"status": "END", "id": "1", "event_count": count, "data_collections": collections, "ts_ms": 5}
    assert decoder.decode(wire({"id": "1"}), wire(value)) == Boundary("END", "1", 5, expected)
    begin = {"status": "BEGIN", "id": "1", "event_count": None, "data_collections": None, "ts_ms": 5}
    assert decoder.decode(wire({"id": "1"}), wire(begin)) == Boundary("BEGIN", "1", 5)


def test_debezium_tells_no_end_of_a_truncate_in_mysql() -> None:
    """A truncate there is a transaction of its own, whose end comes only with the next one's beginning, if at all."""
    told = decoder.decode(None, wire(change("t", source=MARIADB, transaction={"id": "0-1-12", "total_order": 1})))
    assert told == Truncate("thing", 1700000000000, "0-1-12", 1, ends=True)
    other = decoder.decode(None, wire(change("t", source=POSTGRES, transaction={"id": "9:10", "total_order": 1})))
    assert other == Truncate("thing", 1700000000123, "9", 1)


def test_postgresql_events_of_one_transaction_group_though_their_ids_differ() -> None:
    groups = set()
    for lsn in (10, 11, 12):
        event = decoder.decode(KEYED, wire(change(source=POSTGRES, transaction={"id": f"555:{lsn}"})))
        assert isinstance(event, Change)
        groups.add(event.transaction)
    assert groups == {"555"}


def test_a_null_transaction_is_unknown() -> None:
    event = decoder.decode(KEYED, wire(change(transaction=None)))
    assert isinstance(event, Change)
    assert event.transaction is None


@pytest.mark.parametrize(
    "value",
    [
        {**DDL, "source": MARIADB, "ts_ms": 5, "schemaName": None, "tableChanges": []},
        {**DDL, "source": POSTGRES, "ddl": None, "tableChanges": [{"type": "CREATE", "id": "x", "table": {}}]},
        DDL,
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_schema_changes_are_recognised_and_never_executed(value: dict[str, Any], wrapped: bool) -> None:
    message = {"schema": {"type": "struct"}, "payload": value} if wrapped else value
    assert decoder.decode(None, wire(message)) == Ignored("schema-change")


def test_logical_messages_and_undeclared_tables_are_ignored() -> None:
    message = {"op": "m", "ts_ms": 5, "source": POSTGRES, "message": {"prefix": "p", "content": "AA=="}}
    assert decoder.decode(None, wire(message)) == Ignored("message")
    other = change(source={**MARIADB, "table": "other"})
    assert decoder.decode(KEYED, wire(other)) == Ignored("undeclared-table", "other")


def test_the_table_is_found_whatever_its_case() -> None:
    """A server on a file system without case sends names in lower case."""
    event = decoder.decode(KEYED, wire(change(source={**MARIADB, "table": "THING"})))
    assert isinstance(event, Change)
    assert event.table == "thing"


def test_columns_are_found_whatever_their_case() -> None:
    after = {name.upper(): value for name, value in ROW.items()}
    event = decoder.decode(None, wire(change(after=after)))
    assert isinstance(event, Change)
    assert event.row == DECODED


@pytest.mark.parametrize(
    "snapshot", [True, "true", "first", "first_in_data_collection", "last_in_data_collection", "last"]
)
def test_snapshot_markers(snapshot: object) -> None:
    event = decoder.decode(KEYED, wire(change("r", source={**MARIADB, "snapshot": snapshot})))
    assert isinstance(event, Change)
    assert (event.op, event.snapshot, event.cascades) == ("r", True, False)


@pytest.mark.parametrize("snapshot", [False, "false", "incremental", None])
def test_markers_of_no_snapshot(snapshot: object) -> None:
    """An incremental snapshot goes on while the changes stream: its reads are events like others."""
    event = decoder.decode(KEYED, wire(change("r", source={**MARIADB, "snapshot": snapshot})))
    assert isinstance(event, Change)
    assert event.snapshot is False


@pytest.mark.parametrize("wrapped", [False, True])
def test_truncate(wrapped: bool) -> None:
    """One statement that empties two tables sends two events with one position: each is its own."""
    value = change("t", source=POSTGRES, transaction={"id": "9:10"})
    message = with_schema(value) if wrapped else wire(value)
    assert decoder.decode(None, message) == Truncate("thing", 1700000000123, "9")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("note", "__debezium_unavailable_value"),
        ("bytes", base64.b64encode(b"__debezium_unavailable_value").decode()),
        ("bytes", b"__debezium_unavailable_value".hex()),
        ("data", "__debezium_unavailable_value"),
        ("data", {"__debezium_unavailable_value": "__debezium_unavailable_value"}),
        ("tags", ["__debezium_unavailable_value"]),
        ("tags", list(b"__debezium_unavailable_value")),
        ("tags", [base64.b64encode(b"__debezium_unavailable_value").decode()]),
        ("tags", ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]),
        ("note", "b68a35a7-17ad-35b3-af2a-ae46edb4545a"),
        ("Amount", "__debezium_unavailable_value"),
    ],
)
def test_unavailable_values_in_every_disguise(column: str, value: object) -> None:
    """A value that the source did not send is told from every real one, NULL included."""
    event = decoder.decode(KEYED, wire(change(source=POSTGRES, after={**ROW, column: value})))
    assert isinstance(event, Change)
    assert event.row is not None
    assert event.row[TABLE.names.index(column)] is UNAVAILABLE
    assert sum(part is UNAVAILABLE for part in event.row) == 1


def test_an_unavailable_value_in_the_key_is_refused() -> None:
    error = refused(None, wire(change(after={**ROW, "code": "__debezium_unavailable_value"})))
    assert "no value in the key" in error.message


def test_an_optional_column_may_be_absent_and_no_other() -> None:
    after = dict(ROW)
    del after["note"]
    event = decoder.decode(KEYED, wire(change(after=after)))
    assert isinstance(event, Change)
    assert event.row == (*DECODED[:-1], None)
    del after["tags"]
    error = refused(KEYED, wire(change(after=after)))
    assert "lacks the declared column tags" in error.message
    assert "source.optional" in error.hint


@pytest.mark.parametrize(
    "value",
    [
        {"id": 7, "code": "a", "status": "BEGIN"},
        {"id": 7, "code": "a", "ts_ms": 1700000000000},
        {"id": "7", "status": "BEGIN", "ts_ms": 1700000000000, "code": "a"},
        {"id": 7, "__op": "u", "__table": "thing", "__deleted": "false"},
        {"id": 7, "source": "web", "transaction": 5, "ddl": "x"},
        {"schema": {"type": "struct"}, "payload": {"id": 7, "ts_ms": 5}},
        {"ts_ms": "yesterday"},
        {"id": 7, "op": 3},
        {},
    ],
)
def test_flattened_messages_are_refused_with_the_setting(value: dict[str, Any]) -> None:
    """A row without its envelope is never taken for a heartbeat, a boundary or a schema change."""
    error = refused(KEYED, wire(value))
    assert "flattened" in error.message
    assert "ExtractNewRecordState" in error.hint


def test_avro_is_refused_with_the_setting() -> None:
    error = refused(None, b"\x00\x00\x00\x00\x01\x02abc")
    assert "Avro" in error.message
    assert "value.converter=org.apache.kafka.connect.json.JsonConverter" in error.hint
    error = refused(b"\x00\x00\x00\x00\x01\x0e", wire(change("d")))
    assert "key is in Avro" in error.message
    assert "key.converter=org.apache.kafka.connect.json.JsonConverter" in error.hint


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not a change event in JSON"),
        (b"{", "not a change event in JSON"),
        (b"[1]", "no change event"),
        (b'"text"', "no change event"),
        (b"\xff\xfe", "not a change event in JSON"),
        (b'{"op":"c","source":{"table":"thing","ts_ms":5},"after":{"note":"\xff"}}', "UTF-8"),
        (wire(change()).replace(b"7", b'"\\ud800"'), "not a change event in JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (wire(change("x")), "unknown op"),
        (wire(change("")), "unknown op"),
        (wire(change(source={**MARIADB, "table": None})), "does not say its table"),
        (wire({**change(), "source": None}), "does not say its table"),
        (wire({**change(), "source": {**MARIADB, "ts_ms": "now"}}), "not as Debezium writes it"),
        (wire({**change(), "source": {**MARIADB, "ts_ms": -1}}), "no usable time"),
        (wire({**change(), "source": {**MARIADB, "ts_ms": 10**16}}), "no usable time"),
        (wire({**change(), "after": None}), "no `after`"),
        (wire({**change(), "after": [1]}), "not a change event in JSON"),
        (wire(change("d", before=None)), "names no key"),
        (wire({"status": "END", "id": "5", "ts_ms": 10**16}), "no usable id or time"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(value: bytes, reason: str) -> None:
    error = refused(None, value)
    assert reason in error.message
    assert error.hint


@pytest.mark.parametrize("ts_ms", [10**15, -1, 253_402_300_800_000])
def test_a_heartbeat_cannot_stop_business_time_for_good(ts_ms: int) -> None:
    """Time never runs back: a heartbeat from beyond the year 9999 would be the last."""
    refused(None, wire({"ts_ms": ts_ms}))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", SECRET), ("code", SECRET * 3), ("Amount", SECRET), ("big", SECRET), ("on_day", SECRET), ("at", SECRET),
        ("seen", SECRET), ("took", SECRET), ("data", SECRET), ("bytes", SECRET), ("tags", {SECRET: SECRET}), ("note", {SECRET: SECRET}),
        ("tags", [[SECRET]]), ("Amount", {"scale": SECRET, "value": SECRET}), ("id", [SECRET]), ("data", '{"' + SECRET),
    ],
)  # fmt: skip
def test_a_refusal_never_tells_the_value(column: str, value: object) -> None:
    error = refused(None, wire(change(after={**ROW, column: value})))
    assert column in error.message
    assert SECRET not in str(error)


def test_places_and_switched_off_checks_are_told() -> None:
    """The halves of a key change share their place; a session without checks cascades nothing; PostgreSQL tells all."""
    first = decoder.decode(KEYED, wire(change("d", source={**MARIADB, "pos": 9, "row": 2})))
    second = decoder.decode(None, wire(change("c", source={**MARIADB, "pos": 9, "row": 2})))
    assert isinstance(first, Change)
    assert isinstance(second, Change)
    assert first.place == second.place == ("mariadb-bin.000002", 9, 2)
    assert first.cascades
    for source in ({**MARIADB, "foreign_key_checks": False}, POSTGRES, {"table": "thing", "ts_ms": 5}):
        event = decoder.decode(KEYED, wire(change("d", source=source)))
        assert isinstance(event, Change)
        assert not event.cascades


def test_foreign_keys_come_back_as_they_were_told() -> None:
    keys = (
        ForeignKey("f1", "child", ("a", "b"), "thing", ("id", "code"), "CASCADE", "SET NULL"),
        ForeignKey("f2", "thing", ("up",), "thing", ("id",), "RESTRICT", "NO ACTION"),
    )
    assert decoder.decode(*encode_foreign_keys(keys, ts_ms=5, database="d")) == ForeignKeys(keys, 5)
    assert decoder.decode(*encode_foreign_keys((), ts_ms=5)) == ForeignKeys((), 5)


@pytest.mark.parametrize(
    "keys",
    [
        5,
        [{"name": "f"}],
        [{"name": "f", "table": "c", "columns": ["a"], "parent": "p", "parentColumns": [], "onDelete": "CASCADE", "onUpdate": "CASCADE"}],
        [{"name": "f", "table": "c", "columns": ["a"], "parent": "p", "parentColumns": ["b"], "onDelete": "EXPLODE", "onUpdate": "CASCADE"}],
        [{"name": "f", "table": "c", "columns": [], "parent": "p", "parentColumns": [], "onDelete": "CASCADE", "onUpdate": "CASCADE"}],
    ],
)  # fmt: skip
def test_foreign_keys_in_an_unknown_form_are_refused(keys: object) -> None:
    error = refused(None, wire({"databaseName": "d", "ts_ms": 5, "ddl": None, "tableChanges": [], "foreignKeys": keys}))
    assert "foreign keys" in error.message

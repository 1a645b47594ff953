"""Connector configurations, and what is said of what Kafka Connect answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.debezium import Connect, ConnectError
from connectors.debezium.config import KINDS, Kind
from connectors.debezium.connect import failure
from connectors.errors import RowtideError
from consumers.domain import load_domain
from daemon.debezium import Wishes, connector
from daemon.settings import Settings
from deploy.debezium.__main__ import FOLDER, files

RENTAL = load_domain("rental")
DSN = "mariadb://reader:very%3Asecret@db.example:3307/sak.ila"


def settings(dsn: str | None = None) -> Settings:
    log = {"kind": "kafka", "servers": "kafka:9092", "replication": 3}
    return Settings.model_validate({"source": {"kind": "none", "dsn": dsn}, "log": log})


def test_the_files_are_what_the_command_prints() -> None:
    """deploy/debezium/ is written by one definition: python -m deploy.debezium."""
    present = {path.name: path.read_text() for path in Path(FOLDER).iterdir() if path.suffix in (".json", ".sql")}
    assert present == files()


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_a_configuration(kind: Kind) -> None:
    """Only the source's place is taken over from source.dsn; the password is where Connect finds it."""
    dsn = DSN if kind != "postgres" else "host=db.example port=3307 user=reader password=very:secret dbname=sak.ila"
    made = connector(settings(dsn), RENTAL, Wishes(kind, password="file:/run/secrets/s.properties:pw"))
    text = json.dumps(made.config)
    assert "very" not in text
    assert made.config["database.password"] == "${file:/run/secrets/s.properties:pw}"
    assert (made.config["database.hostname"], made.config["database.port"]) == ("db.example", "3307")
    assert made.config["database.user"] == "reader"


def test_names_are_taken_literally() -> None:
    """The lists of tables are regular expressions."""
    made = connector(settings(DSN), RENTAL, Wishes())
    expressions = made.config["table.include.list"].split(",")
    assert len(expressions) == len(RENTAL.tables)
    assert all(re.fullmatch(e, f"sak.ila.{table}") for e, table in zip(expressions, RENTAL.tables, strict=True))
    assert not any(re.fullmatch(e, "sakxila.film") for e in expressions)


def test_one_topic_or_one_for_each_table() -> None:
    one = connector(settings(DSN), RENTAL, Wishes(name="shop"))
    assert one.topics == ["dvdrental"]
    route = re.compile(one.config["transforms.one.regex"])
    assert route.fullmatch("shop.sak.ila.film")
    assert route.fullmatch("shop.transaction")
    assert not route.fullmatch("__debezium-heartbeat.shop")
    assert not route.fullmatch("shop-notifications")
    many = connector(settings(DSN), RENTAL, Wishes(name="shop", per_table=True))
    assert "transforms" not in many.config
    assert many.topics[0] == "shop.sak.ila.film"
    assert many.topics[-1] == "shop.transaction"


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (Wishes(), "kind of the source is not known"),
        (Wishes("oracle"), "“oracle” is no kind"),
        (Wishes("mysql", name="a.b"), "cannot name a connector"),
        (Wishes("mysql", password="hunter2"), "place of the password"),
        (Wishes("mysql", settings={"database.password": "hunter2"}), "for everyone to read"),
        (Wishes("mysql", per_table=True), "database, which is not known"),
    ],
)
def test_what_cannot_be_done_is_said(wishes: Wishes, words: str) -> None:
    with pytest.raises(RowtideError, match=words) as raised:
        connector(settings(), RENTAL, wishes)
    assert raised.value.hint
    assert "hunter2" not in str(raised.value)


def test_settings_of_the_users_own_replace_ours() -> None:
    made = connector(settings(), RENTAL, Wishes("mysql", settings={"poll.interval.ms": "99", "x": "${env:Y}"}))
    assert (made.config["poll.interval.ms"], made.config["x"]) == ("99", "${env:Y}")


def test_grants_name_the_declared_tables_alone() -> None:
    for kind in KINDS:
        made = connector(settings(DSN if kind != "postgres" else None), RENTAL, Wishes(kind))
        text = "\n".join(made.grants(RENTAL))
        assert all(table in text for table in RENTAL.tables)
        assert "ALL" not in text.replace("ALTER", "")


class Answers:
    """A worker of Connect that answers as told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = outer.answers.pop(0)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def worker() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_rebalance_is_waited_for(worker: Answers) -> None:
    busy = (409, {"error_code": 409, "message": "Cannot complete request momentarily due to stale configuration"})
    worker.answers += [busy, (200, ["a"])]
    assert Connect(worker.url).names() == ["a"]
    worker.answers += [busy] * 3
    with pytest.raises(ConnectError, match="rebalance"):
        Connect(worker.url, patience=0).names()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"message": "Unable to connect: Access denied for user 'x'\nYou can also find the above list of errors at …"},
         "refuses (400): Unable to connect: Access denied for user 'x'."),
        (500, b"<html>", "refuses (500): Internal Server Error."),
        (200, b"<html>", "is not Kafka Connect."),
    ],
)  # fmt: skip
def test_refusals_are_said_in_one_line(worker: Answers, status: int, body: Any, words: str) -> None:
    worker.answers.append((status, body))
    with pytest.raises(ConnectError) as raised:
        Connect(worker.url).names()
    assert words in raised.value.message
    assert raised.value.hint


def test_where_nothing_listens(worker: Answers) -> None:
    worker.server.server_close()
    worker.server.shutdown()
    with pytest.raises(ConnectError, match="does not answer") as raised:
        Connect(worker.url, timeout=5).names()
    assert "--connect" in raised.value.hint


@pytest.mark.parametrize("url", ["localhost:8083", "ftp://x", "http://user:hunter2@x:8083", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConnectError) as raised:
        Connect(url)
    assert "hunter2" not in str(raised.value)


def test_a_state_is_the_worst_of_connector_and_tasks(worker: Answers) -> None:
    trace = (
        "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.\n"
        "\tat io.debezium.X(X.java:1)\nCaused by: io.debezium.DebeziumException: lacks the 'RELOAD' privilege\n\t... 5 more\n"
    )
    worker.answers += [
        (200, {"connector": {"state": "RUNNING"}, "tasks": []}),
        (200, {"connector": {"state": "RUNNING"}, "tasks": [{"state": "PAUSED"}]}),
        (200, {"connector": {"state": "RUNNING"}, "tasks": [{"state": "RUNNING"}]}),
        (200, {"connector": {"state": "RUNNING"}, "tasks": [{"state": "FAILED", "trace": trace}]}),
        (404, {"message": "No status found for connector x"}),
    ]
    states = [Connect(worker.url).state("x") for _ in range(5)]
    assert [state.state for state in states] == ["UNASSIGNED", "PAUSED", "RUNNING", "FAILED", "UNASSIGNED"]
    assert states[3].reason == ("An exception occurred in the change event producer. — lacks the 'RELOAD' privilege")


def test_a_trace_without_a_cause() -> None:
    assert failure("java.lang.RuntimeException: it broke\n\tat x.Y(Z.java:1)") == "it broke"
    assert failure("") == ""

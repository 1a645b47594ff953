"""The lane in a running daemon: how soon a change is there, how it ends, and how it tells how things are."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from customer_club import Club, club
from structlog.testing import capture_logs

from connectors.quickbooks.clock import SystemClock
from connectors.quickbooks.simulator import Fault
from daemon.customers import counts, preview, push, realm_status, show
from daemon.metrics import exposition
from daemon.service import serve

SILENT = 'rowtide_quickbooks_silent_seconds{domain="club"} 0.0'


@pytest.fixture
def room(database: str, tmp_path: Path) -> Iterator[Club]:
    with club(database, tmp_path) as made:
        yield made


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Seconds until a condition holds; fails where it does not in time."""
    pause, began = threading.Event(), time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        pause.wait(0.02)
    return time.monotonic() - began


def test_a_running_daemon_pushes_at_once_and_ends_at_once(room: Club) -> None:
    """An edit is in QuickBooks soon, and a request that gets no answer keeps nobody from ending within five seconds."""
    room.app.outside = room.simulator.clock = SystemClock()
    room.app.settings = room.settings.model_copy(
        update={"web": room.settings.web.model_copy(update={"enabled": False})}
    )
    stop = threading.Event()
    daemon = threading.Thread(target=serve, args=(room.app, stop), daemon=True)
    daemon.start()
    try:
        room.append({"id": 1, "last": "Lee"})
        until(lambda: room.names() == ["Ann Lee"])
        until(lambda: not room.pending())
        room.append({"id": 1, "last": "Lee", "phone": "0711"})
        assert until(lambda: "PrimaryPhone" in room.simulator.customers()[0]) < 10
        until(lambda: not room.pending())
        room.simulator.fault(Fault.parse("delay:operation=create,seconds=60"))
        room.append({"id": 2, "last": "Slow"}, {"id": 3, "last": "Slower"})
        until(lambda: room.simulator.throttle.running > 0)
    finally:
        stop.set()
        began = time.monotonic()
        daemon.join(20)
    assert not daemon.is_alive()
    assert time.monotonic() - began < 5
    assert room.unsettled() == 2
    room.simulator.faults.clear()
    room.anew()
    room.rounds()
    assert room.names() == ["Ann Lee", "Ann Slow", "Ann Slower"]
    assert room.simulator.company.created == 3


def test_results_of_a_long_push_are_told_while_it_lasts(room: Club) -> None:
    """What two batches came to is in the tables while the third is under way, and each result is told exactly once."""
    room.app.outside = room.simulator.clock = SystemClock()
    room.app.settings = room.settings.model_copy(
        update={"web": room.settings.web.model_copy(update={"enabled": False})}
    )
    room.simulator.fault(Fault.parse("delay:operation=batch,nth=3,seconds=60"))
    room.append(*({"id": number} for number in range(90)))
    stop = threading.Event()
    daemon = threading.Thread(target=serve, args=(room.app, stop), daemon=True)
    daemon.start()
    try:
        until(lambda: len(room.pushed()) == 60 and len(room.pending()) == 30)
        assert room.simulator.throttle.running == 1
        assert {row[0] for row in room.pushed().values()} == {1}
    finally:
        stop.set()
        daemon.join(20)
    assert not daemon.is_alive()
    room.simulator.faults.clear()
    room.anew()
    room.rounds()
    assert (len(room.names()), room.simulator.company.created, room.pending()) == (90, 90, [])
    synced = [told for told in room.told() if told["state"] == 1]
    assert sorted(told["record"] for told in synced) == sorted(f"member:{number}" for number in range(90))


def test_status_metrics_and_commands_tell_how_customers_stand(room: Club) -> None:
    """Counts add up, the reason is told, a preview sends nothing, and no value of a customer is in status or metrics."""
    room.simulator.fault(Fault.parse("2020:operation=create,match=Bad"))
    room.put(
        {"id": 1, "last": "Geheim", "phone": "0711", "email": "canary@b.org"},
        {"id": 2, "last": "Bad"},
        {"id": 3, "last": "Guest", "kind": "guest"},
    )
    assert preview(room.app, "guest", 10, 0)[0]["body"]["DisplayName"] == "Ann Guest"
    assert counts(room.app)["member"] == {"total": 2, "not_synced": 2, "synced": 0, "failed": 0, "in_progress": 0}
    assert room.writes() == 0
    result = push(room.app, ["member"], 50)
    assert (result.total_processed, result.successful, result.failed) == (2, 1, 1)
    assert [record for record, _ in result.success_details] == ["member:1"]
    assert [record for record, _ in result.errors] == ["member:2"]
    room.take_in()
    assert counts(room.app) == {
        "guest": {"total": 1, "not_synced": 1, "synced": 0, "failed": 0, "in_progress": 0},
        "member": {"total": 2, "not_synced": 0, "synced": 1, "failed": 1, "in_progress": 0},
    }
    told = room.app.status()["customers"]
    assert (told["pending"], told["states"]["parked"], told["untold"], told["unsettled"]) == (2, 1, 0, 0)
    assert "1 customers do not get on (1 parked)" in told["problem"]
    assert (realm_status(room.app) or {})["waits"] is None
    metrics = exposition(room.app).decode()
    assert 'rowtide_customers{domain="club",state="parked"} 1.0' in metrics
    shown = show(room.app, "member:1")
    assert (shown["state"], shown["wished"]["phone"], len(shown["requests"])) == ("synced", "0711", 1)
    for secret in ("Geheim", "0711", "canary"):
        assert secret not in metrics + str(told) + room.audit()


@pytest.mark.parametrize("how", ["lost", "html_503", "unreachable"])
def test_an_outage_is_told_once_and_so_is_its_end(room: Club, how: str) -> None:
    """Where requests get no answer the log warns once, status and page say so, and all is well when answers come again."""
    room.put({"id": 1, "last": "Lee"})
    room.rounds()
    address = room.settings.quickbooks.api_url
    if how == "unreachable":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            room.settings_with(api_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        room.anew()
    else:
        room.simulator.outage(300, how="lost" if how == "lost" else "html_503")
    room.put({"id": 2, "last": "Lo"}, {"id": 3, "last": "Lum"})
    with capture_logs() as logs:
        for _ in range(4):
            room.clock.advance(room.round() + 5)
        told = room.app.status()
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["customers.waiting"]
        assert room.lane.waits == "QuickBooks does not answer; customers wait."
        assert told["state"] == "degraded"
        assert "2 customers wait: QuickBooks does not answer" in told["reason"]
        assert told["customers"]["unanswered"] >= 5  # the two that were under way, and a question in each round since
        assert told["customers"]["unanswered_seconds"] > 15
        assert SILENT not in exposition(room.app).decode()
        if how == "unreachable":
            room.settings_with(api_url=address)
            room.lane._let_go()
        room.clock.advance(300)
        room.rounds()
        assert [line["event"] for line in logs if line["event"].startswith("customers.")] == [
            "customers.waiting",
            "customers.resumed",
        ]
    told = room.app.status()
    assert (room.lane.waits, told["reason"], told["customers"]["unanswered"]) == (None, None, 0)
    assert SILENT in exposition(room.app).decode()
    assert room.names() == ["Ann Lee", "Ann Lo", "Ann Lum"]


def test_one_lost_answer_warns_nobody(room: Club) -> None:
    """A single request without an answer is no outage."""
    room.simulator.fault(Fault.parse("lost_after:operation=create,times=1"))
    room.put({"id": 1, "last": "Lee"})
    with capture_logs() as logs:
        room.round()
        assert room.unsettled() == 1
        assert room.app.status()["reason"] is None
        room.rounds()
    assert [line for line in logs if line["log_level"] == "warning"] == []
    assert room.names() == ["Ann Lee"]


def kept(room: Club) -> tuple[int, int]:
    row = room.connection.execute(
        "SELECT (SELECT count(*) FROM rowtide.quickbooks_audit), (SELECT count(*) FROM rowtide.quickbooks_request)"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def test_what_was_asked_long_ago_is_removed_by_and_by(room: Club) -> None:
    """Rows older than the setting go, a thousand in a round, while customers wait too; what is unsettled, newer, or another's stays."""
    room.simulator.fault(Fault.parse("lost_after:operation=create,match=Lo"))
    room.put({"id": 1, "last": "Lee"}, {"id": 2, "last": "Lo"})
    room.round()
    assert room.unsettled() == 1
    room.connection.execute(
        "INSERT INTO rowtide.quickbooks_audit (at, instance, realm_id, operation, duration_ms, outcome, request, response) "
        "SELECT a.at, i.name, a.realm_id, 'read', 1, 'done', '{}', '{}' FROM generate_series(1, 700) AS n "
        "CROSS JOIN (VALUES ('club'), (NULL), ('other')) AS i (name) "
        "CROSS JOIN (SELECT * FROM rowtide.quickbooks_audit ORDER BY id LIMIT 1) AS a"
    )
    audit, requests = kept(room)
    assert (audit > 2100, requests) == (True, 2)
    room.clock.advance(401 * 86400)  # longer than the consent lives: nothing is sent any more
    room.settings_with(audit_days=0)
    room.round()
    before, requests = kept(room)
    assert (before >= audit, requests) == (True, 2)
    room.settings_with(audit_days=400)
    counts = []
    with capture_logs() as logs:
        for _ in range(4):
            room.round()
            counts.append(kept(room)[0])
    assert before - counts[0] in range(990, 1001)  # the look that goes with it is told in the audit, too
    pruned = [(line["rows"], line["requests"]) for line in logs if line["event"] == "quickbooks.audit_pruned"]
    assert pruned[0] == (1000, 1)
    assert sum(rows for rows, _ in pruned) == audit - 700
    assert room.connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE instance = 'other') FROM rowtide.quickbooks_audit "
        "WHERE at < to_timestamp(%s)",
        [room.clock.now() - 400 * 86400],
    ).fetchone() == (700, 700)
    assert room.connection.execute("SELECT record, state FROM rowtide.quickbooks_request").fetchall() == [
        ("member:2", "unknown")
    ]

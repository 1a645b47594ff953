"""What the Kafka log must not pass over: fencing, replaced topics, added partitions, refusals, silence."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewPartitions

from connectors.errors import RowtideError
from connectors.log import (
    FencedError,
    LogRefusedError,
    LogUnreachableError,
    Message,
    PartitionsAddedError,
    TopicPartition,
    TopicReplacedError,
    UnknownTopicError,
)
from connectors.log.kafka import KafkaLog
from deploy.stack.kafka import KafkaBroker
from deploy.stack.process import free_port

DEADLINE = 60.0


@pytest.fixture
def opened(broker: KafkaBroker) -> Iterator[Callable[[], KafkaLog]]:
    logs: list[KafkaLog] = []

    def build(group: str | None = None, patience: float = 20.0) -> KafkaLog:
        logs.append(KafkaLog(broker.servers, group=group, patience=patience))
        return logs[-1]

    yield build
    for log in logs:
        log.close()


@pytest.fixture
def topic() -> str:
    return f"f-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def admin(broker: KafkaBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.servers, "log_level": 0})


def messages(*numbers: int) -> list[Message]:
    return [Message(None, b"%d" % n, 1) for n in numbers]


def values(log: KafkaLog, topic: str) -> list[int]:
    positions = {place: extent.start for place, extent in log.extents([topic]).items()}
    found: list[int] = []
    while records := log.read(positions, limit=1000):
        for record in records:
            found.append(int(record.value or b""))
            positions[TopicPartition(topic, record.partition)] = record.offset + 1
    return found


# --- fencing ---


def test_a_capture_that_was_taken_over_can_not_append(opened, topic: str) -> None:
    """After another capture's append, the one before is fenced, for good, until it asks where the topic stands."""
    old, new = opened(), opened()
    old.create_topic(topic)
    old.append(topic, messages(1, 2), source_position="2")
    assert new.source_position(topic) == "2"
    new.append(topic, messages(3), source_position="3")
    for _ in range(2):
        with pytest.raises(FencedError):
            old.append(topic, messages(3, 4), source_position="4")
    new.append(topic, messages(4), source_position="4")
    assert values(new, topic) == [1, 2, 3, 4]
    assert old.source_position(topic) == "4"
    old.append(topic, messages(5), source_position="5")
    assert values(new, topic) == [1, 2, 3, 4, 5]


def test_a_capture_with_an_old_position_can_not_append(opened, topic: str) -> None:
    """Who was told a position before another capture appended would repeat what that one did: it is refused."""
    late, other = opened(), opened()
    late.create_topic(topic)
    assert late.source_position(topic) is None
    other.append(topic, messages(1), source_position="1")
    with pytest.raises(FencedError, match="meanwhile"):
        late.append(topic, messages(1), source_position="1")
    assert values(other, topic) == [1]


def test_appends_without_a_position_fence_nobody(opened, topic: str) -> None:
    """Parameters and heartbeats come from several processes beside the capture."""
    capture, command = opened(), opened()
    capture.create_topic(topic)
    capture.append(topic, messages(1), source_position="1")
    command.append(topic, messages(2))
    command.append(topic, messages(3, 4))
    capture.append(topic, messages(5), source_position="5")
    command.append(topic, messages(6))
    assert values(capture, topic) == [1, 2, 3, 4, 5, 6]


# --- topics that are not what they were ---


def _replace(admin: AdminClient, log: KafkaLog, topic: str) -> None:
    admin.delete_topics([topic])[topic].result()
    deadline = time.monotonic() + DEADLINE
    while topic in log.topics():
        assert time.monotonic() < deadline
    log.create_topic(topic)


def test_a_replaced_topic_stops_its_reader(opened, admin: AdminClient, topic: str) -> None:
    """A topic deleted and created anew under a reader: no record of the new one is taken for one of the old."""
    log, other = opened(), opened()
    log.create_topic(topic)
    log.append(topic, messages(*range(10)))
    positions = {TopicPartition(topic, 0): 0}
    records = log.read(positions, limit=5)
    positions[TopicPartition(topic, 0)] = records[-1].offset + 1
    ids = log.topic_ids([topic])
    _replace(admin, other, topic)
    other.append(topic, messages(*range(100, 130)))

    def go_on() -> None:
        while records := log.read(positions, limit=100):
            assert all(int(record.value or b"") < 100 for record in records)
            positions[TopicPartition(topic, 0)] = records[-1].offset + 1

    with pytest.raises(TopicReplacedError):
        go_on()
    started_again = opened()
    with pytest.raises(TopicReplacedError):
        started_again.expect(ids)
    with pytest.raises(TopicReplacedError):
        started_again.read(positions, limit=10)


def test_a_replaced_topic_has_no_source_position(opened, admin: AdminClient, topic: str) -> None:
    """The position of a topic that is gone means nothing for the one that has its name now."""
    log = opened()
    log.create_topic(topic)
    log.append(topic, messages(1), source_position="1")
    _replace(admin, opened(), topic)
    with pytest.raises(TopicReplacedError):
        log.append(topic, messages(2), source_position="2")
    again = opened()
    assert again.source_position(topic) is None
    again.append(topic, messages(1), source_position="first")
    assert again.source_position(topic) == "first"
    assert values(again, topic) == [1]


@pytest.mark.parametrize("others", [0, 1, 30])
def test_nothing_captured_goes_to_a_topic_that_took_anothers_place(
    opened, admin: AdminClient, topic: str, others: int
) -> None:
    """A capture that knows its topic from a moment ago appends nothing to the one made since, be that one shorter or longer."""
    log, other = opened(), opened()
    log.create_topic(topic)
    for number in range(4):
        log.append(topic, messages(number), source_position=str(number))
    _replace(admin, other, topic)
    expected = list(range(100, 100 + others))
    for number in expected:
        other.append(topic, messages(number))
    with pytest.raises(TopicReplacedError):
        log.append(topic, messages(5, 6), source_position="6")
    assert values(opened(), topic) == expected
    assert opened().source_position(topic) is None


def test_a_deleted_topic_stops_its_reader(opened, admin: AdminClient, topic: str) -> None:
    """A reader at the end of a topic that is deleted does not wait for ever."""
    log = opened(patience=3)
    log.create_topic(topic)
    log.append(topic, messages(1))
    positions = {TopicPartition(topic, 0): log.extents([topic])[TopicPartition(topic, 0)].end}
    assert list(log.read(positions, limit=10)) == []
    admin.delete_topics([topic])[topic].result()
    with pytest.raises(UnknownTopicError, match=topic):
        _follow(log, positions)


def test_added_partitions_stop_the_reader(opened, admin: AdminClient, topic: str) -> None:
    """Partitions that nobody reads are told soon; a reader that starts again reads them all."""
    log = opened()
    log.create_topic(topic)
    log.append(topic, messages(1, 2))
    positions = {TopicPartition(topic, 0): 0}
    assert len(log.read(positions, limit=10)) == 2
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    with pytest.raises(PartitionsAddedError, match="3 partitions"):
        _follow(log, positions)
    again = opened()
    again.append(topic, [Message(None, b"3", 1, 2)])
    assert sorted(values(again, topic)) == [1, 2, 3]


def test_a_message_the_topic_does_not_take_is_told(opened, admin: AdminClient, broker: KafkaBroker, topic: str) -> None:
    """A message larger than the topic's limit fails its append whole, and later appends work."""
    broker.run_tool(
        "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", broker.servers, "--create", "--topic", topic,
        "--config", "max.message.bytes=100000",
    )  # fmt: skip
    log = opened()
    large = Message(None, b"x" * 200_000, 1)
    for appended in ([large], [*messages(1), large]):
        for position in ("p", None):
            with pytest.raises(RowtideError, match="larger than"):
                log.append(topic, appended, source_position=position)
    log.append(topic, messages(2), source_position="2")
    log.append(topic, messages(3))
    assert values(log, topic) == [2, 3]


def _follow(log: KafkaLog, positions: dict[TopicPartition, int]) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        log.read(positions, limit=10)
        log.wait(0.2)


# --- hints ---


def test_kafkas_tools_see_how_far_reading_is(opened, broker: KafkaBroker, topic: str) -> None:
    """The group's committed offset is the last position told; it moves nothing for a reader."""
    group = f"g-{topic}"
    log = opened(group)
    log.create_topic(topic)
    log.append(topic, messages(*range(10)))
    place = TopicPartition(topic, 0)
    for offset in (3, 5, 7):
        log.commit_hint({place: offset})

    tool = Consumer({"bootstrap.servers": broker.servers, "group.id": group, "log_level": 0})

    def committed() -> int | None:
        try:
            return tool.committed([Place(topic, 0)], timeout=10)[0].offset
        except KafkaException:  # a broker that had no group yet has to become the coordinator first
            return None

    deadline = time.monotonic() + DEADLINE
    while committed() != 7:
        assert time.monotonic() < deadline
    tool.close()
    assert values(log, topic) == list(range(10))


def test_the_last_of_many_hints_is_told_and_few_are(opened, topic: str) -> None:
    """A hint after each small batch costs at most a request a second; the last one comes without another after it."""
    log = opened(f"g-{topic}")
    log.create_topic(topic)
    log.append(topic, messages(*range(200)))
    place = TopicPartition(topic, 0)

    def told() -> list[int]:
        """What has been told to the group, each time it was."""
        at = {place: extent.start for place, extent in log.extents(["__consumer_offsets"]).items()}
        found = []
        while records := log.read(at, limit=1000):
            for record in records:
                at[TopicPartition(record.topic, record.partition)] = record.offset + 1
                if record.key is not None and topic.encode() in record.key and record.value is not None:
                    found.append(int.from_bytes(record.value[2:10]))  # behind its version
        return found

    began = time.monotonic()
    for offset in range(1, 201):
        log.commit_hint({place: offset})
        log.extents([topic])  # about as long as a hint by itself
    while 200 not in (offsets := told()):
        assert time.monotonic() < began + DEADLINE
    assert offsets == sorted(offsets)
    assert len(offsets) <= 2 + time.monotonic() - began


# --- servers that refuse or do not answer ---


def test_servers_that_do_not_answer_are_told_after_patience() -> None:
    """Nobody listens: an error that names the servers, after the patience and not much later."""
    servers = f"127.0.0.1:{free_port()}"
    log = KafkaLog(servers, patience=1)
    began = time.monotonic()
    for call in (
        log.topics,
        lambda: log.append("t", messages(1)),
        lambda: log.read({TopicPartition("t", 0): 0}, limit=1),
    ):
        with pytest.raises(LogUnreachableError, match=servers):
            call()
    assert time.monotonic() - began < 20
    log.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, broker: KafkaBroker) -> Iterator[tuple[str, Path]]:
    """A broker with a SASL_SSL listener: its address and the authority that signed its certificate."""
    running = KafkaBroker()
    port, folder = free_port(), running.folder
    pair = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            *pair,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (folder / "store.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    listeners = f"PLAINTEXT://127.0.0.1:{running.port},SECURE://127.0.0.1:{port}"
    running.settings |= {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{running.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'user_rowtide="right-word";',
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(folder / "store.pem"),
    }
    with running:
        yield f"127.0.0.1:{port}", folder / "cert.pem"


def _secure(authority: Path | None, password: str) -> dict[str, str]:
    settings = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "rowtide"}
    settings["sasl.password"] = password
    return settings if authority is None else settings | {"ssl.ca.location": str(authority)}


def test_tls_and_sasl_are_passed_through(secured: tuple[str, Path], topic: str) -> None:
    """With the right certificate and password everything works over the secured listener."""
    servers, authority = secured
    log = KafkaLog(servers, settings=_secure(authority, "right-word"), group="g", patience=20)
    log.create_topic(topic)
    log.append(topic, messages(1, 2), source_position="2")
    log.append(topic, messages(3))
    assert values(log, topic) == [1, 2, 3]
    assert log.source_position(topic) == "2"
    log.close()


@pytest.mark.parametrize(("trusted", "password"), [(True, "wrong-word"), (False, "right-word")])
def test_refusals_are_told_at_once_and_without_secrets(
    secured: tuple[str, Path], capfd: pytest.CaptureFixture[str], trusted: bool, password: str
) -> None:
    """A wrong password or an unknown authority is a refusal, not an outage; nothing shows the password."""
    servers, authority = secured
    log = KafkaLog(servers, settings=_secure(authority if trusted else None, password), patience=30)
    began = time.monotonic()
    with pytest.raises(LogRefusedError) as refused:
        log.topics()
    assert time.monotonic() - began < 25
    log.close()
    shown = capfd.readouterr()
    for text in (str(refused.value), shown.out, shown.err):
        assert "-word" not in text

"""The rules of the log, the same for every kind, against real servers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from connectors.errors import RowtideError
from connectors.log import (
    FencedError,
    Log,
    LogTruncatedError,
    Message,
    Record,
    RetentionGapError,
    TopicPartition,
    TopicReplacedError,
    UnknownTopicError,
)
from connectors.log.embedded import EmbeddedLog
from connectors.log.kafka import KafkaLog
from connectors.state import migrate

NOW = 1_700_000_000_000
HOUR = 3_600_000


class Kind(NamedTuple):
    """One kind of log: the log under test, a way to open it as another process would, and a name for a topic."""

    log: Log
    opened: Callable[..., Log]
    topic: str


@pytest.fixture(params=["embedded", "kafka"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    if request.param == "embedded":
        dsn = request.getfixturevalue("database")
        migrate(dsn)

        def build(patience: float) -> Log:
            return EmbeddedLog(dsn)
    else:
        broker = request.getfixturevalue("broker")

        def build(patience: float) -> Log:
            return KafkaLog(broker.servers, patience=patience)

    logs: list[Log] = []

    def opened(patience: float = 20) -> Log:
        logs.append(build(patience))
        return logs[-1]

    yield Kind(opened(), opened, f"t-{uuid.uuid4().hex[:12]}")
    for log in logs:
        log.close()


def numbered(numbers: range, *, ts_ms: int = NOW, partition: int = 0, size: int = 0) -> list[Message]:
    return [Message(b"k%d" % n, b"v%d" % n + b"." * size, ts_ms, partition) for n in numbers]


def values(records: Any) -> list[bytes]:
    return [record.value.rstrip(b".") for record in records]


def starts(log: Log, topic: str) -> dict[TopicPartition, int]:
    return {place: extent.start for place, extent in log.extents([topic]).items()}


def drain(log: Log, positions: dict[TopicPartition, int], *, limit: int = 1000) -> list[Record]:
    """Everything from the positions on, which are moved."""
    found: list[Record] = []
    while records := log.read(positions, limit=limit):
        found += records
        for record in records:
            positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
    return found


# --- appending and reading ---


def test_records_come_back_as_they_were_appended(kind: Kind) -> None:
    """Keys, values and times come back as they went in, null and empty told apart, bytes of every kind."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    messages = [
        Message(b"k", b"v", NOW),
        Message(None, b"value", NOW + 1),
        Message(b"key", None, NOW + 2),
        Message(None, None, 1),
        Message(b"", b"", NOW),
        Message(bytes(range(256)), "ü€😀\\N\t\n".encode(), NOW),
    ]
    assert log.append(topic, messages) == len(messages)
    found = drain(log, starts(log, topic))
    assert [(m.key, m.value, m.ts_ms) for m in messages] == [(r.key, r.value, r.ts_ms) for r in found]
    assert {(topic, 0)} == {(r.topic, r.partition) for r in found}


def test_order_of_appending_is_kept(kind: Kind) -> None:
    """Records come in the order of appending, their offsets rise, whatever the sizes of the reads."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    for begin in range(0, 3000, 750):
        log.append(topic, numbered(range(begin, begin + 750)))
    for limit in (7, 1000, 5000):
        found = drain(log, starts(log, topic), limit=limit)
        assert [b"v%d" % n for n in range(3000)] == values(found)
        offsets = [r.offset for r in found]
        assert offsets == sorted(set(offsets))


def test_reading_again_from_a_position(kind: Kind) -> None:
    """A position is the next offset to read; reading from it again gives the same records."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(20)))
    found = drain(log, starts(log, topic))
    place = TopicPartition(topic, 0)
    for index in (0, 7, 19):
        assert found[index:] == drain(log, {place: found[index].offset})
        assert found[index + 1 :] == drain(log, {place: found[index].offset + 1})


def test_limit_is_kept(kind: Kind) -> None:
    """No more than `limit` records; none for no positions or no limit."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(10)))
    assert values(log.read(starts(log, topic), limit=3)) == [b"v0", b"v1", b"v2"]
    assert list(log.read(starts(log, topic), limit=0)) == []
    assert list(log.read({}, limit=10)) == []


def test_reading_stops_behind_the_record_that_exceeds_max_bytes(kind: Kind) -> None:
    """A read ends with the record that reaches `max_bytes`; what is left comes with the next one."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, [Message(None, bytes([n]) * 1000, NOW) for n in range(10)])
    positions = starts(log, topic)
    first = log.read(positions, limit=100, max_bytes=2500)
    assert [r.value[0] for r in first if r.value] == [0, 1, 2]
    positions[TopicPartition(topic, 0)] = first[-1].offset + 1
    assert list(range(3, 10)) == [r.value[0] for r in drain(log, positions) if r.value]
    assert [r.value[0] for r in log.read(starts(log, topic), limit=100, max_bytes=1) if r.value] == [0]


def test_empty_read_means_the_end(kind: Kind) -> None:
    """What has been appended before a read is in it: empty is told at the end only, and not for ever."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    positions = starts(log, topic)
    assert drain(log, positions) == []
    for n in range(20):
        log.append(topic, numbered(range(n, n + 1)))
        assert [b"v%d" % n] == values(drain(log, positions))
    log.append(topic, numbered(range(20, 23)))
    assert values(drain(log, positions)) == [b"v20", b"v21", b"v22"]


def test_partitions_are_separate(kind: Kind) -> None:
    """Each partition has its order and offsets; a read names those it wants."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 3)
    assert log.topics()[topic] == 3
    log.append(topic, [Message(None, b"%d" % n, NOW, n % 3) for n in range(30)])
    found = drain(log, starts(log, topic), limit=4)
    for partition in range(3):
        expected = [b"%d" % n for n in range(30) if n % 3 == partition]
        assert expected == values(r for r in found if r.partition == partition)
        place = TopicPartition(topic, partition)
        assert expected == values(drain(log, {place: log.extents([topic])[place].start}))
    uneven = starts(log, topic)
    uneven[TopicPartition(topic, 1)] = next(r.offset for r in found if r.value == b"28")
    assert len(drain(log, uneven)) == 10 + 1 + 10


def test_topics_are_separate(kind: Kind) -> None:
    """Two topics are read together or alone."""
    log = kind.log
    first, second = f"{kind.topic}.a", f"{kind.topic}.b"
    for topic in (first, second):
        log.create_topic(topic)
    log.append(first, numbered(range(5)))
    log.append(second, numbered(range(5, 9)))
    assert [b"v%d" % n for n in range(5, 9)] == values(drain(log, starts(log, second)))
    both = drain(log, starts(log, first) | starts(log, second))
    assert sorted(b"v%d" % n for n in range(9)) == sorted(values(both))


def test_extents_tell_the_ends(kind: Kind) -> None:
    """The start is the first record's offset, the end lies behind the last; a position at the end is valid."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 2)
    places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    assert dict.fromkeys(places, (0, 0)) == log.extents([topic])
    log.append(topic, numbered(range(3)))
    extents = log.extents([topic])
    found = drain(log, starts(log, topic))
    assert extents[places[1]] == (0, 0)
    assert found[0].offset == extents[places[0]].start
    assert found[-1].offset < extents[places[0]].end
    assert drain(log, {place: extent.end for place, extent in extents.items()}) == []


def test_positions_of_a_time(kind: Kind) -> None:
    """A time leads to the first record that is not earlier, in each partition by itself; to the end where all are."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 3)
    for number in range(6):
        log.append(topic, numbered(range(number, number + 1), ts_ms=NOW + 1000 * number))
    log.append(topic, numbered(range(3), ts_ms=NOW + 2000, partition=1))
    first, second, empty = (TopicPartition(topic, number) for number in range(3))

    def told(ts_ms: int) -> list[list[bytes]]:
        found = log.positions_at([topic], ts_ms)
        assert found.keys() == {first, second, empty}
        assert found[empty] == log.extents([topic])[empty].end
        return [values(drain(log, {place: found[place]}))[:1] for place in (first, second)]

    assert told(NOW - 5000) == [[b"v0"], [b"v0"]]
    assert told(NOW + 2000) == [[b"v2"], [b"v0"]]
    assert told(NOW + 2001) == [[b"v3"], []]
    assert told(NOW + 9000) == [[], []]


def test_large_messages(kind: Kind) -> None:
    """A record of many megabytes, larger than what is fetched at once, comes whole, and so do those behind it."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    large = bytes(range(256)) * (48 * 1024)  # 12 MiB
    log.append(topic, [Message(b"a", b"small", NOW), Message(b"b", large, NOW), Message(b"c", b"after", NOW)])
    log.append(topic, [Message(b"d", large, NOW)])
    found = drain(log, starts(log, topic))
    assert [r.key for r in found] == [b"a", b"b", b"c", b"d"]
    assert [b"small", large, b"after", large] == [r.value for r in found]


# --- topics ---


def test_creating_a_topic_again_changes_nothing(kind: Kind) -> None:
    """A topic that exists stays, with its records; another number of partitions is refused."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 2)
    log.append(topic, numbered(range(3)))
    for each in (log, kind.opened()):
        each.create_topic(topic, 2)
        with pytest.raises(RowtideError, match="2 partitions"):
            each.create_topic(topic, 3)
    assert len(drain(log, starts(log, topic))) == 3


def test_unknown_topics_and_partitions_are_told(kind: Kind) -> None:
    """Whatever names a topic or partition that is not there raises; nothing is created by asking."""
    log, topic = kind.log, kind.topic
    place = TopicPartition(topic, 0)
    for call in (
        lambda: log.append(topic, numbered(range(1))),
        lambda: log.append(topic, numbered(range(2)), source_position="p"),
        lambda: log.read({place: 0}, limit=1),
        lambda: log.extents([topic]),
        lambda: log.source_position(topic),
        lambda: log.topic_ids([topic]),
        lambda: kind.opened(patience=2).expect({topic: "x"}),
        lambda: log.enforce_retention(topic, age=timedelta(1), size=None, now_ms=NOW),
    ):
        with pytest.raises(UnknownTopicError):
            call()
    assert topic not in log.topics()
    log.create_topic(topic)
    with pytest.raises(UnknownTopicError):
        log.read({TopicPartition(topic, 7): 0}, limit=1)
    for messages in (numbered(range(1), partition=7), numbered(range(3)) + numbered(range(1), partition=7)):
        with pytest.raises(RowtideError, match="no partition 7"):
            log.append(topic, messages)
    assert drain(log, starts(log, topic)) == []


def test_a_topic_is_recognised(kind: Kind) -> None:
    """A topic's id stays, over processes; one that is expected to be another raises."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    ids = log.topic_ids([topic])
    assert ids == kind.opened().topic_ids([topic])
    log.expect(ids)
    with pytest.raises(TopicReplacedError):
        kind.opened().expect({topic: "another"})


# --- atomicity ---


def test_a_failed_append_leaves_nothing(kind: Kind) -> None:
    """All or none: what came before the failure is not to be seen, and the log goes on working."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(2)), source_position="before")

    def failing() -> Iterator[Message]:
        yield from numbered(range(2, 6000))
        raise OSError("the source went away")

    for position in (None, "after"):
        with pytest.raises(OSError, match="went away"):
            log.append(topic, failing(), source_position=position)
    assert log.source_position(topic) == "before"
    log.append(topic, numbered(range(6000, 6003)), source_position="next")
    assert values(drain(log, starts(log, topic))) == [b"v0", b"v1", b"v6000", b"v6001", b"v6002"]
    assert kind.opened().source_position(topic) == "next"


def test_messages_are_taken_as_they_come(kind: Kind) -> None:
    """An append of many messages does not hold them all: each is let go while later ones are still asked for."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    alive, most = 0, 0

    class Value(bytes):
        __slots__ = ()

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def many() -> Iterator[Message]:
        nonlocal alive, most
        for n in range(30_000):
            alive += 1
            most = max(most, alive)
            yield Message(None, Value(b"%d" % n), NOW)

    assert log.append(topic, many()) == 30_000
    assert most < 15_000
    assert [b"%d" % n for n in range(30_000)] == [r.value for r in drain(log, starts(log, topic), limit=5000)]


def test_nothing_is_seen_before_it_is_whole(kind: Kind) -> None:
    """A reader sees an append's first record only together with its last."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    reader, positions = kind.opened(), starts(log, topic)
    seen: list[int] = []

    def watched() -> Iterator[Message]:
        for n, message in enumerate(numbered(range(3000))):
            if n in {10, 2900}:
                seen.append(len(reader.read(positions, limit=10)))
            yield message

    log.append(topic, watched(), source_position="p")
    assert seen == [0, 0]
    assert len(drain(reader, positions)) == 3000


def test_concurrent_appenders_lose_nothing(kind: Kind) -> None:
    """Appends of several threads and log objects: each append is whole and in order, none is lost or twice."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    other = kind.opened()
    errors: list[Exception] = []

    def work(writer: Log, name: int) -> None:
        try:
            for n in range(15):
                size = 1 + n % 3
                writer.append(topic, [Message(b"%d" % name, b"%d.%d" % (n, i), NOW) for i in range(size)])
        except Exception as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(log if n % 2 else other, n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    found = drain(log, starts(log, topic))
    for name in range(4):
        expected = [b"%d.%d" % (n, i) for n in range(15) for i in range(1 + n % 3)]
        assert expected == [r.value for r in found if r.key == b"%d" % name]


# --- the source's position ---


def test_the_source_position_is_stored_with_the_events(kind: Kind) -> None:
    """The position of the last append that had one; appends without leave it; no messages are needed."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    assert log.source_position(topic) is None
    log.append(topic, numbered(range(2)), source_position='{"lsn": 1}')
    assert log.source_position(topic) == '{"lsn": 1}'
    log.append(topic, numbered(range(2, 3)))
    log.append(topic, numbered(range(3, 5)))
    assert kind.opened().source_position(topic) == '{"lsn": 1}'
    assert log.append(topic, [], source_position='{"lsn": 2}') == 0
    assert kind.opened().source_position(topic) == '{"lsn": 2}'
    assert [b"v%d" % n for n in range(5)] == values(drain(log, starts(log, topic)))


def test_positions_of_topics_are_separate(kind: Kind) -> None:
    """Each topic has a position of its own."""
    log = kind.log
    for name in ("a", "b"):
        log.create_topic(kind.topic + name)
        log.append(kind.topic + name, numbered(range(1)), source_position=name)
    log.append(kind.topic + "a", numbered(range(1)), source_position="later")
    assert [log.source_position(kind.topic + name) for name in ("a", "b")] == ["later", "b"]


def test_a_capture_goes_on_where_another_ended(kind: Kind) -> None:
    """A log object opened anew reads the position and appends behind it."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    for n in range(3):
        each = kind.opened()
        assert (str(n - 1) if n else None) == each.source_position(topic)
        each.append(topic, numbered(range(n, n + 1)), source_position=str(n))
    assert values(drain(log, starts(log, topic))) == [b"v0", b"v1", b"v2"]


def test_nothing_is_appended_where_another_position_is_stored(kind: Kind) -> None:
    """Who believes another position stored than is, is fenced, and appends nothing; who is right goes on."""
    log, other, topic = kind.log, kind.opened(), kind.topic
    log.create_topic(topic)
    assert log.append(topic, numbered(range(1)), source_position="1", expect=None) == 1
    assert log.append(topic, numbered(range(1, 2)), source_position="2", expect="1") == 1
    for wrong in ("1", None, "3"):
        with pytest.raises(FencedError, match="Another"):
            log.append(topic, numbered(range(9)), source_position="3", expect=wrong)
    assert log.source_position(topic) == "2"
    assert other.source_position(topic) == "2"
    assert other.append(topic, [], source_position="3", expect="2") == 0
    with pytest.raises(FencedError, match="Another"):
        log.append(topic, numbered(range(9)), source_position="3", expect="2")
    assert log.source_position(topic) == "3"
    log.append(topic, numbered(range(2, 3)), source_position="4", expect="3")
    assert values(drain(other, starts(other, topic))) == [b"v0", b"v1", b"v2"]


# --- waiting ---


def test_waiting_ends_when_something_is_appended(kind: Kind) -> None:
    """A reader at the end is woken by another process's append, long before its time is over."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(1)))
    writer, positions = kind.opened(), starts(log, topic)
    writer.append(topic, numbered(range(1, 2)))  # connects
    waiting = threading.Event()

    def append() -> None:
        waiting.wait(10)
        writer.append(topic, numbered(range(2, 3)))

    thread = threading.Thread(target=append)
    thread.start()
    found = drain(log, positions)
    while log.wait(0.01):  # what was told before
        found += drain(log, positions)
    assert values(found) == [b"v0", b"v1"]
    waiting.set()
    assert log.wait(30)
    thread.join(timeout=30)
    assert values(drain(log, positions)) == [b"v2"]


def test_waiting_ends_with_its_time(kind: Kind) -> None:
    """Where nothing comes, waiting tells so."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    positions = starts(log, topic)
    assert drain(log, positions) == []
    results = [log.wait(0.05) for _ in range(5)]
    assert results[-1] is False


# --- what is gone ---


def test_reading_before_the_start_raises(kind: Kind) -> None:
    """A position that retention has passed is an error that names what is gone, never a skip."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(5), ts_ms=NOW - 2 * HOUR))
    log.append(topic, numbered(range(5, 9)))
    first = starts(log, topic)
    assert log.enforce_retention(topic, age=timedelta(hours=1), size=None, now_ms=NOW) >= 5
    for each in (log, kind.opened()):
        with pytest.raises(RetentionGapError, match="no longer in the log"):
            each.read(first, limit=10)
    assert values(drain(log, starts(log, topic))) == [b"v5", b"v6", b"v7", b"v8"]


def test_reading_behind_the_end_raises(kind: Kind) -> None:
    """A position behind the end means that the log lost records."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(5)))
    place = TopicPartition(topic, 0)
    end = log.extents([topic])[place].end
    with pytest.raises(LogTruncatedError, match="behind the end"):
        log.read({place: end + 1}, limit=10)
    assert drain(log, {place: end}) == []


def test_retention_by_age(kind: Kind) -> None:
    """What is older goes, the rest stays; a second time nothing goes; unread records stay."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 2)
    for hours in (5, 4, 3, 2, 1):
        for partition in (0, 1):
            log.append(topic, [Message(None, b"%d.%d" % (hours, i), NOW - hours * HOUR, partition) for i in range(2)])
    age = timedelta(hours=3, minutes=30)
    place = TopicPartition(topic, 1)
    hold = {place: starts(log, topic)[place] + 1}
    assert log.enforce_retention(topic, age=age, size=None, now_ms=NOW, unread=hold) > 0
    found = drain(log, starts(log, topic))
    recent = [b"%d.%d" % (hours, i) for hours in (3, 2, 1) for i in range(2)]
    assert recent == values(r for r in found if r.partition == 0)
    assert [b"5.1", b"4.0", b"4.1", *recent] == values(r for r in found if r.partition == 1)
    assert log.enforce_retention(topic, age=age, size=None, now_ms=NOW) > 0
    assert log.enforce_retention(topic, age=age, size=None, now_ms=NOW) == 0
    assert len(drain(log, starts(log, topic))) == 12
    assert log.enforce_retention(topic, age=timedelta(0), size=None, now_ms=NOW + HOUR) > 0
    assert drain(log, starts(log, topic)) == []
    log.append(topic, numbered(range(1)))
    assert values(drain(log, starts(log, topic))) == [b"v0"]


def test_retention_by_size(kind: Kind) -> None:
    """The oldest records go until the rest has at most the size; whatever fits stays."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    for begin in range(0, 100, 10):
        log.append(topic, numbered(range(begin, begin + 10), size=1000))
    assert log.enforce_retention(topic, age=None, size=40_000, now_ms=NOW) > 0
    kept = drain(log, starts(log, topic))
    assert [b"v%d" % n for n in range(100 - len(kept), 100)] == values(kept)
    assert 34 <= len(kept) <= 40
    assert log.enforce_retention(topic, age=None, size=40_000, now_ms=NOW) == 0


def test_retention_by_age_and_size(kind: Kind) -> None:
    """With both, a record stays only if neither removes it."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(50), ts_ms=NOW - 2 * HOUR, size=1000))
    log.append(topic, numbered(range(50, 60), size=1000))
    log.enforce_retention(topic, age=timedelta(hours=3), size=30_000, now_ms=NOW)
    assert 20 < len(drain(log, starts(log, topic))) <= 30
    log.enforce_retention(topic, age=timedelta(hours=1), size=30_000, now_ms=NOW)
    assert [b"v%d" % n for n in range(50, 60)] == values(drain(log, starts(log, topic)))


def test_a_reader_overtaken_by_retention_misses_nothing_in_silence(kind: Kind) -> None:
    """A reader in the middle whose next records another process removes has them already, or gets an error."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic, 2)
    log.append(topic, numbered(range(10), ts_ms=NOW - 2 * HOUR))
    positions = starts(log, topic)
    for record in log.read(positions, limit=3):
        positions[TopicPartition(topic, record.partition)] = record.offset + 1
    stopped = dict(positions)
    other = kind.opened()
    assert other.enforce_retention(topic, age=timedelta(hours=1), size=None, now_ms=NOW) >= 10
    other.append(topic, numbered(range(10, 12)))
    other.append(topic, numbered(range(20, 22), partition=1))
    found: list[Record] = []
    try:
        while records := log.read(positions, limit=3):
            found += records
            for record in records:
                positions[TopicPartition(topic, record.partition)] = record.offset + 1
    except RetentionGapError:
        told = True
    else:
        told = False
    first = values(r for r in found if r.partition == 0)
    assert first == [b"v%d" % n for n in range(3, 3 + len(first))]
    assert told or len(first) == 9
    with pytest.raises(RetentionGapError):
        kind.opened().read(stopped, limit=10)


def test_a_hint_changes_nothing_of_ours(kind: Kind) -> None:
    """Telling how far a reader is moves no position, wherever it points."""
    log, topic = kind.log, kind.topic
    log.create_topic(topic)
    log.append(topic, numbered(range(3)))
    log.commit_hint({TopicPartition(topic, 0): 2})
    log.commit_hint({TopicPartition("nowhere", 0): 2})
    assert len(drain(log, starts(log, topic))) == 3

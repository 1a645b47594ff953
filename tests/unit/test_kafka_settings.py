"""The settings for Kafka's clients: what is passed on, what is refused, and that no value is told."""

from __future__ import annotations

import pytest

from connectors.errors import RowtideError
from connectors.log import LogRefusedError
from connectors.log.kafka import KafkaLog
from connectors.log.kafka.settings import client_settings, hosts


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ("a:9092", ["a"]),
        (" a:9092 , b ", ["a", "b"]),
        ("SASL_SSL://a.example:9092", ["a.example"]),
        ("[::1]:9092,[2001:db8::1]:9092", ["::1", "2001:db8::1"]),
        ("127.0.0.1:9092,", ["127.0.0.1"]),
    ],
)
def test_hosts_of_a_list_of_servers(servers: str, expected: list[str]) -> None:
    assert hosts(servers) == expected


@pytest.mark.parametrize("servers", ["localhost:9092", "127.0.0.1:9092", "127.3.2.1", "[::1]:9092"])
def test_plaintext_to_this_machine_is_allowed(servers: str) -> None:
    assert client_settings(servers, {}, allow_plaintext=False)["bootstrap.servers"] == servers


@pytest.mark.parametrize(
    "servers", ["kafka:9092", "localhost:9092,kafka:9092", "192.0.2.1:9092", "localhost.example:9092"]
)
@pytest.mark.parametrize("protocol", [None, "PLAINTEXT", "sasl_plaintext"])
def test_plaintext_to_another_host_is_refused_unless_allowed(servers: str, protocol: str | None) -> None:
    """One foreign host among several is enough; SASL without TLS sends the password in clear."""
    settings = {} if protocol is None else {"security.protocol": protocol}
    with pytest.raises(LogRefusedError, match="without encryption") as refused:
        client_settings(servers, settings, allow_plaintext=False)
    assert "allow_plaintext" in refused.value.hint
    assert client_settings(servers, settings, allow_plaintext=True)["bootstrap.servers"] == servers
    assert client_settings(servers, {"security.protocol": "SASL_SSL"}, allow_plaintext=False)


@pytest.mark.parametrize(
    "name", ["auto.offset.reset", "enable.auto.commit", "group.id", "isolation.level", "transactional.id"]
)
def test_settings_that_carry_the_promises_are_refused(name: str) -> None:
    """An operator can not switch a promise off by passing a setting through."""
    with pytest.raises(LogRefusedError, match=name):
        KafkaLog("localhost:9092", settings={name: "earliest"})


def test_no_servers_are_refused() -> None:
    with pytest.raises(LogRefusedError, match="No Kafka servers"):
        KafkaLog(" ")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"security.protokol": "hunter2"}, "log.client.security.protokol"),
        ({"security.protocol": "hunter2"}, "log.client.security.protocol"),
        ({"security.protocol": "SSL", "ssl.key.pem": "hunter2"}, "log.client.ssl.key.pem"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere/hunter2"}, "log.client.ssl.ca.location"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(settings: dict[str, str | int | float | bool], named: str) -> None:
    """The library's own message may quote a value, which may be a secret; ours names the setting."""
    log = KafkaLog("localhost:9092", settings=settings, patience=1)
    with pytest.raises(RowtideError) as refused:
        log.topics()
    log.close()
    assert named in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__

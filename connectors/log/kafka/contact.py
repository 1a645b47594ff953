"""Contact with the cluster: settings, patience, and what an error of the client library means for us."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException

from connectors.errors import RowtideError
from connectors.log import FencedError, LogRefusedError, LogUnreachableError, UnknownTopicError
from connectors.log.kafka.settings import Setting, client_settings, misnamed

log = structlog.get_logger()
# What the library would write to stderr by itself: ours are the errors and the log.
_library = logging.getLogger("rowtide.librdkafka")
_library.addHandler(logging.NullHandler())
_library.propagate = False
T = TypeVar("T")

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001
_CREDENTIALS = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001
_RIGHTS = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_ENCRYPTION = {KafkaError._SSL}  # noqa: SLF001
_UNKNOWN = {
    KafkaError._NOENT,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}
_STEP = 2.0  # seconds of one attempt: a client polls between attempts for what it was refused
_PAUSE = 0.1


class Contact:
    """What all clients of one log share.

    Args:
        patience: how long servers may fail to answer before a call gives up, in seconds.
    """

    def __init__(
        self, servers: str, settings: Mapping[str, Setting], *, allow_plaintext: bool, patience: float
    ) -> None:
        self.servers = servers
        self.allow_plaintext = allow_plaintext
        self.patience = patience
        self.settings = dict(settings)
        self.closed = threading.Event()
        self._shared = client_settings(servers, settings, allow_plaintext=allow_plaintext)
        self._refusal: RowtideError | None = None
        self._away = False

    def build(self, kind: Callable[[dict[str, Any]], T], **own: Setting) -> T:
        """A client of the library with the shared settings and `own` (dots for underscores)."""
        chosen = {name.replace("_", "."): value for name, value in own.items()}
        operators = {name: value for name, value in self._shared.items() if name in self.settings}
        try:
            return kind({**self._shared, **chosen, **operators, "error_cb": self.heard, "logger": _library})
        except KafkaException as error:
            raise misnamed(self.settings, str(error)) from None

    # --- what the library tells ---

    def heard(self, error: KafkaError) -> None:
        """Note what a client tells on its own: the servers are away, or refuse us."""
        if error.code() in _CREDENTIALS | _ENCRYPTION:
            self._refusal = self.meaning(error, "the connection")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and not self._away:  # noqa: SLF001
            self._away = True
            log.warning("log.unreachable", servers=self.servers)

    def answered(self) -> None:
        """Note that a server answered."""
        self._refusal = None
        if self._away:
            self._away = False
            log.info("log.reachable", servers=self.servers)

    def raise_if_hopeless(self) -> None:
        """Raise what waiting cannot mend."""
        if self.closed.is_set():
            raise RowtideError("The log was closed.", hint="")
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    # --- patience ---

    def persist(self, what: str, attempt: Callable[[float], T], *, poll: Callable[[float], object] | None = None) -> T:
        """Call `attempt(seconds)` until it succeeds, fails for good, or patience ends.

        Raises LogUnreachableError, or what the failure means.
        """
        deadline = time.monotonic() + self.patience
        while True:
            self.raise_if_hopeless()
            try:
                result = attempt(max(_PAUSE, min(_STEP, deadline - time.monotonic())))
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if not transient(error) or error.txn_requires_abort():
                    raise self.meaning(error, what) from None
                if poll is not None:
                    poll(0)
                if time.monotonic() >= deadline:
                    self.raise_if_hopeless()
                    raise self.unreachable(what) from None
                self.closed.wait(_PAUSE)
            else:
                self.answered()
                return result

    def unreachable(self, what: str) -> LogUnreachableError:
        """The error for patience at its end."""
        if not self._away:
            self._away = True
            log.warning("log.unreachable", servers=self.servers)
        return LogUnreachableError(
            f"The Kafka servers {self.servers} did not answer for {self.patience:g} s: {what}.",
            hint="See that the brokers run and are reachable from here; Rowtide goes on where it was.",
        )

    def meaning(self, error: KafkaError, what: str) -> RowtideError:
        """Our error for one of the library's. It tells the error's name: the text may hold more than a log should."""
        code, name = error.code(), error.name()
        if code in _FENCED:
            return FencedError(
                f"Another process took over: {what} ({name}).",
                hint="Let one capture per topic run. If none other does, an append took longer than the transaction may.",
            )
        if code in _CREDENTIALS:
            return LogRefusedError(
                f"The Kafka servers {self.servers} refuse the credentials ({name}).",
                hint='See log.client."sasl.mechanism", "sasl.username" and "sasl.password", or the client certificate.',
            )
        if code in _ENCRYPTION:
            return LogRefusedError(
                f"No encrypted connection to the Kafka servers {self.servers} came about ({name}).",
                hint='See log.client."ssl.ca.location" and that the port is one for TLS.',
            )
        if code in _RIGHTS:
            return LogRefusedError(
                f"The Kafka servers do not allow it: {what} ({name}).", hint="Grant the rights listed in docs/kafka.md."
            )
        if code in _UNKNOWN:
            return UnknownTopicError(f"The log does not have it: {what}.", hint="See `rowtide log topics`.")
        if code in _LARGE:
            return RowtideError(
                f"A message is larger than the Kafka servers take: {what} ({name}).",
                hint="Raise max.message.bytes of the topic.",
            )
        if transient(error):
            return self.unreachable(what)
        if error.txn_requires_abort():
            return LogUnreachableError(
                f"The Kafka servers {self.servers} lost track of a transaction, which was undone: {what} ({name}).",
                hint="A broker went away meanwhile; Rowtide goes on where it was.",
            )
        return RowtideError(f"Kafka could not do it: {what} ({name}).", hint="See the broker's log.")


def transient(error: KafkaError) -> bool:
    """Whether the same request may succeed later."""
    return error.code() in _TRANSIENT or (error.retriable() and error.code() not in _UNKNOWN)


def unknown(error: KafkaError) -> bool:
    """Whether the servers do not know the topic or partition."""
    return error.code() in _UNKNOWN

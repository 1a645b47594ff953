"""What Prometheus reads: gauges of the instance's state, counters of this process. No value of a row, ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from daemon.app import App

CONTENT_TYPE = CONTENT_TYPE_LATEST
STATES = ("absent", "stopped", "idle", "running", "degraded")


def exposition(*apps: App) -> bytes:
    """All metrics of the apps' instances in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Instances(apps))
    return generate_latest(registry)


class _Instances(Collector):
    """Reads the status of each instance at each scrape; a metric's samples of all of them stand together."""

    def __init__(self, apps: Sequence[App]) -> None:
        self._apps = apps

    def collect(self) -> Iterator[Metric]:
        """Each metric once."""
        together: dict[str, Metric] = {}
        for app in self._apps:
            for metric in _Instance(app).collect():
                if metric.name in together:
                    together[metric.name].samples += metric.samples
                else:
                    together[metric.name] = metric
        yield from together.values()


class _Instance:
    """Reads one instance's status."""

    def __init__(self, app: App) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        app, status = self._app, self._app.status()
        domain = [app.name]
        state = GaugeMetricFamily("rowtide_state", "1 for the instance's state.", labels=["domain", "state"])
        for name in STATES:
            state.add_metric([*domain, name], float(status["state"] == name))
        yield state
        lag = GaugeMetricFamily(
            "rowtide_lag_events", "Events in the log that are not taken in.", labels=["domain", "topic", "partition"]
        )
        for place, events in status["lag_events"].items():
            topic, _, partition = place.rpartition("/")
            lag.add_metric([*domain, topic, partition], events)
        yield lag
        if status["behind_seconds"] is not None:
            behind = GaugeMetricFamily(
                "rowtide_behind_seconds", "Age of the oldest event not taken in.", labels=["domain"]
            )
            behind.add_metric(domain, status["behind_seconds"])
            yield behind
        parked = GaugeMetricFamily(
            "rowtide_parked_events", "Events kept because they cannot be applied.", labels=["domain"]
        )
        parked.add_metric(domain, status["parked"])
        yield parked
        rows = GaugeMetricFamily("rowtide_model_rows", "Rows of a model.", labels=["domain", "model"])
        for model, count in status["rows"].items():
            rows.add_metric([*domain, model], count)
        yield rows
        yield from _deliveries(domain, status["write_back"])
        yield from _customers(domain, status["customers"])
        yield from self._process(domain)

    def _process(self, domain: list[str]) -> Iterator[Metric]:
        """What this process has done; nothing before it leads."""
        dispatcher, worker = self._app.dispatcher, self._app.worker
        if dispatcher is not None:
            for name, text, value in (
                ("rowtide_flags_written", "Rows of the source changed by this process.", dispatcher.counts.written),
                ("rowtide_flags_newer", "Updates left out because a person was newer.", dispatcher.counts.newer),
                ("rowtide_delivery_failed_rounds", "Rounds that the source ended.", dispatcher.counts.failed_rounds),
            ):
                counter = CounterMetricFamily(name, text, labels=["domain"])
                counter.add_metric(domain, value)
                yield counter
        if self._app.lane is not None:
            pushes = CounterMetricFamily(
                "rowtide_customer_pushes", "What this process's pushes came to.", labels=["domain", "outcome"]
            )
            for outcome, value in self._app.lane.totals.__dict__.items():
                pushes.add_metric([*domain, outcome], value)
            yield pushes
        if worker is None:
            return
        for name, text, value in (
            ("rowtide_batches", "Batches committed by this process.", worker.totals.batches),
            ("rowtide_events", "Events applied by this process.", worker.totals.events),
            (
                "rowtide_incomplete_transactions",
                "Source transactions applied in parts because the rest did not come.",
                worker.totals.incomplete,
            ),
        ):
            counter = CounterMetricFamily(name, text, labels=["domain"])
            counter.add_metric(domain, value)
            yield counter
        if worker.lag_ms is not None:
            lag = GaugeMetricFamily("rowtide_batch_lag_seconds", "Lag of the last batch.", labels=["domain"])
            lag.add_metric(domain, worker.lag_ms / 1000)
            yield lag


def _deliveries(domain: list[str], written: dict[str, Any] | None) -> Iterator[Metric]:
    """Rows of pending models, and deliveries by state."""
    if written is None:
        return
    pending = GaugeMetricFamily("rowtide_pending_deliveries", "Rows of a pending model.", labels=["domain", "sink"])
    states = GaugeMetricFamily("rowtide_deliveries", "Deliveries by state.", labels=["domain", "sink", "state"])
    for sink, counts in written["sinks"].items():
        for state, number in counts.items():
            if state == "pending":
                pending.add_metric([*domain, sink], number)
            else:
                states.add_metric([*domain, sink, state], number)
    yield pending
    yield states


def _customers(domain: list[str], found: dict[str, Any] | None) -> Iterator[Metric]:
    """Customers by state, what is pending and unsettled, and whether the company may be written to."""
    if found is None:
        return
    states = GaugeMetricFamily("rowtide_customers", "Customers by state.", labels=["domain", "state"])
    for state, number in found["states"].items():
        states.add_metric([*domain, state], number)
    yield states
    for name, text, value in (
        ("rowtide_pending_customers", "Customers that QuickBooks does not hold as they should be.", found["pending"]),
        ("rowtide_unsettled_requests", "Requests to QuickBooks whose outcome is not recorded.", found["unsettled"]),
        (
            "rowtide_quickbooks_silent_seconds",
            "For how long no request got a usable answer; 0 where the last one did.",
            found["unanswered_seconds"],
        ),
        ("rowtide_untold_customers", "Results that are not in the log yet.", found["untold"]),
        ("rowtide_quickbooks_writable", "1 where the company may be written to.", float(found["waits"] is None)),
        ("rowtide_oldest_unsettled_seconds", "Age of the oldest such request.", found["oldest_unsettled_seconds"]),
        ("rowtide_last_customer_push_seconds", "Age of the last push.", found["last_push_seconds"]),
    ):
        if value is not None:
            gauge = GaugeMetricFamily(name, text, labels=["domain"])
            gauge.add_metric(domain, value)
            yield gauge

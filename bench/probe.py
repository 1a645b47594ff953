"""Probes: where the time of a worker goes, measured from outside while the product runs unchanged."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import ExecStatus

from connectors import pipe as pipes
from connectors.log import Log, Record, TopicPartition
from consumers.engine.analysis import Analysis
from consumers.engine.engine import Applied, Engine
from consumers.engine.units import Unit

_TARGET = re.compile(r'\b(?:INSERT INTO|UPDATE|DELETE FROM|COPY) "?(\w+)"?', re.IGNORECASE)
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Spent:
    """Calls and seconds of one statement or part."""

    calls: int = 0
    seconds: float = 0.0


class Parts:
    """Names the part of the work that a statement belongs to, by what it writes."""

    def __init__(self, analysis: Analysis) -> None:
        self._mirrors: Collection[str] = analysis.domain.mirror_tables.keys()
        self._models = {model.name: model.name for model in analysis.models}
        for model in analysis.models:
            for own in (model.file.history.name if model.file.history else None, model.file.keep):
                if own is not None:
                    self._models[own] = model.name

    def of(self, statement: str) -> str:
        """`mirror`, `model NAME`, `keys`, `clock`, `commit` or `bookkeeping`."""
        if statement == "COMMIT":
            return "commit"
        if statement in ("BEGIN", "SAVEPOINT refreshed") or "rowtide." in statement or statement.startswith("SET "):
            return "bookkeeping"
        for target in _TARGET.findall(statement):
            if target in self._models:
                return f"model {self._models[target]}"
            if target in self._mirrors:
                return "mirror"
            if target == "clock":
                return "clock"
        if "AS dues" in statement or re.search(r"<= \$1$", statement):
            return "clock"
        return "keys"


@dataclass
class Statements:
    """Every statement of an engine, as the client sees it: from the answer before it until all its rows are here."""

    by_text: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))

    @contextmanager
    def recording(self, engine: Engine) -> Iterator[None]:
        """Record what the engine sends within the block."""
        arrivals: list[float] = []
        thread = threading.get_ident()
        answered: Any = pipes._answer  # noqa: SLF001 - measured from outside

        def noted(*arguments: Any) -> Any:
            answer = answered(*arguments)
            if threading.get_ident() == thread:
                arrivals.append(time.perf_counter())
            return answer

        def send(inner: Callable[..., Any], statements: Sequence[Any]) -> Any:
            arrivals.clear()
            before = time.perf_counter()
            try:
                return inner(statements)
            finally:
                # The last answer is to the whole; before the first ones, statements may have been prepared.
                for statement, at in zip(statements, arrivals[-len(statements) - 1 : -1], strict=False):
                    spent = self.by_text[statement.sql]
                    spent.calls += 1
                    spent.seconds += at - before
                    before = at

        pipes._answer = noted  # type: ignore[assignment] # noqa: SLF001
        try:
            with _sending(engine, send):
                yield
        finally:
            pipes._answer = answered  # noqa: SLF001

    def by_part(self, parts: Parts) -> dict[str, Spent]:
        """Summed up by part, the costliest first."""
        result: dict[str, Spent] = {}
        for text, spent in self.by_text.items():
            part = result.setdefault(parts.of(text), Spent())
            part.calls += spent.calls
            part.seconds += spent.seconds
        return dict(sorted(result.items(), key=lambda item: -item[1].seconds))


class Plan(NamedTuple):
    """A statement as it ran, with what EXPLAIN (ANALYZE, BUFFERS) says of it."""

    milliseconds: float
    statement: str
    text: str


@contextmanager
def explaining(engine: Engine, connection: psycopg.Connection[Any]) -> Iterator[list[Plan]]:
    """Explain each statement of the engine, rolled back, before it runs; prepared as the engine prepares it.

    So the plan is the generic or the custom one, as the engine has asked for at that moment.
    """
    names: dict[str, str] = {}
    plans: list[Plan] = []

    def run(command: str) -> list[str]:
        # Below psycopg, which would forget the engine's prepared statements at the sight of a ROLLBACK.
        result = connection.pgconn.exec_(command.encode())
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            raise psycopg.ProgrammingError(result.get_error_message())
        return [(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)]

    def send(inner: Callable[..., Any], statements: Sequence[Any]) -> None:
        for statement in statements:
            if statement.sql.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
                explain(statement.sql, statement.parameters)
            inner([statement])

    def explain(text: str, params: Sequence[Any]) -> None:
        run("SAVEPOINT bench" if connection.info.transaction_status else "BEGIN; SAVEPOINT bench")
        if text not in names:
            names[text] = f"bench_{len(names)}"
            run(f"PREPARE {names[text]} AS {text}")
        values = ", ".join(psycopg.sql.Literal(value).as_string(connection) for value in params)
        call = f"{names[text]}({values})" if params else names[text]
        lines = run(f"EXPLAIN (ANALYZE, BUFFERS, SETTINGS) EXECUTE {call}")
        run("ROLLBACK TO SAVEPOINT bench; RELEASE SAVEPOINT bench")
        took = re.search(r"Execution Time: ([\d.]+)", lines[-1])
        plans.append(Plan(float(took[1]) if took else 0.0, text, "\n".join(lines)))

    with _sending(engine, send):
        yield plans


@contextmanager
def _sending(engine: Engine, send: Callable[..., Any]) -> Iterator[None]:
    """Let the engine's statements be sent by this function, given the product's own, within the block."""
    pipe: Any = engine._pipe  # noqa: SLF001 - measured from outside
    pipe._send = partial(send, pipe._send)  # noqa: SLF001
    try:
        yield
    finally:
        del pipe._send  # noqa: SLF001


class ReaderClock:
    """A log that tells what its reader's thread spends: on reading, and between two reads, on decoding.

    It stands between worker and log; what is not measured goes to the log as it is.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.read_cpu = self.read_wall = self.decode_cpu = 0.0
        self._left: dict[int, float] = {}

    def begin(self) -> None:
        """A new reader begins; its thread may bear the number of one that has ended."""
        self._left.clear()

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """See `Log`."""
        thread = threading.get_ident()
        cpu, wall = time.thread_time(), time.perf_counter()
        if thread in self._left:
            self.decode_cpu += cpu - self._left[thread]
        records = self._log.read(positions, limit=limit, max_bytes=max_bytes)
        self._left[thread] = time.thread_time()
        self.read_cpu += self._left[thread] - cpu
        self.read_wall += time.perf_counter() - wall
        return records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@contextmanager
def timed_engine(engine: Engine) -> Iterator[Spent]:
    """Time the engine's calls within the block."""
    spent, apply = Spent(), engine.apply

    def timed(units: Sequence[Unit]) -> Applied:
        began = time.perf_counter()
        try:
            return apply(units)
        finally:
            spent.calls += 1
            spent.seconds += time.perf_counter() - began

    engine.apply = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        del engine.apply


def cpu_seconds(pid: int) -> float:
    """User and system time of another process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_memory(pid: int | None = None) -> int:
    """The most resident memory a process has had so far, in bytes."""
    for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0

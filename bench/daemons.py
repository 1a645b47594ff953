"""The product as a user runs it: `rowtide` in a process of its own, and a source database for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

from bench.probe import peak_memory
from bench.shop import Shop
from consumers.domain import load_domain

_PROGRAM = [sys.executable, "-m", "daemon"]
_LOOK = 0.05  # seconds between two looks at the memory, which the kernel keeps the peak of


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its last line of JSON, the most memory it had resident, in bytes, and its seconds."""

    result: Mapping[str, Any]
    peak: int
    seconds: float


def settings(state: str, source: str | None = None) -> dict[str, str]:
    """The environment for the rental domain on these databases."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROWTIDE_")}
    environment |= {
        "ROWTIDE_DOMAIN": "rental",
        "ROWTIDE_STATE__DSN": state,
        "ROWTIDE_WEB__ENABLED": "false",
        "ROWTIDE_LOG_LEVEL": "error",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    if source is not None:
        environment |= {"ROWTIDE_SOURCE__KIND": "postgres", "ROWTIDE_SOURCE__DSN": source}
    return environment


def command(arguments: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> Ended:
    """Run a command to its end. Raises RuntimeError with what it said where it fails or takes longer."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        process = subprocess.Popen([*_PROGRAM, *arguments], env=environment, stdout=output, stderr=errors)
        try:
            peak = _peak_until_end(process, seconds)
        finally:
            process.kill()
            process.wait()
        took = time.monotonic() - began
        output.seek(0)
        errors.seek(0)
        lines = output.read().strip().splitlines()
        if process.returncode or not lines:
            raise RuntimeError(f"rowtide {' '.join(arguments)}: {process.returncode}\n{errors.read()[-2000:]}")
        return Ended(json.loads(lines[-1]), peak, took)


def _peak_until_end(process: subprocess.Popen[bytes], seconds: float) -> int:
    peak, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        peak = max(peak, peak_memory(process.pid))
        try:
            process.wait(_LOOK)
            break
        except subprocess.TimeoutExpired:
            continue
    return peak


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that runs during the block, and is stopped as systemd stops it."""
    process = subprocess.Popen([*_PROGRAM, "run"], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def create_source(connection: psycopg.Connection[Any], shop: Shop | None = None) -> None:
    """The rental domain's source tables, with a shop's past in them."""
    connection.execute((load_domain("rental").folder / "source.sql").read_bytes())
    if shop is None:
        return
    order = {name: number for number, name in enumerate(load_domain("rental").tables)}
    writes = sorted(shop.history(), key=lambda write: order[write.table])
    for table, rows in groupby(writes, key=lambda write: write.table):
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            for write in rows:
                copy.write_row(write.row or ())

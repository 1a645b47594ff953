"""`make stack`: the whole set-up on this machine, until Ctrl-C; `--for SECONDS` ends by itself and proves it."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from connectors.errors import RowtideError
from deploy.stack.process import ServerFailedError
from deploy.stack.stack import Stack, default_folder, is_stack
from deploy.stack.traffic import Traffic

_SHOWN = 2.0  # seconds between two lines


def main(arguments: list[str] | None = None) -> int:
    """Run the stack; returns the exit code: 1 where something failed or verify was not clean."""
    options = _parser().parse_args(arguments)
    folder = options.state or default_folder()
    runs, quiet = threading.Event(), threading.Event()

    def end(number: int, frame: object) -> None:
        """The first signal ends a running stack in order; one that comes while it starts breaks that off."""
        del number, frame
        if not runs.is_set():
            raise KeyboardInterrupt
        # In a thread of its own: the handler may have interrupted the main thread inside the event's own lock.
        threading.Thread(target=quiet.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        if options.fresh:
            _remove(folder)
        with Stack(folder, say=lambda text: _say(f"{text} …")) as stack:
            runs.set()
            summary = _run(stack, quiet, options)
            _say("stopping …")
    except KeyboardInterrupt:
        return 130
    except RowtideError as error:
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"  {error.hint}")
        return 1
    if summary is None:
        return 0
    sys.stdout.write(json.dumps(summary, default=str) + "\n")
    return 0 if summary["clean"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__)
    parser.add_argument("--state", type=Path, help=f"where everything is kept (default: {default_folder()})")
    parser.add_argument("--fresh", action="store_true", help="begin with an empty folder")
    parser.add_argument("--traffic", action="store_true", help="let the shop live")
    parser.add_argument("--rate", type=float, default=20, help="transactions a second of the traffic")
    parser.add_argument("--seed", type=int, default=None, help="of the traffic")
    parser.add_argument(
        "--for", dest="seconds", type=float, default=None, help="end by itself, with verify and a line of JSON"
    )
    return parser


def _run(stack: Stack, quiet: threading.Event, options: argparse.Namespace) -> dict[str, Any] | None:
    began = time.monotonic()
    _tell(stack)
    rng = random.Random(options.seed)  # noqa: S311 - sample data
    traffic = Traffic(stack.addresses.mariadb, stack.passwords["shop"], rng)
    stop = threading.Event()
    thread = threading.Thread(target=traffic.run, args=(stop, options.rate), name="traffic")
    if options.traffic:
        thread.start()
    try:
        while not quiet.is_set() and not (options.seconds and time.monotonic() - began >= options.seconds):
            left = options.seconds - (time.monotonic() - began) if options.seconds else _SHOWN
            quiet.wait(min(_SHOWN, max(left, 0)))
            _check(stack)
            if options.traffic:
                _show(stack, traffic)
    finally:
        stop.set()
        if options.traffic:
            thread.join()
    if options.seconds is None or quiet.is_set():
        return None
    _say("proving: the mirror against MariaDB, every model against its query …")
    source = stack.rowtide.ask("verify", "--source")
    models = stack.rowtide.ask("verify")
    clean = bool(source["clean"]) and bool(models["clean"])
    status = stack.rowtide.status()
    return {
        "clean": clean,
        "acts": dict(traffic.done),
        "rows": status.get("rows"),
        "verify": models,
        "source": source,
        "seconds": round(time.monotonic() - began, 1),
    }


def _check(stack: Stack) -> None:
    name = stack.failed()
    if name is not None:
        raise ServerFailedError(f"{name} has ended.", hint=f"See the logs in {stack.folder}.")


def _show(stack: Stack, traffic: Traffic) -> None:
    try:
        status = stack.rowtide.status()
    except OSError as error:
        _say(f"the page does not answer: {error}")
        return
    behind = sum((status.get("lag_events") or {}).values())
    rows = ", ".join(f"{name} {count}" for name, count in (status.get("rows") or {}).items())
    _say(f"{sum(traffic.done.values())} transactions, {behind} events behind   {rows}")


def _tell(stack: Stack) -> None:
    places, script = stack.addresses, stack.rowtide.script
    _say(f"""
  Rowtide's page    http://{places.page}
  MariaDB           mariadb --socket={stack.mariadb.socket} --user=root shop
  Kafka             {places.kafka}
  Kafka Connect     http://{places.connect}/connectors?expand=status
  QuickBooks        http://{places.quickbooks}   a simulator: docs/simulator.md
  state database    psql '{stack.postgres.dsn}'
  logs, passwords   {stack.folder}

Try, in another terminal:
  {script} status
  {script} query overdue
  {script} verify
  {script} verify --source
Change something in MariaDB and ask again. Ctrl-C ends everything; the next start goes on from there.
""")


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not is_stack(folder):
        raise RowtideError(f"{folder} is not empty, and no stack.", hint="Name another folder: --state DIR.")
    shutil.rmtree(folder)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

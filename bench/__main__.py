"""`python -m bench`: runs benchmarks, shows progress, ends with one line of JSON."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable

import psycopg
import structlog
from rich.console import Console

from bench import end_to_end, flat, kafka, memory, rebuilding, single, throughput
from bench.report import Outcome, last_line, machine, show
from bench.run import Run, new_progress
from bench.stage import postgres

BENCHMARKS: dict[str, Callable[[Run], Outcome]] = {
    "throughput": throughput.run,
    "single": single.run,
    "end-to-end": end_to_end.run,
    "rebuild": rebuilding.run,
    "flat": flat.run,
    "memory": memory.run,
    "kafka": kafka.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for. Returns 0, or 1 if a benchmark failed; a goal that is not met is a figure, no failure."""
    options = _parser().parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 150)
    # So that a run that is told to end takes its servers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes: dict[str, Outcome] = {}
    failures: list[str] = []
    with postgres() as server, new_progress(console) as progress:
        with psycopg.connect(server.dsn()) as connection:
            about = machine(connection.info.server_version)
        run = Run(
            console=console,
            server=server,
            progress=progress,
            scale=options.scale,
            rentals=options.rentals,
            seconds=options.seconds_limit,
            seed=options.seed,
            calendar=not options.dense_only,
            profile=options.profile,
        )
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, options.seconds_limit)
        for name in options.only or BENCHMARKS:
            if run.out_of_time:
                failures.append(f"{name}: no time was left (--seconds-limit {options.seconds_limit:g})")
                continue
            try:
                outcomes[name] = BENCHMARKS[name](run)
            except Exception as error:  # noqa: BLE001 - the others' figures are worth having
                console.print_exception()
                failures.append(f"{name}: {type(error).__name__}")
                continue
            show(console, name, outcomes[name])
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(last_line(about, outcomes, failures), flush=True)
    return 1 if failures else 0


def _out_of_time(*_: object) -> None:
    raise TimeoutError("the time of the run is over (--seconds-limit)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="repeat for several")
    parser.add_argument("--scale", type=float, default=1.0, help="of events and rows (default 1)")
    parser.add_argument("--rentals", type=int, default=16_000, help="size of the shop's history (default 16000)")
    parser.add_argument("--seconds-limit", type=float, default=1200.0, help="the run ends after (default 1200)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dense-only", action="store_true", help="throughput: leave out the run over Sakila's days")
    parser.add_argument("--profile", action="store_true", help="throughput: print the slowest statements' plans")
    return parser


if __name__ == "__main__":
    sys.exit(main())

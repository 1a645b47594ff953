"""Commands for the log itself: topics, append, dump, retention."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO

import msgspec
import typer

from connectors.errors import RowtideError
from connectors.log import Message, TopicPartition
from daemon.cli.common import JSON_OPTION, print_json, print_rows
from daemon.parked import as_line, forget, parked_events
from daemon.retention import enforce


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of JSON: a record as on the wire; `*_base64` where it is not UTF-8."""

    topic: str
    key: str | None = None
    value: str | None = None
    ts: int | None = None
    key_base64: str | None = None
    value_base64: str | None = None
    partition: int = 0
    reason: str | None = None  # of a parked event: told, not appended


def register(app: typer.Typer) -> None:
    """Add the commands."""
    log = typer.Typer(help="The log: look into it, fill it, copy it.", no_args_is_help=True)
    log.command()(topics)
    log.command()(append)
    log.command()(dump)
    log.command()(retention)
    log.command()(parked)
    app.add_typer(log, name="log")


def topics(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """The topics with their partitions and retained offsets."""
    with context.obj.app() as app:
        extents = app.log.extents(app.log.topics())
    rows = [(place.topic, place.partition, extent.start, extent.end) for place, extent in sorted(extents.items())]
    if json_output:
        print_json([dict(zip(("topic", "partition", "start", "end"), row, strict=True)) for row in rows])
    else:
        print_rows("", ["topic", "partition", "start", "end"], rows)


def append(
    context: typer.Context, file: str = typer.Argument(help="A file of JSON lines, or - for standard input.")
) -> None:
    """Append JSON lines {"topic","key","value","ts"} to the log; topics are created as needed."""
    if file != "-" and not Path(file).is_file():
        raise RowtideError(f"There is no file {file}.", hint="Name a file of JSON lines, or - for standard input.")
    with context.obj.app() as app:
        total, shown = 0, time.monotonic()
        known = app.log.topics()
        stream: IO[bytes] = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
        try:
            for topic, lines in groupby(_lines(stream), key=lambda line: line.topic):
                if topic not in known:
                    app.log.create_topic(topic)
                total += app.log.append(topic, map(_message, lines))
                if sys.stderr.isatty() and time.monotonic() - shown > 1:
                    typer.echo(f"\r{total} records", nl=False, err=True)
                    shown = time.monotonic()
        except RowtideError as error:
            raise RowtideError(
                error.message, hint=f"{error.hint} {total} records before it were appended.".strip()
            ) from None
        finally:
            stream.close()
        typer.echo(f"appended {total} records")


def _lines(stream: IO[bytes]) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RowtideError(
                f"Line {number} is not a record: {error}.",
                hint='A line is {"topic": "…", "key": "…" or null, "value": "…" or null, "ts": milliseconds}.',
            ) from None
        if not line.topic:
            raise RowtideError(f"Line {number} names no topic.", hint="Give it a topic.")
        yield line


def _message(line: Line) -> Message:
    now = line.ts if line.ts is not None else int(time.time() * 1000)
    return Message(_bytes(line.key, line.key_base64), _bytes(line.value, line.value_base64), now, line.partition)


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            raise RowtideError(
                "A record has a *_base64 that is not base64.", hint="Copy it from `rowtide log dump`."
            ) from None
    return None if text is None else text.encode("utf-8", "surrogatepass")


def dump(context: typer.Context, topic: str) -> None:
    """Write a topic's records as JSON lines, in the order of appending."""
    with context.obj.app() as app:
        extents = app.log.extents([topic])
        positions = {place: extent.start for place, extent in extents.items()}
        while records := app.log.read(positions, limit=5000):
            for record in records:
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                print_json(as_line(record))


def retention(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """Remove from the domain's topics what the settings do not keep; a running daemon does it by itself."""
    with context.obj.app() as app:
        removed = enforce(app)
    if json_output:
        print_json(removed)
    else:
        print_rows("", ["topic", "removed"], list(removed.items()))


def parked(
    context: typer.Context,
    forget_them: bool = typer.Option(False, "--forget", help="Forget them: they have been dealt with."),
    json_output: bool = JSON_OPTION,
) -> None:
    """The events that could not be applied, with the reason; --json prints them whole, as `log append` takes them."""
    with context.obj.app() as app:
        if forget_them:
            typer.echo(f"forgot {forget(app)} parked events")
            return
        found = parked_events(app)
    if json_output:
        for event in found:
            print_json(event.as_line())
        return
    rows = [(e.id, e.topic, e.partition, e.offset, e.parked_at, e.reason) for e in found]
    print_rows("", ["id", "topic", "partition", "offset", "parked at", "reason"], rows)

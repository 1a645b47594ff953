"""What the commands share: the global options, and ways to print."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from connectors.errors import RowtideError
from daemon import logging
from daemon.app import App, Table, open_app, open_apps
from daemon.settings import Loaded, load_instances, load_settings

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
CSV_OPTION = typer.Option(False, "--csv", help="Print CSV.")


@dataclass(frozen=True)
class Context:
    """The global options."""

    domain: str | None
    state: str | None
    config: str | None
    debug: bool
    instances: tuple[str, ...] = ()

    def load(self) -> Loaded:
        """The settings with the global options on top; sets up the logs."""
        if len(self.instances) > 1:
            raise RowtideError("This command is about one instance.", hint="Only `rowtide run` takes several.")
        named = {"instance": self.instances[0]} if self.instances else {}
        loaded = load_settings(self._file, overrides={**self._overrides, **named})
        logging.configure(loaded.settings.log_level, loaded.settings.log_format)
        return loaded

    @property
    def _file(self) -> Path | None:
        return Path(self.config) if self.config else None

    @property
    def _overrides(self) -> dict[str, str | None]:
        return {"domain": self.domain, "state.folder": self.state}

    @contextmanager
    def apps(self, instances: Sequence[str] = ()) -> Iterator[list[App]]:
        """The apps for the instances named, else for all that the settings tell of."""
        found = load_instances(self._file, overrides=self._overrides, chosen=instances or self.instances)
        logging.configure(found[0].settings.log_level, found[0].settings.log_format)
        with open_apps([loaded.settings for loaded in found]) as apps:
            yield apps

    @contextmanager
    def app(self) -> Iterator[App]:
        """The app for the settings."""
        with open_app(self.load().settings) as app:
            yield app


def print_json(value: Any) -> None:
    """One line of JSON on stdout; moments and decimals as text."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")


def print_table(table: Table, *, as_json: bool = False, as_csv: bool = False) -> None:
    """A result as a table, as JSON (a list of objects) or as CSV."""
    if as_json:
        print_json([dict(zip(table.columns, row, strict=True)) for row in table.rows])
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(table.columns)
        writer.writerows(["" if value is None else value for value in row] for row in table.rows)
    else:
        print_rows(table.title, table.columns, table.rows)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows as a table for people."""
    table = RichTable(title=title or None, title_justify="left", header_style="bold")
    numeric = [
        bool(rows) and all(isinstance(r[n], int | float) or r[n] is None for r in rows) for n in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        table.add_row(*["" if value is None else str(value) for value in row])
    Console(soft_wrap=not sys.stdout.isatty()).print(table)
    if not rows:
        sys.stdout.write("no rows\n")

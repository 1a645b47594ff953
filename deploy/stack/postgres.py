"""The state database of the native stack: the embedded PostgreSQL, held by the stack as a server of its own."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.embedded import EmbeddedPostgres
from deploy.stack.definition import STATE


class StatePostgres:
    """A PostgreSQL on a socket in its folder; a context manager that leaves it, and so stops it, at the end.

    Args:
        folder: where its data lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: EmbeddedPostgres | None = None
        self.dsn = ""

    def start(self) -> None:
        """Start the server and make the database. Raises RowtideError."""
        if self._server is None:
            self._server = EmbeddedPostgres(self.folder)
            self.dsn = self._server.ensure_database(STATE)

    def close(self) -> None:
        """Stop it, where no other process uses it."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

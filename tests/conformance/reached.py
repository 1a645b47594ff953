"""Databases as their owner reaches them: statements run, rows read. One base for both families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import psycopg

from deploy.stack.mariadb import MariaDB


class Reached(ABC):
    """A database of either family. `kind` is the family as settings call it."""

    kind = ""

    @abstractmethod
    def session(self) -> Any:
        """A connection that begins transactions by itself."""

    @abstractmethod
    def execute(self, *statements: str) -> None:
        """Run each statement in a transaction of its own."""

    @abstractmethod
    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""


class ReachedPostgres(Reached):
    """A PostgreSQL database.

    Args:
        place: the owner's connection string.
    """

    kind = "postgres"

    def __init__(self, place: str) -> None:
        self._place = place

    def session(self) -> Any:
        return psycopg.connect(self._place)

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self._place, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._place) as connection:
            return connection.execute(statement).fetchall()


class ReachedMariadb(Reached):
    """A database of a MariaDB, made empty."""

    kind = "mysql"

    def __init__(self, server: MariaDB, database: str) -> None:
        self._server = server
        self.database = database
        server.create_database(database)

    def session(self) -> Any:
        return self._server.connect(self.database, autocommit=False)

    def execute(self, *statements: str) -> None:
        self._server.execute(*statements, database=self.database)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        connection = self._server.connect(self.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

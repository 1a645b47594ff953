"""What the containers of `docker-compose.yml` have done once: passwords, the sample shop; and its traffic.

python -m deploy.stack.prepare passwords|shop|traffic
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql

from connectors.errors import RowtideError
from deploy.stack import shop
from deploy.stack.definition import CONTAINERS, STATE_CONTAINER
from deploy.stack.passwords import ensure_passwords, state_dsn, write_addresses
from deploy.stack.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRETS = Path("/run/rowtide")
_READABLE = 0o444  # each container has accounts of its own, and mounts only what it needs
_RATE = 5.0


def passwords(folder: Path = SECRETS) -> None:
    """Make up the passwords that are not there, and lay down what is made of them."""
    made = ensure_passwords(folder, mode=_READABLE)
    state = state_dsn(STATE_CONTAINER, made["state"])
    write_addresses(folder, made, source=CONTAINERS.mariadb, state=state, mode=_READABLE)


def load_shop(folder: Path = SECRETS) -> bool:
    """Load the shop and make its users; returns whether it is new."""
    given = {reader: _password(folder, reader) for reader in ("root", "shop", "source")}

    def connect() -> pymysql.connections.Connection[Any]:
        place = CONTAINERS.mariadb
        return pymysql.connect(
            host=place.host, port=place.port, user="root", password=given["root"], autocommit=True, connect_timeout=10
        )

    return shop.prepare(connect, given)


def traffic(folder: Path = SECRETS) -> None:
    """Let the shop live until told to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    rng = random.Random()  # noqa: S311 - sample data
    Traffic(CONTAINERS.mariadb, _password(folder, "shop"), rng).run(stop, _RATE)


def _password(folder: Path, reader: str) -> str:
    try:
        return (folder / reader / "password").read_text(encoding="utf-8")
    except OSError as error:
        raise RowtideError(
            f"The password of {reader} cannot be read: {error.strerror}.",
            hint="Mount its volume, and run `passwords` first.",
        ) from None


def main(arguments: Sequence[str]) -> int:
    """Do what is named; returns the exit code."""
    steps = {"passwords": passwords, "shop": load_shop, "traffic": traffic}
    if len(arguments) != 1 or arguments[0] not in steps:
        sys.stderr.write(f"usage: python -m deploy.stack.prepare {'|'.join(steps)}\n")
        return 2
    try:
        steps[arguments[0]]()
    except (RowtideError, pymysql.err.MySQLError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

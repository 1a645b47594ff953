"""Passwords for a stack: made up once, kept in files, never in the repository, a command line or a log.

One folder for each reader, so that each server is given only what it needs:

    root/password                      MariaDB's administrator
    shop/password                      the shop's programs
    source/password, connect.properties, dsn    the user that reads the source
    state/password, dsn                the state database's owner
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from deploy.stack.definition import CAPTURE_USER, SHOP, STATE, Address

READERS = ("root", "shop", "source", "state")


def ensure_passwords(folder: Path, *, mode: int = 0o600) -> dict[str, str]:
    """Make up the passwords that are not there yet; returns all, by reader.

    Args:
        folder: of the secrets; each reader's folder below it is made where absent.
        mode: of the files. Containers, each with users of its own, need 0o444 in volumes that only they mount.
    """
    found = {}
    for reader in READERS:
        path = folder / reader / "password"
        if not path.exists():
            _write(path, secrets.token_urlsafe(24), mode)
        found[reader] = path.read_text(encoding="utf-8")
    return found


def write_addresses(
    folder: Path, passwords: Mapping[str, str], *, source: Address, state: str, mode: int = 0o600
) -> None:
    """Lay down what is made of passwords and addresses; files of an earlier start are replaced.

    `source` is where MariaDB is, `state` the state database's whole connection string.
    """
    password = passwords["source"]
    _write(folder / "source" / "connect.properties", f"password={password}\n", mode)
    _write(folder / "source" / "dsn", f"mariadb://{CAPTURE_USER}:{quote(password, safe='')}@{source}/{SHOP}", mode)
    _write(folder / "state" / "dsn", state, mode)


def state_dsn(address: Address, password: str) -> str:
    """The connection string of a state database that asks for a password."""
    return f"postgresql://{STATE}:{quote(password, safe='')}@{address}/{STATE}"


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable by others than meant."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if mode & 0o044 else 0o700)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    beside.chmod(mode)
    beside.replace(path)

"""The key that the tokens are sealed with: a file of its own that nobody else can read, never in the database or the settings."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.quickbooks.errors import KeyFileError

CREDENTIAL = "rowtide-quickbooks-key"
BYTES = 32
_NONCE = 12


class Key:
    """Seals and opens texts with AES-256-GCM, bound to the company they belong to."""

    def __init__(self, secret: bytes, place: Path) -> None:
        self._sealer = AESGCM(secret)
        self._place = place

    def seal(self, text: bytes, realm_id: str) -> bytes:
        """The text in a form that only this key opens, for this company."""
        nonce = os.urandom(_NONCE)
        return nonce + self._sealer.encrypt(nonce, text, realm_id.encode())

    def open(self, sealed: bytes, realm_id: str) -> bytes:
        """The text. Raises KeyFileError where it was sealed with another key, for another company, or was altered."""
        try:
            return self._sealer.decrypt(sealed[:_NONCE], sealed[_NONCE:], realm_id.encode())
        except (InvalidTag, ValueError):
            raise KeyFileError(
                f"The stored tokens of QuickBooks were sealed with another key than that in {self._place}.",
                hint="Put the key back that was there; where it is lost, type `rowtide quickbooks connect` for new tokens.",
            ) from None


def key_place(file: Path | None) -> Path | None:
    """Where the key is looked for: the file of the settings, else systemd's credential; None where neither is given."""
    if file is not None:
        return file
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / CREDENTIAL if folder else None


def read_key(file: Path | None) -> Key:
    """The key.

    Raises:
        KeyFileError: there is none, others can read it, another user owns it, or it is no key.
    """
    place = key_place(file)
    if place is None:
        raise KeyFileError(
            "No key is set that the tokens of QuickBooks are sealed with.",
            hint="Set quickbooks.key_file to a path, and type `rowtide quickbooks connect`, which offers to make it.",
        )
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(
            f"The key of QuickBooks' tokens, {place}, cannot be read: {error.strerror}.",
            hint="`rowtide quickbooks connect --yes` makes one; a key that was lost cannot be made again.",
        ) from None
    try:
        _check(os.fstat(descriptor), place)
        text = os.read(descriptor, 1024)
    finally:
        os.close(descriptor)
    try:
        secret = base64.b64decode(text.strip().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) != BYTES:
        raise KeyFileError(
            f"{place} holds no key: {BYTES} bytes in base64 are expected.",
            hint=f"Make one: openssl rand -base64 {BYTES} > {place}; or `rowtide quickbooks connect` with a path that is free.",
        )
    return Key(secret, place)


def _check(found: os.stat_result, place: Path) -> None:
    credential = os.environ.get("CREDENTIALS_DIRECTORY")
    of_systemd = credential is not None and place.parent == Path(credential)
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileError(f"The key of QuickBooks' tokens, {place}, is no file.", hint="Correct quickbooks.key_file.")
    if found.st_uid != os.geteuid() and not (of_systemd and found.st_uid == 0):
        raise KeyFileError(
            f"The key of QuickBooks' tokens, {place}, belongs to another user (uid {found.st_uid}).",
            hint=f"Type: chown {os.geteuid()} {place}",
        )
    if (
        found.st_mode & 0o077 and not of_systemd
    ):  # systemd's own files may be let through by an ACL that shows as a group's
        raise KeyFileError(
            f"The key of QuickBooks' tokens, {place}, can be read by others (mode {stat.S_IMODE(found.st_mode):04o}).",
            hint=f"Type: chmod 0600 {place}",
        )


def make_key(place: Path) -> Key:
    """Make a key in a new file that only this user can read; durable when this returns. Raises KeyFileError."""
    secret = os.urandom(BYTES)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(base64.urlsafe_b64encode(secret) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(
            f"The key of QuickBooks' tokens cannot be made in {place}: {error.strerror}.",
            hint="Set quickbooks.key_file to a path that this user can write.",
        ) from None
    return Key(secret, place)

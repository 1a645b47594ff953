"""The key of the tokens: its file is nobody else's, and what it seals is bound to its company."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from connectors.quickbooks.errors import KeyFileError
from connectors.quickbooks.keys import CREDENTIAL, make_key, read_key


def test_a_key_that_was_made_can_be_read_and_opens_what_it_sealed(tmp_path: Path) -> None:
    """Made once, in a file of mode 0600, never over another."""
    place = tmp_path / "etc" / "key"
    sealed = make_key(place).seal(b"tokens", "1")
    assert place.stat().st_mode & 0o777 == 0o600
    assert read_key(place).open(sealed, "1") == b"tokens"
    assert b"tokens" not in sealed
    with pytest.raises(KeyFileError):
        make_key(place)


def test_what_is_sealed_opens_for_its_company_and_key_only(tmp_path: Path) -> None:
    """Another company, another key, an altered byte: refused with what to do."""
    key, other = make_key(tmp_path / "a"), make_key(tmp_path / "b")
    sealed = key.seal(b"tokens", "1")
    for opening, text, realm_id in [
        (key, sealed, "2"),
        (other, sealed, "1"),
        (key, sealed[:-1] + b"x", "1"),
        (key, b"", "1"),
    ]:
        with pytest.raises(KeyFileError, match="another key") as refused:
            opening.open(text, realm_id)
        assert "rowtide quickbooks connect" in refused.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The message has the command to type."""
    place = tmp_path / "key"
    make_key(place)
    place.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}") as refused:
        read_key(place)
    assert refused.value.hint == f"Type: chmod 0600 {place}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could change it."""
    place = tmp_path / "key"
    make_key(place)
    os.chown(place, 12345, -1)
    with pytest.raises(KeyFileError, match="12345") as refused:
        read_key(place)
    assert "chown" in refused.value.hint


def test_what_is_no_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, a folder, too short: each says what is wrong."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    short = tmp_path / "short"
    short.write_bytes(base64.b64encode(b"x" * 16))
    short.chmod(0o600)
    for place, told in [
        (None, "No key is set"),
        (tmp_path / "no", "cannot be read"),
        (tmp_path, "is no file"),
        (short, "no key"),
    ]:
        with pytest.raises(KeyFileError, match=told):
            read_key(place)


def test_both_alphabets_of_base64_are_read(tmp_path: Path) -> None:
    """`openssl rand -base64 32` writes + and /."""
    secret = bytes(range(224, 256))
    keys = []
    for name, encode in [("plain", base64.b64encode), ("url", base64.urlsafe_b64encode)]:
        place = tmp_path / name
        place.write_bytes(encode(secret) + b"\n")
        place.chmod(0o600)
        keys.append(read_key(place))
    assert keys[1].open(keys[0].seal(b"tokens", "1"), "1") == b"tokens"


def test_systemds_credential_is_the_key_where_no_file_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadCredential= puts it there; systemd sees to its rights, which may show a group."""
    sealed = make_key(tmp_path / CREDENTIAL).seal(b"tokens", "1")
    (tmp_path / CREDENTIAL).chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key(None).open(sealed, "1") == b"tokens"

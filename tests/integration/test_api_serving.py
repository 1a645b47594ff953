"""How page and API are served: over TLS or to this machine alone, for one instance or several, and what is logged of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

import pytest
import requests
from api_school import CANARIES, Office, office
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from connectors.embedded import EmbeddedPostgres
from connectors.state import connect, migrate
from daemon import logging
from daemon.api.tokens import make
from daemon.app import open_app, open_apps
from daemon.settings import SettingsError, load_instances, load_settings
from daemon.web import ExposedError, create_web, serve_page

ANALYZE = "/api/v1/sync/customers/analyze"


@pytest.fixture(scope="module")
def dsn(server: EmbeddedPostgres) -> str:
    """One state database for all: what is served of it is what is looked at."""
    database = server.ensure_database("api_serving")
    migrate(database)
    return database


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rowtide")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(_pem(key, serialization.NoEncryption()))
    (tmp_path / "sealed.pem").write_bytes(_pem(key, serialization.BestAvailableEncryption(b"secret")))
    return cert_file, key_file


def _pem(key: ec.EllipticCurvePrivateKey, how: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def settings(dsn: str, **more: str) -> dict[str, str]:
    return {"ROWTIDE_DOMAIN": "mis", "ROWTIDE_STATE__DSN": dsn, **more}


def test_page_and_api_speak_tls(dsn: str, certificate: tuple[Path, Path]) -> None:
    """With a certificate both are served over TLS, and nothing without."""
    cert, key = certificate
    files = {"ROWTIDE_API__TLS_CERT": str(cert), "ROWTIDE_API__TLS_KEY": str(key)}
    token = "the-token-of-the-settings"
    given = settings(dsn, ROWTIDE_API__TOKEN=token, **files)
    with open_app(load_settings(None, given).settings) as app:
        app.init()
        with serve_page([app], "127.0.0.1", 0) as port:
            asked = requests.get(
                f"https://127.0.0.1:{port}{ANALYZE}",
                headers={"Authorization": f"Bearer {token}"},
                verify=str(cert),
                timeout=10,
            )
            assert asked.json()["data"]["overall"]["total_customers"] == 0
            assert requests.get(f"https://127.0.0.1:{port}/health", verify=str(cert), timeout=10).status_code == 200
            with pytest.raises(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/health", timeout=10)


@pytest.mark.parametrize("wrong", ["absent.pem", "sealed.pem", "cert.pem"])
def test_a_certificate_that_will_not_do_is_told(dsn: str, certificate: tuple[Path, Path], wrong: str) -> None:
    """A key that is absent, sealed with a passphrase or no key at all is an error before anything is served."""
    cert, _ = certificate
    given = settings(dsn, ROWTIDE_API__TLS_CERT=str(cert), ROWTIDE_API__TLS_KEY=str(cert.parent / wrong))
    with open_app(load_settings(None, given).settings) as app:
        served = serve_page([app], "127.0.0.1", 0)
        with pytest.raises(ExposedError, match="certificate or its key"):
            served.__enter__()


def test_certificate_and_key_belong_together(dsn: str) -> None:
    """One without the other is refused with the settings."""
    with pytest.raises(SettingsError, match="tls_cert and tls_key"):
        load_settings(None, settings(dsn, ROWTIDE_API__TLS_CERT="cert.pem"))


def test_a_short_token_is_refused(dsn: str) -> None:
    """A token that could be guessed is refused with the settings, and not shown."""
    with pytest.raises(SettingsError, match="24 letters") as refused:
        load_settings(None, settings(dsn, ROWTIDE_API__TOKEN="easyguess"))
    assert "easyguess" not in str(refused.value)


def test_the_api_is_not_served_to_others_in_the_clear(dsn: str) -> None:
    """On an address that other machines reach the daemon refuses to serve the API without TLS, unless told to."""
    remote = {"ROWTIDE_WEB__HOST": "0.0.0.0", "ROWTIDE_WEB__ALLOW_REMOTE": "true"}
    with open_app(load_settings(None, settings(dsn, **remote)).settings) as app:
        served = serve_page([app], "0.0.0.0", 0)
        with pytest.raises(ExposedError, match=r"0\.0\.0\.0 without TLS"):
            served.__enter__()
    for said in ({"ROWTIDE_API__ALLOW_PLAINTEXT": "true"}, {"ROWTIDE_API__ENABLED": "false"}):
        with (
            open_app(load_settings(None, settings(dsn, **remote, **said)).settings) as app,
            serve_page([app], "127.0.0.1", 0) as port,
        ):
            status = requests.get(f"http://127.0.0.1:{port}{ANALYZE}", timeout=10).status_code
            assert status == (404 if "ROWTIDE_API__ENABLED" in said else 401)
    with pytest.raises(SettingsError, match="allow_remote"):
        load_settings(None, settings(dsn, ROWTIDE_WEB__HOST="0.0.0.0"))


def test_a_domain_that_pushes_nothing_has_no_api(dsn: str) -> None:
    """Rentals have a page and no API; their reports and queries need no token."""
    with open_app(load_settings(None, {**settings(dsn), "ROWTIDE_DOMAIN": "rental"}).settings) as app:
        app.init()
        client = TestClient(create_web(app))
        assert client.get("/api/openapi.json").status_code == 404
        assert client.get("/queries/overdue").status_code == 200


def test_several_instances_have_an_api_each(dsn: str, tmp_path: Path) -> None:
    """Below /instances/NAME, with an OpenAPI document that says so; a token opens those of one state database."""
    config = tmp_path / "rowtide.toml"
    config.write_text('domain = "mis"\n[instances.north]\n[instances.south]\n')
    found = load_instances(config, {"ROWTIDE_STATE__DSN": dsn})
    with open_apps([loaded.settings for loaded in found]) as apps:
        for app in apps:
            app.init()
        with connect(dsn) as connection:
            token = make(connection, "tests")
        client = TestClient(create_web(*apps))
        headers = {"Authorization": f"Bearer {token}"}
        for name in ("north", "south"):
            assert client.get(f"/instances/{name}{ANALYZE}").status_code == 401
            assert client.get(f"/instances/{name}{ANALYZE}", headers=headers).json()["success"] is True
            document = client.get(f"/instances/{name}/api/openapi.json").json()
            assert document["servers"] == [{"url": f"/instances/{name}/api"}]
        assert client.get(ANALYZE, headers=headers).status_code == 404


def test_an_instance_that_is_not_there_is_told(dsn: str) -> None:
    """Before `rowtide init` the API says what to type, and is no mistake of ours."""
    given = settings(dsn, ROWTIDE_INSTANCE="absent", ROWTIDE_API__TOKEN="the-token-of-the-settings")
    with open_app(load_settings(None, given).settings) as app:
        client = TestClient(create_web(app), headers={"Authorization": "Bearer the-token-of-the-settings"})
        for address in ("analyze", "status", "preview/students"):
            answer = client.get(f"/api/v1/sync/customers/{address}")
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert "rowtide init" in answer.json()["details"]["hint"] + answer.json()["message"]


def test_nothing_of_tokens_or_people_is_logged(dsn: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is asked, rightly or wrongly, no log line has a token or a value of a person, at the finest level."""
    with office(dsn) as desk:
        logging.configure("debug", "json")
        desk.admit(1, first_name=CANARIES[0], family_name=CANARIES[1], email1=CANARIES[2], phone1=CANARIES[3])
        used_until_now = _wrongly(desk)
        desk.post("all")
        assert desk.get("preview/applicants").status_code == 200
    out, err = capfd.readouterr()
    assert '"api.pushed"' in err
    for secret in (desk.token, *used_until_now, *CANARIES):
        assert secret not in out + err


def _wrongly(desk: Office) -> list[str]:
    """Tokens where they do not belong; returns those that are none."""
    desk.get(f"analyze?token={desk.token}")
    desk.get(f"{desk.token}")
    desk.post("all", {"token": desk.token})
    desk.ask("POST", "all", data=b"{" + desk.token.encode(), headers={"Content-Type": "application/json"})
    wrong = "rowtide_a-token-that-opens-nothing"
    desk.get("analyze", token=wrong)
    desk.get(f"/queries/{CANARIES[0]}")
    return [wrong]

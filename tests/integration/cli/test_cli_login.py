"""`panda login` at an issuer: a code is shown, somebody types it in, and a token of ours is kept."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import pytest
from cli_scripted import Panda, Silent, ThreadingServer

from panda.api.app import create_app
from panda.auth import tokens
from panda.client import ClientError
from panda.client.device import Device
from panda.db.session import Begin
from panda.errors import Unauthenticated
from panda.settings import Oidc, Settings
from tests.oidc_issuer import AUDIENCE, CLIENT_ID, TestIssuer

PENDING = {"error": "authorization_pending"}


@pytest.fixture(scope="module")
def known() -> Iterator[TestIssuer]:
    issuer = TestIssuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def issuer(known: TestIssuer) -> Iterator[TestIssuer]:
    yield known
    known.broken.clear()
    known.answers.clear()


@pytest.fixture
def url(begin: Begin, settings: Settings, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that knows the issuer; the environment says nothing."""
    for name in ("PANDA_URL", "PANDA_TOKEN", "PANDA_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)
    oidc = Oidc(issuer=issuer.url, audience=AUDIENCE, client_id=CLIENT_ID, default_role="user")
    app = create_app(begin, dataclasses.replace(settings, oidc=oidc))
    server = make_server("127.0.0.1", 0, app, ThreadingServer, Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_login_at_the_issuer_is_one_here_until_it_is_ended(
    url: str, issuer: TestIssuer, panda: Panda, tmp_path: Path, begin: Begin
) -> None:
    issuer.answers += [PENDING, {"error": "slow_down"}, {"id_token": issuer.token(), "access_token": "opaque"}]

    shown = panda("login", url, "--as", "here")
    who = panda("whoami", "-q")
    kept = (tmp_path / "config" / "panda" / "credentials.toml").read_text()
    token = kept.partition('token = "')[2].partition('"')[0]
    ended = panda("logout")

    assert shown.code == 0, shown.err
    assert f"open {issuer.url}/page?code=ABCD-EFGH in a browser, and see that it shows the code ABCD-EFGH" in shown.err
    assert (who.out, token.startswith("panda_")) == ("ann\n", True)
    assert ended.err == f"logged out of {url}\n"
    with begin() as connection, pytest.raises(Unauthenticated, match="revoked"):
        tokens.verify(connection, token)


def test_the_token_that_is_for_this_server_is_taken(url: str, issuer: TestIssuer, panda: Panda) -> None:
    issuer.answers.append({"id_token": issuer.token(aud=CLIENT_ID), "access_token": issuer.token()})

    assert panda("login", url, "--as", "here").code == 0
    assert panda("whoami", "-q").out == "ann\n"


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        ({"error": "access_denied", "error_description": "not you"}, 4, "the issuer refused: not you"),
        ({"error": "expired_token"}, 4, "the issuer refused: expired_token"),
        ({"id_token": "a.b.c"}, 4, "not good"),
        ({}, 1, "does not answer as one"),
        ({"id_token": 7}, 1, "does not answer as one"),
    ],
)
def test_a_login_that_is_refused_keeps_nothing(
    url: str, issuer: TestIssuer, panda: Panda, tmp_path: Path, answer: dict[str, Any], code: int, told: str
) -> None:
    issuer.answers.append(answer)

    ended = panda("login", url)

    assert (ended.code, told in ended.err) == (code, True), ended.err
    assert not (tmp_path / "config").exists()


def document(known: TestIssuer, **words: Any) -> dict[str, Any]:
    return {**known.document("/.well-known/openid-configuration", {})[1], **words}


DEVICE = {"device_code": "d", "user_code": "U", "verification_uri": "https://issuer.example.org/page"}
CONFIGURATION = "/.well-known/openid-configuration"
BROKEN: dict[str, Callable[[TestIssuer], dict[str, Any]]] = {
    "away": lambda i: {CONFIGURATION: (503, {})},
    "HTML": lambda i: {CONFIGURATION: (200, b"<html>")},
    "a list": lambda i: {CONFIGURATION: (200, [])},
    "elsewhere": lambda i: {CONFIGURATION: (302, {})},
    "another issuer": lambda i: {CONFIGURATION: (200, document(i, issuer="https://evil.example.org"))},
    "a token endpoint by http": lambda i: {CONFIGURATION: (200, document(i, token_endpoint="http://evil.example.org"))},
    "no login of devices": lambda i: {CONFIGURATION: (200, document(i, device_authorization_endpoint=None))},
    "no code": lambda i: {"/device": (200, {})},
    "a code for terminals": lambda i: {"/device": (200, DEVICE | {"user_code": "\x1b[2J"})},
    "a page by http": lambda i: {"/device": (200, DEVICE | {"verification_uri": "http://evil.example.org"})},
    "a page that is a script": lambda i: {"/device": (200, DEVICE | {"verification_uri_complete": "javascript:x"})},
    "another client": lambda i: {"/device": (400, {"error": "invalid_client"})},
    "half an answer": lambda i: {"/device": (200, json.dumps(DEVICE).encode()[:-9])},
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_issuer_that_is_broken_is_told_in_a_sentence(issuer: TestIssuer, case: str) -> None:
    issuer.broken |= BROKEN[case](issuer)

    with pytest.raises(ClientError) as told:
        Device(issuer.url, CLIENT_ID, "openid", sleep=lambda _: None).begin()

    assert len(told.value.message) > 10


def test_an_issuer_that_is_not_there_is_told() -> None:
    with pytest.raises(ClientError, match="does not answer"):
        Device("http://127.0.0.1:1", CLIENT_ID, "openid", sleep=lambda _: None).begin()


def test_nobody_waits_for_ever(issuer: TestIssuer) -> None:
    slept: list[float] = []
    issuer.answers += [PENDING, {"error": "slow_down"}, *[PENDING] * 100]
    device = Device(issuer.url, CLIENT_ID, "openid", sleep=slept.append)

    with pytest.raises(ClientError, match="nobody typed the code in"):
        device.tokens(device.begin())

    assert slept[:4] == [1, 1, 6, 6]
    assert 60 <= sum(slept) < 70

"""Tokens of an OpenID Connect issuer: who they let in, as whom, with which roles; and everything that they do not."""

import base64
import dataclasses
import json
import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.auth import oidc as oidc_module
from panda.auth import tokens
from panda.auth.oidc import Issuer
from panda.db.session import rows, run
from panda.errors import ConfigError, Unauthenticated, Unavailable
from panda.settings import Oidc, Settings, load
from tests.integration.api.conftest import ONE_JOB, Caller
from tests.oidc_issuer import AUDIENCE, CLIENT_ID, TestIssuer

ROLES = '{"/panda/users": "user", "/panda/shift": ["user", "operator"]}'


@pytest.fixture(scope="module")
def issuer():
    issuer = TestIssuer()
    yield issuer
    issuer.stop()


@pytest.fixture(autouse=True)
def healthy(issuer):
    yield
    issuer.broken.clear()
    for kid in set(issuer.keys) - {"first"}:
        del issuer.keys[kid]


@pytest.fixture
def oidc(issuer):
    return Oidc(issuer=issuer.url, audience=AUDIENCE, roles=ROLES, client_id=CLIENT_ID)


@pytest.fixture
def app(begin, settings, oidc):
    return TestClient(create_app(begin, dataclasses.replace(settings, oidc=oidc)))


@pytest.fixture(scope="module")
def stable(shared, issuer):
    """An API on the database that this module shares, which knows the issuer's keys."""
    oidc = Oidc(issuer=issuer.url, audience=AUDIENCE, roles=ROLES)
    app = TestClient(create_app(shared.begin, Settings(oidc=oidc)))
    assert Caller(app, issuer.token()).get("/v1/whoami").status_code == 200
    return app


@pytest.fixture
def comes(app, issuer):
    """Somebody who comes with a token of the issuer."""
    return lambda **claims: Caller(app, issuer.token(**claims))


def known(begin):
    with begin() as connection:
        found = rows(connection, "SELECT name, roles, issuer IS NOT NULL AS foreign, subject FROM users ORDER BY name")
    return [tuple(row) for row in found]


def test_who_comes_for_the_first_time_becomes_a_user_and_submits(comes, begin):
    ann = comes()

    assert ann.get("/v1/whoami").json == {"subject": "ann", "roles": ["user"], "queue": None}
    accepted = ann.submit(ONE_JOB).json
    assert ann.get(f"/v1/jobsets/{accepted['jobset_id']}").json["owner"] == "ann"
    assert known(begin) == [("ann", ["user"], True, "1234")]
    with begin() as connection:
        audit = rows(connection, "SELECT who, action, target FROM audit_log")
    assert [tuple(row) for row in audit] == [("oidc", "create_user", "ann")]


def test_roles_follow_the_groups_and_the_name_stays(comes, begin):
    comes().get("/v1/whoami")
    shift = comes(groups=["/panda/shift", "/other"], preferred_username="ann.smith").get("/v1/whoami")
    again = comes(groups=["/panda/users"]).get("/v1/whoami")

    assert shift.json == {"subject": "ann", "roles": ["operator", "user"], "queue": None}
    assert again.json["roles"] == ["user"]
    assert known(begin) == [("ann", ["user"], True, "1234")]


@pytest.mark.parametrize("elliptic", [False, True])
def test_a_new_key_is_fetched_once(comes, issuer, elliptic):
    assert comes().get("/v1/whoami").status_code == 200
    n_fetched = issuer.received.count("/keys")
    issuer.add_key("second", elliptic=elliptic)

    # So soon after the last time the issuer is not asked again, whoever invents names of keys.
    assert comes(kid="second").get("/v1/whoami").status_code == 401
    assert issuer.received.count("/keys") == n_fetched
    assert Issuer(Oidc(issuer=issuer.url, audience=AUDIENCE)).claims(issuer.token("second"))["sub"] == "1234"


def test_a_user_of_the_same_name_is_not_taken_over(comes, begin, app):
    with begin() as connection:
        ours = Caller(app, tokens.create(connection, "ann", ["admin"], "ours", 3600))

    answer = comes().get("/v1/whoami")
    other = comes(sub="9", preferred_username="bob").get("/v1/whoami")
    stolen = comes(sub="10", preferred_username="bob").get("/v1/whoami")

    assert (answer.status_code, "belongs to somebody else" in answer.json["detail"]) == (401, True)
    assert (other.status_code, stolen.status_code) == (200, 401)
    assert ours.get("/v1/whoami").json["roles"] == ["admin"]


def test_who_is_banned_stays_outside_and_so_does_who_left_every_group(comes, begin, monkeypatch):
    assert comes().get("/v1/whoami").status_code == 200
    assert comes(groups=["/other"]).get("/v1/whoami").status_code == 401
    with begin() as connection:
        run(connection, "UPDATE users SET banned_at = panda_now()")

    assert "ann is banned" in comes().get("/v1/whoami").json["detail"]


def test_two_who_come_at_once_become_one_user(comes, begin, issuer, app):
    caller = comes()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(Caller(app, issuer.token()).get("/v1/whoami").status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [200] * 4
    assert caller.get("/v1/whoami").status_code == 200
    assert len(known(begin)) == 1


def unsigned(issuer):
    body = issuer.token().split(".")[1]
    plain = base64.urlsafe_b64encode(b'{"alg":"none","kid":"first"}').rstrip(b"=").decode()
    return f"{plain}.{body}."


def signed_with_the_public_key(issuer):
    """The old trick: an HMAC whose secret is the key that everybody knows."""
    public = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=")
    body = issuer.token().split(".")[1].encode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head + b"." + body, public)
    return (head + b"." + body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def changed(issuer):
    head, _, signature = issuer.token().split(".")
    claims = jwt.decode(issuer.token(), options={"verify_signature": False}) | {"groups": ["/panda/shift"]}
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.{signature}"


BAD_TOKENS = {
    "for another audience": lambda i: i.token(aud="other"),
    "for nobody": lambda i: i.token(aud=None),
    "an audience that begins like ours": lambda i: i.token(aud=AUDIENCE + "x"),
    "of another issuer": lambda i: i.token(iss="https://evil.example.org"),
    "of an issuer with a slash more": lambda i: i.token(iss=i.url + "/"),
    "of no issuer": lambda i: i.token(iss=None),
    "its time is over": lambda i: i.token(exp=int(time.time()) - 60),
    "no end": lambda i: i.token(exp=None),
    "not yet": lambda i: i.token(nbf=int(time.time()) + 600),
    "an end that is none": lambda i: i.token(exp="tomorrow"),
    "nobody's": lambda i: i.token(sub=None),
    "a subject that is none": lambda i: i.token(sub=7),
    "without a name": lambda i: i.token(sub="new", preferred_username=None),
    "a name that is none": lambda i: i.token(sub="new", preferred_username="../etc"),
    "a name that is a list": lambda i: i.token(sub="new", preferred_username=["ann"]),
    "in no group": lambda i: i.token(groups=None),
    "groups that are none": lambda i: i.token(groups={"/panda/users": True}),
    "a stranger's key": lambda i: i.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "a key that there is not": lambda i: i.token(headers={"kid": "third"}),
    "a key that is a number": lambda i: i.token() if False else _headed(i, {"alg": "RS256", "kid": 1}),
    "a secret for a key": signed_with_the_public_key,
    "not signed": unsigned,
    "changed": changed,
    "cut": lambda i: i.token()[:-10],
    "two dots and nothing": lambda i: "a.b.c",
    "dots alone": lambda i: "..",
    "too long": lambda i: i.token(name="x" * 20_000),
    "no UTF-8": lambda i: "\u00ff.\u00ff.\u00ff",
}


def _headed(issuer, head):
    _, body, signature = issuer.token().split(".")
    return f"{base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b'=').decode()}.{body}.{signature}"


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_a_token_that_is_not_good_opens_nothing(stable, shared, issuer, case):
    before = known(shared.begin)

    answer = Caller(stable, BAD_TOKENS[case](issuer)).get("/v1/whoami")

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated"), answer.text
    assert known(shared.begin) == before


BROKEN = {
    "away": {"/.well-known/openid-configuration": (503, {})},
    "another issuer": {"/.well-known/openid-configuration": (200, {"issuer": "https://evil", "jwks_uri": "https://evil/keys"})},
    "keys by http": {"/.well-known/openid-configuration": (200, {"issuer": None, "jwks_uri": "http://evil.example.org/keys"})},
    "no JSON": {"/.well-known/openid-configuration": (200, b"<html>")},
    "a list": {"/.well-known/openid-configuration": (200, [])},
    "elsewhere": {"/.well-known/openid-configuration": (302, {})},
    "keys away": {"/keys": (500, {})},
    "no keys": {"/keys": (200, {"keys": []})},
    "keys that are none": {"/keys": (200, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})},
    "keys without end": {"/keys": (200, b'{"keys": "' + b" " * 1_100_000 + b'"}')},
    "keys that are no list": {"/keys": (200, {"keys": 7})},
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_an_issuer_that_is_broken_lets_nobody_in_and_is_not_to_blame_on_them(shared, oidc, issuer, case):
    issuer.broken |= BROKEN[case]
    app = TestClient(create_app(shared.begin, Settings(oidc=oidc)))
    with shared.begin() as connection:
        ours = Caller(app, tokens.create(connection, "bert", ["user"], "ours", 3600))

    answer = Caller(app, issuer.token()).get("/v1/whoami")

    assert answer.status_code in (401, 503), answer.text
    assert answer.json["code"] in ("unavailable", "unauthenticated")
    assert ours.get("/v1/whoami").status_code == 200  # our own tokens do not ask it


def test_known_keys_go_on_while_the_issuer_is_away_but_not_for_ever(issuer):
    now = [0.0]
    reader = Issuer(Oidc(issuer=issuer.url, audience=AUDIENCE), clock=lambda: now[0])
    reader.claims(issuer.token())
    issuer.broken["/keys"] = (503, {})

    now[0] = oidc_module.KEYS_S + 1
    assert reader.claims(issuer.token())["sub"] == "1234"
    with pytest.raises(Unauthenticated, match="no key of its issuer"):
        reader.claims(issuer.token(headers={"kid": "unknown"}))
    now[0] = oidc_module.TRUSTED_S + 2
    with pytest.raises(Unavailable):
        reader.claims(issuer.token())
    issuer.broken.clear()
    now[0] += oidc_module.PAUSE_S + 1
    assert reader.claims(issuer.token())["sub"] == "1234"


def test_one_key_without_a_name_is_enough(issuer):
    reader = Issuer(Oidc(issuer=issuer.url, audience=AUDIENCE, jwks_url=f"{issuer.url}/keys"))

    assert reader.claims(issuer.token(headers={}))["sub"] == "1234"
    issuer.add_key("second")
    other = Issuer(Oidc(issuer=issuer.url, audience=AUDIENCE))
    with pytest.raises(Unauthenticated):
        other.claims(issuer.token(headers={}))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"issuer": "http://issuer.example.org"}, "it must be https"),
        ({"issuer": "issuer"}, "it must be https"),
        ({"jwks_url": "http://issuer.example.org/keys"}, "it must be https"),
        ({"audience": ""}, "wants an audience"),
        ({"roles": "user"}, "is no JSON object"),
        ({"roles": "[]"}, "is no JSON object"),
        ({"roles": '{"a": 1}'}, "is no JSON object"),
        ({"roles": '{"a": "king"}'}, "there is no role 'king'"),
        ({"default_role": "king"}, "there is no role 'king'"),
    ],
)
def test_settings_that_cannot_be_meant_end_the_server_at_its_start(shared, words, told):
    oidc = Oidc(**({"issuer": "https://issuer.example.org", "audience": "panda"} | words))

    with pytest.raises(ConfigError, match=told):
        create_app(shared.begin, Settings(oidc=oidc))


def test_settings_come_from_the_environment():
    found = load([], {"PANDA_OIDC_ISSUER": "https://i.example.org", "PANDA_OIDC_ROLES": ROLES}).oidc

    assert (found.issuer, found.roles) == ("https://i.example.org", ROLES)
    with pytest.raises(ConfigError, match="token_ttl_s"):
        load([], {"PANDA_OIDC_TOKEN_TTL_S": "5"})


def test_a_token_of_the_issuer_becomes_one_of_ours(comes, app, begin, oidc, issuer):
    made = comes().post("/v1/login")
    ours = Caller(app, made.json["token"])

    assert (made.status_code, made.json["owner"], made.json["roles"], made.json["ttl_s"]) == (
        201,
        "ann",
        ["user"],
        86_400,
    )
    assert ours.get("/v1/whoami").json["subject"] == "ann"
    again = ours.post("/v1/login")
    assert (again.status_code, again.json["code"]) == (409, "not_vouched")
    assert ours.post(f"/v1/tokens/{made.json['token_id']}/revoke", {"reason": "logged out"}).json["n"] == 1
    assert app.simulate_get("/v1/login").json == {
        "issuer": issuer.url, "client_id": CLIENT_ID, "audience": AUDIENCE, "scope": oidc.scope,
    }  # fmt: skip
    assert app.simulate_post("/v1/login").status_code == 401


def test_without_an_issuer_nobody_is_sent_to_one(client, anna):
    assert set(client.simulate_get("/v1/login").json.values()) == {None}
    assert anna.post("/v1/login").status_code == 409
    assert Caller(client, "a.b.c").get("/v1/whoami").status_code == 401

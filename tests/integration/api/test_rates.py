"""A token that is used too often waits, and so does an address without a good token; others do not."""

import dataclasses

from falcon.testing import TestClient

from panda.api import rates
from panda.api.app import create_app


def test_a_token_that_is_used_too_often_is_told_when_to_come_again(begin, settings, anna, pilot, operator, monkeypatch):
    monkeypatch.setattr(rates, "monotonic", lambda: 5.0)
    limits = dataclasses.replace(settings.api, requests_per_s=1, requests_at_once=3)
    client = TestClient(create_app(begin, dataclasses.replace(settings, api=limits)))
    hasty, other, agent = (type(anna)(client, each.token) for each in (anna, operator, pilot))

    answers = [hasty.get("/v1/whoami") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json["code"] == "too_many_requests"
    assert int(answers[-1].headers["Retry-After"]) == 1
    assert other.get("/v1/whoami").status_code == 200
    assert all(agent.get("/v1/whoami").status_code == 200 for _ in range(10))
    assert client.simulate_get("/healthz").status_code == 200


def test_an_address_without_a_good_token_is_told_to_wait_and_a_good_token_is_not(begin, settings, anna, monkeypatch):
    monkeypatch.setattr(rates, "monotonic", lambda: 5.0)
    monkeypatch.setattr(rates, "STRANGER_BURST_S", 3)
    limits = dataclasses.replace(settings.api, strangers_per_s=1)
    client = TestClient(create_app(begin, dataclasses.replace(settings, api=limits)))

    def call(address, token="wrong", **headers):
        return client.simulate_get(
            "/v1/whoami", headers={"Authorization": f"Bearer {token}", **headers}, remote_addr=address
        )

    statuses = [call("192.0.2.1").status_code for _ in range(3)]
    last = call("192.0.2.1", **{"X-Forwarded-For": "198.51.100.7"})

    assert statuses == [401, 401, 401]
    assert (last.status_code, last.json["code"], last.headers["Retry-After"]) == (429, "too_many_requests", "1")
    assert call("192.0.2.1", token=anna.token).status_code == 200
    assert call("192.0.2.2").status_code == 401
    assert client.simulate_get("/healthz", remote_addr="192.0.2.1").status_code == 200


def test_callers_behind_a_proxy_of_ours_are_told_apart(begin, settings, monkeypatch):
    monkeypatch.setattr(rates, "monotonic", lambda: 5.0)
    monkeypatch.setattr(rates, "STRANGER_BURST_S", 1)
    limits = dataclasses.replace(settings.api, strangers_per_s=1, trusted_proxies="192.0.2.1")
    client = TestClient(create_app(begin, dataclasses.replace(settings, api=limits)))

    def call(caller):
        headers = {"X-Forwarded-For": caller}
        return client.simulate_get("/v1/whoami", headers=headers, remote_addr="192.0.2.1").status_code

    assert [call("198.51.100.7"), call("198.51.100.7"), call("198.51.100.8")] == [401, 429, 401]

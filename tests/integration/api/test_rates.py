"""A token that is used too often waits; others do not."""

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

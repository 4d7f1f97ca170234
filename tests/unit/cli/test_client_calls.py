"""What the client repeats, what it does not, and what it makes of answers. The network is scripted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from panda.client import (
    Client,
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WaitTimeout,
)
from panda.client.environment import DEFAULT_URL, token_from, url_from
from panda.client.transport import HttpTransport, LostReply, NotSent, Request, Response


class Answer:
    """A whole answer."""

    def __init__(self, status: int, document: Any = None, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self._body = (
            b"" if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
        )
        self._headers = dict(headers or {})

    def header(self, name: str) -> str:
        return self._headers.get(name, "")

    def read(self, n_bytes: int = -1) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        pass


class Script:
    """A transport that plays what it was given, and remembers what it was sent."""

    def __init__(self, *acts: Answer | Exception) -> None:
        self._acts = list(acts)
        self.sent: list[Request] = []

    def send(self, request: Request) -> Response:
        self.sent.append(request)
        act = self._acts.pop(0)
        if isinstance(act, Exception):
            raise act
        return act

    def close(self) -> None:
        pass


def client_of(*acts: Answer | Exception) -> tuple[Client, Script, list[float]]:
    script, slept = Script(*acts), list[float]()
    return Client(transport=script, token="t", sleep=slept.append), script, slept


ACCEPTED = {"jobset_id": 1, "first_panda_id": 10, "last_panda_id": 19, "n_jobs": 10, "new_field": 5}


def test_a_submission_is_repeated_under_its_one_key() -> None:
    client, script, slept = client_of(NotSent("refused"), LostReply("reset"), Answer(503), Answer(201, ACCEPTED))

    accepted = client.submit({"name": "a"})

    keys = {request.headers["Idempotency-Key"] for request in script.sent}
    assert len(script.sent) == 4
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert [request.body for request in script.sent] == [b'{"name":"a"}'] * 4
    assert accepted.n_jobs == 10
    assert len(slept) == 3


def test_what_a_newer_server_adds_is_kept() -> None:
    client, _, _ = client_of(Answer(201, ACCEPTED))

    assert client.submit({}).raw["new_field"] == 5


def test_waits_grow_and_end_after_five_tries() -> None:
    client, script, slept = client_of(*[NotSent("refused")] * 6)

    with pytest.raises(Unavailable, match="no server at refused") as given_up:
        client.job(1)

    assert len(script.sent) == 5
    assert given_up.value.code == "no_server"
    for n, (low, high) in enumerate([(0.1, 0.2), (0.2, 0.4), (0.4, 0.8), (0.8, 1.6)]):
        assert low <= slept[n] <= high


@pytest.mark.parametrize(
    ("header", "low", "high"), [("3", 3, 3.1), ("9999", 60, 60.1), ("soon", 0.1, 0.2), ("-1", 0.1, 0.2)]
)
def test_retry_after_is_honoured_within_reason(header: str, low: float, high: float) -> None:
    client, _, slept = client_of(
        Answer(503, {}, {"Retry-After": header}), Answer(200, {"panda_id": 1, "status": "running"})
    )

    client.job(1)

    assert low <= slept[0] <= high


def test_a_retry_whose_answer_was_lost_is_not_repeated() -> None:
    client, script, _ = client_of(LostReply("reset"))

    with pytest.raises(Unavailable, match="whether it was done is not known") as lost:
        client.retry(1)

    assert len(script.sent) == 1
    assert lost.value.code == "lost_reply"
    assert lost.value.may_be_done
    assert script.sent[0].fresh


def test_a_reading_whose_answer_was_lost_again_and_again_changed_nothing() -> None:
    client, _, _ = client_of(*[LostReply("reset")] * 5)

    with pytest.raises(Unavailable) as lost:
        client.job(1)

    assert lost.value.code == "lost_reply"
    assert not lost.value.may_be_done


@pytest.mark.parametrize("act", [NotSent("refused"), Answer(503), Answer(429)])
def test_a_retry_that_was_not_done_is_repeated(act: Answer | Exception) -> None:
    client, script, _ = client_of(act, Answer(200, {"n": 1}))

    assert client.retry(1).n == 1
    assert len(script.sent) == 2


@pytest.mark.parametrize("status", [502, 504])
def test_an_unsure_gateway_is_asked_again_only_where_that_does_no_harm(status: int) -> None:
    client, script, _ = client_of(Answer(status), Answer(200, {"n": 1}))
    assert client.cancel(1).n == 1

    client, script, _ = client_of(Answer(status))
    with pytest.raises(Unavailable):
        client.retry(1)
    assert len(script.sent) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid), (401, Unauthenticated), (403, Forbidden), (404, NotFound), (405, Invalid), (409, Conflict),
        (413, TooLarge), (422, Invalid), (500, ServerError), (507, Unavailable),
    ],
)  # fmt: skip
def test_a_refusal_is_an_error_of_its_kind_at_once(status: int, kind: type[ClientError]) -> None:
    problem = {"code": "some_code", "detail": "a sentence", "request_id": "r1", "where": "jobs[0]"}
    client, script, _ = client_of(Answer(status, problem))

    with pytest.raises(kind) as refused:
        client.job(1)

    assert type(refused.value) is kind
    assert (refused.value.code, str(refused.value), refused.value.request_id) == ("some_code", "a sentence", "r1")
    assert refused.value.status == status
    assert refused.value.problem["where"] == "jobs[0]"
    assert len(script.sent) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b"\xff"])
def test_a_refusal_without_a_problem_document_has_its_kind_all_the_same(body: bytes) -> None:
    client, _, _ = client_of(Answer(404, body, {"X-Request-Id": "r2"}))

    with pytest.raises(NotFound, match="the server answered 404") as refused:
        client.job(1)

    assert (refused.value.code, refused.value.request_id) == ("not_found", "r2")


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[]", b"{}", b'{"panda_id": "x", "status": 5}', b""])
def test_an_answer_that_is_no_job_is_the_servers_error(body: bytes) -> None:
    client, _, _ = client_of(Answer(200, body))

    with pytest.raises(ServerError):
        client.job(1)


def page(*ids: int, following: int | None) -> Answer:
    return Answer(200, {"data": [{"panda_id": i, "status": "failed"} for i in ids], "page": {"next": following}})


def test_pages_are_fetched_as_they_are_asked_for() -> None:
    client, script, _ = client_of(page(9, 8, following=8), page(following=5), page(4, following=None))

    jobs = client.jobs(status="failed", limit=None)

    assert next(jobs).panda_id == 9
    assert len(script.sent) == 1
    assert [job.panda_id for job in jobs] == [8, 4]
    assert [request.target for request in script.sent] == [
        "/v1/jobs?status=failed&limit=500",
        "/v1/jobs?status=failed&after=8&limit=500",
        "/v1/jobs?status=failed&after=5&limit=500",
    ]


def test_a_limit_asks_for_no_more_than_it_needs() -> None:
    client, script, _ = client_of(page(9, 8, following=8), page(7, following=7))

    assert [job.panda_id for job in client.jobs(limit=3)] == [9, 8, 7]
    assert [request.target for request in script.sent] == ["/v1/jobs?limit=3", "/v1/jobs?after=8&limit=1"]


def test_a_cursor_that_does_not_move_is_not_followed_for_ever() -> None:
    client, _, _ = client_of(page(9, following=9), page(9, following=9))

    with pytest.raises(ServerError, match="does not get past 9"):
        list(client.jobs())


def job(status: str) -> Answer:
    return Answer(200, {"panda_id": 1, "status": status})


def test_a_wait_looks_ever_more_seldom_until_the_end() -> None:
    client, script, slept = client_of(
        Answer(404, {"code": "not_expanded"}), *[job("running") for _ in range(14)], job("finished")
    )
    seen = list[dict[str, int]]()

    waited = client.wait(jobs=[1], on_look=lambda waited: seen.append(waited.by_status))

    assert waited.is_finished
    assert seen[0] == {"pending": 1}
    assert slept[0] == pytest.approx(0.2)
    assert slept[-1] == 2.0
    assert slept == sorted(slept)
    assert len(script.sent) == 16


def test_a_wait_outlives_a_restart_of_the_server() -> None:
    client, _, _ = client_of(job("running"), *[NotSent("refused")] * 5, job("finished"))

    assert client.wait(jobs=[1]).is_finished


def test_a_wait_without_patience_ends_with_the_server() -> None:
    client, _, _ = client_of(*[NotSent("refused")] * 5)

    with pytest.raises(Unavailable):
        client.wait(jobs=[1], patience_s=0)


def test_a_wait_that_takes_too_long_says_how_far_it_came() -> None:
    client, _, _ = client_of(job("running"))

    with pytest.raises(WaitTimeout, match="1 running"):
        client.wait(jobs=[1], timeout_s=0)


def test_a_job_that_never_was_ends_a_wait() -> None:
    client, _, _ = client_of(Answer(404, {"code": "not_found"}))

    with pytest.raises(NotFound):
        client.wait(jobs=[1])


def test_the_environment_names_server_and_token(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("from-file\n")

    assert url_from({"PANDA_DATA_DIR": str(tmp_path)}) == DEFAULT_URL
    assert url_from({"PANDA_URL": "http://x:1"}) == "http://x:1"
    assert token_from({"PANDA_TOKEN": "direct", "PANDA_TOKEN_FILE": str(tmp_path / "t")}) == "direct"
    assert token_from({"PANDA_TOKEN_FILE": str(tmp_path / "t")}) == "from-file"
    with pytest.raises(Invalid, match="PANDA_TOKEN_FILE"):
        token_from({"PANDA_TOKEN_FILE": str(tmp_path / "none")})


def test_the_token_of_this_machine_goes_to_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("admin")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "supervisor.json").write_text('{"api": "http://127.0.0.1:4711"}')
    environ = {"PANDA_DATA_DIR": str(tmp_path)}

    assert url_from(environ) == "http://127.0.0.1:4711"
    assert token_from(environ, "http://127.0.0.1:4711") == "admin"
    assert token_from(environ, "http://localhost:1") == "admin"
    assert token_from(environ, "https://panda.example.org") == ""


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:25080", "http://", "http://x:0", "http://x:99999", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="is no server address"):
        HttpTransport(url)


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan"])
def test_a_timeout_that_is_none_is_refused(timeout: str) -> None:
    with pytest.raises(Invalid, match="PANDA_TIMEOUT"):
        Client.from_env({"PANDA_TIMEOUT": timeout})

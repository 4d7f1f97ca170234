"""Whatever is sent, the answer is a problem with a stable code, and nothing is half done."""

import gzip
from uuid import uuid4

import pytest

from panda.db.session import rows

JOB = {"command": ["/bin/true"]}


@pytest.fixture
def anna(shared):
    """A user; the tests here share one database, and look at what is in it."""
    return shared.caller("user")


@pytest.fixture
def begin(shared):
    return shared.begin


def sent(anna, body, content_type="application/json", **headers):
    headers = {"Idempotency-Key": uuid4().hex, "Content-Type": content_type, **headers}
    return anna("POST", "/v1/jobsets", body=body, headers=headers)


def n_stored(begin):
    with begin() as connection:
        return rows(connection, "SELECT count(*) AS n FROM jobsets")[0].n


BAD_BODIES = {
    "nothing": (b"", 400, "invalid", None),
    "half of it": (b'{"name": "x", "jobs": [', 400, "invalid", None),
    "no JSON": (b"name: x", 400, "invalid", None),
    "a list": (b"[]", 422, "invalid", None),
    "null": (b"null", 422, "invalid", None),
    "no name": (b'{"jobs": []}', 422, "invalid", None),
    "unknown field": (b'{"name": "x", "jobs": [{"comand": ["x"]}]}', 422, "invalid", "jobs[0]"),
    "wrong type": (b'{"name": "x", "jobs": [{"command": "x"}]}', 422, "invalid", "jobs[0].command"),
    "text for number": (b'{"name": "x", "jobs": [{"command": ["x"], "cores": "4"}]}', 422, "invalid", "jobs[0].cores"),
    "number too large": (b'{"name": "x", "defaults": {"cores": 1e400}}', 422, "invalid", "defaults.cores"),
    "huge int": (b'{"name": "x", "depends_on": [' + b"9" * 400 + b"]}", 422, "invalid", "depends_on[0]"),
    "below zero": (b'{"name": "x", "jobs": [{"command": ["x"], "cores": -1}]}', 422, "invalid", "jobs[0].cores"),
    "escaped NUL": (b'{"name": "x\\u0000y", "jobs": [{"command": ["x"]}]}', 400, "invalid", None),
    "escaped NUL in a key": (
        b'{"name": "x", "template": {"command": ["x"], "matrix": {"a\\u0000": [1]}}}', 400, "invalid", None,
    ),
    "plain NUL": (b'{"name": "x\x00y"}', 400, "invalid", None),
    "half a surrogate": (b'{"name": "\\ud800"}', 400, "invalid", None),
    "the other half": (b'{"name": "\\udc00", "jobs": [{"command": ["x"]}]}', 400, "invalid", None),
    "UTF-16": ('{"name": "x"}'.encode("utf-16"), 400, "invalid", None),
    "Latin-1": ('{"name": "ü"}'.encode("latin-1"), 400, "invalid", None),
    "too deep": (b"[" * 200_000, 422, "invalid", None),
    "too deep inside": (b'{"name": ' + b'{"a":' * 100_000, 422, "invalid", "name"),
    "a requirement that stops": (
        b'{"name": "x", "jobs": [{"command": ["x"]}], "brokerage": {"requirements": "queue.cores >"}}', 422,
        "bad_requirement", "brokerage.requirements",
    ),
    "a requirement that is code": (
        b'{"name": "x", "jobs": [{"command": ["x"]}], "brokerage": {"requirements": "__import__(\'os\').abort()"}}',
        422, "bad_requirement", "brokerage.requirements",
    ),
    "a requirement without an end": (
        b'{"name": "x", "jobs": [{"command": ["x"]}], "brokerage": {"requirements": "' + b"(" * 200_000 + b'"}}', 422,
        "bad_requirement", "brokerage.requirements",
    ),
    "a kind that is none": (b'{"name": "x", "kind": "a b", "jobs": [{"command": ["x"]}]}', 422, "bad_name", "kind"),
    "a group that is none": (
        b'{"name": "x", "working_group": "../x", "jobs": [{"command": ["x"]}]}', 422, "bad_name", "working_group",
    ),
    "nobody excluded": (
        b'{"name": "x", "jobs": [{"command": ["x"]}], "brokerage": {"sites": ["A", "!"]}}', 422, "bad_name",
        "brokerage.sites[1]",
    ),
    "fewer than no GPUs": (b'{"name": "x", "defaults": {"gpus": -1}}', 422, "invalid", "defaults.gpus"),
    "a path for a name": (b'{"name": "../x", "jobs": [{"command": ["x"]}]}', 422, "bad_name", "name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_refused_and_nothing_is_stored(anna, begin, case):
    body, status, code, where = BAD_BODIES[case]
    before = n_stored(begin)

    answer = sent(anna, body)

    assert (answer.status_code, answer.json["code"], answer.json.get("where")) == (status, code, where)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert n_stored(begin) == before


def test_a_misspelt_field_gets_a_suggestion(anna):
    assert "did you mean 'command'?" in sent(anna, b'{"name": "x", "jobs": [{"comand": ["x"]}]}').json["detail"]


def test_of_duplicate_keys_the_last_one_counts(anna):
    answer = sent(anna, b'{"name": "first", "name": "second", "jobs": [{"command": ["x"]}]}')

    assert anna.get(f"/v1/jobsets/{answer.json['jobset_id']}").json["name"] == "second"


def test_a_backslash_before_u0000_is_text(anna):
    assert sent(anna, b'{"name": "x", "jobs": [{"command": ["\\\\u0000"]}]}').status_code == 201


def test_a_body_above_the_cap_is_refused_unread(anna, begin):
    body = b'{"name": "' + b"x" * 20_000_000 + b'"}'
    before = n_stored(begin)

    answer = sent(anna, body)

    assert (answer.status_code, answer.json["code"]) == (413, "too_large")
    assert n_stored(begin) == before


def test_a_chunked_body_is_read_no_further_than_the_cap(anna, endless):
    answer = anna(
        "POST", "/v1/jobsets", headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
        extras={"wsgi.input": endless, "wsgi.input_terminated": True},
    )  # fmt: skip

    assert answer.status_code == 413
    assert endless.n_read <= 16_000_001


def test_a_gzipped_body_is_read(anna):
    body = gzip.compress(b'{"name": "x", "jobs": [{"command": ["x"]}]}')

    assert sent(anna, body, **{"Content-Encoding": "gzip"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (gzip.compress(b" " * 40_000_000), "gzip", 413, "too_large"),
        (gzip.compress(b"{}")[:-3], "gzip", 400, "invalid"),
        (b"{}", "gzip", 400, "invalid"),
        (gzip.compress(b"{}") + b"tail", "gzip", 400, "invalid"),
        (b"{}", "br", 415, "unsupported_media_type"),
    ],
    ids=["a bomb", "cut short", "not packed", "more behind it", "another packing"],
)
def test_a_body_that_unpacks_badly_is_refused(anna, body, encoding, status, code):
    answer = sent(anna, body, **{"Content-Encoding": encoding})

    assert (answer.status_code, answer.json["code"]) == (status, code)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "",
                                          "application/json; charset=utf-16"])  # fmt: skip
def test_what_is_not_json_in_utf_8_is_not_read(anna, content_type):
    answer = sent(anna, b"{}", content_type=content_type)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")


def test_json_that_names_its_charset_is_read(anna):
    body = b'{"name": "x", "jobs": [{"command": ["x"]}]}'

    assert sent(anna, body, content_type="application/json; charset=UTF-8").status_code == 201


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/jobs?stauts=failed", 400, "unknown_parameter"),
        ("/v1/jobs?status=faild", 422, "unknown_status"),
        ("/v1/jobs?limit=0", 400, "invalid"),
        ("/v1/jobs?limit=501", 400, "invalid"),
        ("/v1/jobs?limit=ten", 400, "invalid"),
        ("/v1/jobs?limit=1&limit=2", 400, "invalid"),
        ("/v1/jobs?limit=%D9%A1", 400, "invalid"),
        ("/v1/jobs?after=-1", 400, "bad_cursor"),
        ("/v1/jobs?after=" + "9" * 5000, 400, "bad_cursor"),
        ("/v1/jobs?queue=a%00b", 400, "invalid"),
        ("/v1/jobs?filter=sitee:HOL*", 400, "bad_filter"),
        ("/v1/jobs?filter=status:faild", 400, "bad_filter"),
        ("/v1/jobs?fields=stauts", 422, "unknown_field"),
        ("/v1/jobs?sort=owner", 422, "unknown_sort"),
        ("/v1/jobs?format=xml", 400, "invalid"),
        ("/v1/jobs/counts?by=command", 422, "unknown_field"),
        ("/v1/jobs/counts?by=site,site", 400, "invalid"),
        ("/v1/datasets?after=mc", 400, "bad_cursor"),
        ("/v1/attempts?after=7/99999", 400, "bad_cursor"),
        ("/v1/files?filter=dataset:a:b&sort=created", 422, "unserved_sort"),
        ("/v1/files/4711", 404, "not_found"),
        ("/v1/jobs/1%00", 400, "invalid"),
        ("/v1/jobs/1?fields=name", 400, "unknown_parameter"),
        ("/v1/jobs/%F0%28%8C%28", 404, "no_such_path"),
        ("/v1/jobs/-1", 404, "no_such_path"),
        ("/v1/nothing", 404, "no_such_path"),
        ("/v1/jobs/1/logs/..%2F..%2Fpasswd", 404, "no_such_path"),
        ("/v1/jobs/4711/logs/a%5Cb", 404, "not_found"),
        ("/v1/sandboxes/abc", 422, "invalid"),
    ],
)
def test_a_bad_address_is_a_clear_problem(anna, path, status, code):
    address, _, query = path.partition("?")
    answer = anna.get(address, query_string=query)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_an_unknown_parameter_gets_a_suggestion(anna):
    assert "did you mean 'status'?" in anna.get("/v1/jobs?stauts=failed").json["detail"]


def test_a_method_that_is_not_for_a_path_says_which_are(anna):
    answer = anna("DELETE", "/v1/jobs")

    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


def test_a_request_id_of_the_client_is_kept_if_it_is_one(anna):
    assert anna.get("/v1/whoami", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    made = anna.get("/v1/whoami", headers={"X-Request-Id": "no such id"}).headers["X-Request-Id"]
    assert len(made) == 16


@pytest.mark.parametrize("key", ["x" * 201, "ümlaut"])
def test_a_key_that_is_no_key_is_refused(anna, key):
    answer = anna("POST", "/v1/jobsets", {"name": "x", "jobs": [JOB]}, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid")

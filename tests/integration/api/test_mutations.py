"""A good document with something nasty in any place: whatever comes of it, it is no error of the server."""

import copy
import random
from uuid import uuid4

import msgspec
import pytest

GOOD = {
    "/v1/jobsets": [
        {
            "name": "x", "share": "default", "depends_on": [1], "on_parent_failure": "run",
            "output_dataset": "user.x:out", "output_storage": "DISK", "kind": "production", "vo": "v",
            "working_group": "w", "brokerage": {"sites": ["A*", "!B"], "exclude": [], "prefer": ["C"],
                                                "requirements": "queue.cores > job.cores"},
            "defaults": {"cores": 1, "memory_mb": 10, "disk_mb": 1, "walltime_s": 1, "tags": ["a"], "priority": 1,
                         "max_attempts": 1, "env": {"A": "b"}},
            "jobs": [{"command": ["x", "y"], "name": "n", "env": {"A": "b"}, "inputs": ["mc:ten/a", "mc:ten"],
                      "outputs": ["o"], "cores": 1, "gpus": 1, "priority": 0, "max_attempts": 2}],
        },
        {
            "name": "x",
            "template": {"command": ["x", "${seed}", "${seq:06d}"], "name": "${seed}", "env": {"A": "${seq}"}, "count": 2,
                         "matrix": {"seed": {"range": [1, 3]}, "mode": ["a", 1, 2.5, True]}, "outputs": ["${seq}.root"],
                         "inputs": {"IN": {"dataset": "mc:ten", "files_per_job": 1, "match": "*"}}},
        },
        {"name": "x", "template": {"command": ["${seed}"], "matrix": {"seed": [1, 2]}, "outputs": ["${seed}.root"]}},
    ],
    "/v1/pilots/acquire": [
        {"pilot_id": "p", "queue": "Q", "request_id": "r", "n": 1, "cores": 1, "memory_mb": 1, "disk_mb": 1,
         "walltime_s": 1, "gpus": 1, "tags": ["a"], "node": "n", "version": "1", "wait_s": 0},
    ],
    "/v1/pilots/update": [
        {"pilot_id": "p", "reports": [{"panda_id": 1, "attempt_nr": 1, "token": "t", "status": "finished",
         "error_code": 0, "error_message": "m", "exit_code": 0, "wall_s": 1.0, "cpu_s": 1.0, "max_rss_mb": 1,
         "outputs": [{"lfn": "o", "size_bytes": 1, "adler32": "00000001", "guid": "g"}],
         "logs": [{"name": "l", "size_bytes": 1}]}]},
    ],
    "/v1/pilots/heartbeat": [
        {"pilot_id": "p", "beats": [{"panda_id": 1, "attempt_nr": 1, "token": "t", "cpu_s": 1.0, "rss_mb": 1}]},
    ],
    "/v1/datasets": [{"dataset": "mc:ten"}],
    "/v1/tokens": [{"owner": "anna", "roles": ["user"], "label": "l", "ttl_s": 60, "queue": "q"}],
    "/v1/queues/Q/status": [{"status": "online", "reason": "r"}],
    "/v1/jobs/1/retry": [{"stage": "broker", "reason": "r"}],
    "/v1/jobs/1/rebroker": [{"exclude": ["A*"], "reason": "r"}],
    "/v1/jobsets/1/cancel": [{"reason": "r"}],
    "/v1/jobs/actions": [
        {"action": "retry", "filter": "status:failed", "reason": "r", "stage": "broker", "dry_run": True},
        {"action": "priority", "filter": "site:A*", "reason": "r", "priority": 1, "token": "t", "count": 1},
        {"action": "rebroker", "filter": "site:A*", "reason": "r", "exclude": ["A*"], "dry_run": True},
    ],
}  # fmt: skip
NASTY = [
    None, True, "", " ", "\x00", "a\x00b", "../..", "a/b", "ü", "\u202e", "\U0001f43c", "x" * 251, "x" * 100_000, "%s", "%(a)s",
    "'; DROP TABLE jobs; --", "{0}", "${", "${}", "${nope}", "${seq:99999999d}", "${seq:x}", "$${", 0, -1, 1, 2**31,
    2**53 + 1, 2**62, 2**63, 2**64, 10**400, 0.1, -0.0, 1e308, [], [[]], [None], ["x"] * 3, {}, {"a": 1},
    {"range": [3, 1]}, {"range": [-(2**53), 2**53]}, "0" * 64, "mc:", ":", "mc:ten/../x", "*", "[", "finished",
]  # fmt: skip
ROLE = {"/v1/pilots": "pilot", "/v1/tokens": "admin", "/v1/queues": "operator"}


def places(document, path=()):
    """The path of each value in it."""
    yield path
    children = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in children:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def with_nasty(document, path, value):
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize("address", GOOD)
def test_no_value_in_any_place_is_an_error_of_the_server(shared, address, caplog):
    caller = shared.caller(next((role for start, role in ROLE.items() if address.startswith(start)), "user"))
    choice = random.Random(20261122)
    cases = [(document, path, value) for document in GOOD[address] for path in places(document) for value in NASTY]

    for document, path, value in choice.sample(cases, min(len(cases), 250)):
        body = msgspec.json.encode(with_nasty(document, path, value))
        answer = caller("POST", address, body=body, headers={
            "Content-Type": "application/json", "Idempotency-Key": uuid4().hex})  # fmt: skip
        assert answer.status_code < 500, (path, value, answer.text, caplog.text[-3000:])

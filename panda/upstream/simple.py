"""Calls whose answer is short: whether the server is there, who the caller is, secrets, statistics, events."""

from collections import defaultdict
from typing import Any

import msgspec

from panda.auth import secrets
from panda.jobs import counters
from panda.upstream.calls import Asked, given
from panda.upstream.faces import FAILED, OK, PROXY_ERROR, Answer
from panda.upstream.wire import decoded
from panda.upstream.words import RESOURCE_TYPES

#: Headers that hold what nobody else may see.
CONFIDENTIAL = frozenset({"AUTHORIZATION", "COOKIE"})


class Secret(msgspec.Struct, kw_only=True):
    key: str | None = None
    value: str | None = None


def is_alive(asked: Asked) -> Answer:
    """It is."""
    return Answer(None, "alive=yes")


def get_attributes(asked: Asked) -> Any:
    """What the server sees of the caller: the request, and who they are."""
    headers = {name.title(): value for name, value in asked.req.headers.items() if name.upper() not in CONFIDENTIAL}
    environment = {
        "REQUEST_METHOD": asked.req.method,
        "SERVER_PROTOCOL": asked.req.env.get("SERVER_PROTOCOL", ""),
        "SSL_CLIENT_S_DN": asked.identity.subject,
    }
    return {"environment": environment, "headers": headers, "params": asked.words}


def set_user_secrets(asked: Asked) -> Answer:
    """Store one of the caller's secrets; without a value it is forgotten, without a key all are."""
    said = given(asked, Secret)
    with asked.house.begin() as connection:
        secrets.set_one(connection, asked.house.vault, asked.identity.subject, said.key, said.value)
    return Answer(None, "OK")


def get_user_secrets(asked: Asked) -> Any:
    """The caller's secrets, as JSON within the answer."""
    with asked.house.begin() as connection:
        return msgspec.json.encode(secrets.of(connection, asked.house.vault, asked.identity.subject)).decode()


def no_credential(asked: Asked) -> Answer:
    """Proxies, tokens and key pairs of others are not kept here: pilots bring their own token."""
    return Answer(None, "this server keeps no proxies, tokens or keys of its users", False)


def no_credential_legacy(asked: Asked) -> Any:
    """Legacy `no_credential`."""
    return {"StatusCode": PROXY_ERROR, "errorDialog": no_credential(asked).message}


def get_resource_types(asked: Asked) -> Any:
    """Kinds of jobs by their shape."""
    return RESOURCE_TYPES


def get_resource_types_legacy(asked: Asked) -> Any:
    """Legacy `get_resource_types`."""
    return {"StatusCode": OK, "ResourceTypes": RESOURCE_TYPES}


def active_job_stats_by_site(asked: Asked) -> Any:
    """Jobs that are not final, by queue and status."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    with asked.house.begin() as connection:
        for (status, queue), n in counters.counts(connection).items():
            if queue and n > 0 and status not in ("finished", "failed", "cancelled", "closed"):
                found[queue][status] = n
    return found


def active_job_detailed_stats_by_site(asked: Asked) -> Any:
    """The same below a job type and a resource type, of which there is one each here."""
    plain = active_job_stats_by_site(asked)
    return {queue: {"user": {"SCORE": by_status}} for queue, by_status in plain.items()}


def no_event_ranges(asked: Asked) -> Any:
    """No job here has event ranges: there are none to hand out."""
    return {"StatusCode": OK, "eventRanges": []}


def update_event_ranges(asked: Asked) -> Any:
    """No range that is spoken of exists: false for each."""
    said = asked.words.get("event_ranges")
    ranges = decoded(said, "event_ranges") if isinstance(said, str) else said
    if not isinstance(ranges, list):
        return {"StatusCode": FAILED, "Returns": [], "Command": {}}
    n = sum(len(each["eventRanges"]) if isinstance(each, dict) and isinstance(each.get("eventRanges"), list) else 1
            for each in ranges)  # fmt: skip
    return {"StatusCode": OK, "Returns": [False] * n, "Command": {}}


def no_events(asked: Asked) -> Any:
    """How many event ranges wait."""
    return 0


def no_event_statuses(asked: Asked) -> Any:
    """Statuses of event ranges by job."""
    return {}


def no_events_legacy(asked: Asked) -> Any:
    """Legacy question whether there are events."""
    return {"StatusCode": OK, "nRanges": 0}


def without_tasks(asked: Asked) -> Answer:
    """Calls about tasks and workflows, which this server does not have."""
    return Answer(None, "this server has no tasks and no workflows; submit jobs", False)


def without_tasks_legacy(asked: Asked) -> Any:
    """Legacy calls about workflows hear `[false, message]`."""
    return [False, without_tasks(asked).message]


def not_kept(asked: Asked) -> Answer:
    """Uploads that only tasks and event services have a use for."""
    return Answer(None, "this server has no use for such files", False)

"""What harvesters report and ask: of themselves, their workers and numbers; commands that wait for them.

Reports are kept as they came, one row per thing that is spoken of. The engine decides nothing by them: whether an
attempt lives, its lease says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Invalid
from panda.upstream.calls import Asked, WrongType, given
from panda.upstream.descriptions import marked
from panda.upstream.faces import OK, Answer
from panda.upstream.wire import decoded

KEEP = """
INSERT INTO upstream_notes AS n (harvester_id, kind, key, facts, changed_at)
SELECT %(harvester_id)s, %(kind)s, k.key, k.facts::jsonb, panda_now()
FROM unnest(%(keys)s::text[], %(facts)s::text[]) AS k(key, facts) ORDER BY k.key
ON CONFLICT (harvester_id, kind, key) DO UPDATE SET facts = n.facts || excluded.facts, changed_at = panda_now()
"""
NOTES = (
    "SELECT harvester_id, key, facts FROM upstream_notes WHERE kind = %(kind)s ORDER BY harvester_id, key LIMIT 10000"
)
LARGEST_WORKER = """
SELECT coalesce(max(key::bigint), 0) AS worker_id FROM upstream_notes
WHERE harvester_id = %(harvester_id)s AND kind = 'worker' AND key ~ '^[0-9]{1,18}$'
"""
TAKE = """
UPDATE upstream_commands SET taken_at = panda_now() WHERE command_id = ANY(ARRAY(
    SELECT command_id FROM upstream_commands WHERE harvester_id = %(harvester_id)s AND taken_at IS NULL
    ORDER BY command_id LIMIT %(n)s FOR UPDATE SKIP LOCKED))
RETURNING command_id, command, params, ack_requested, created_at
"""
ACKNOWLEDGE = """
UPDATE upstream_commands SET acknowledged_at = panda_now()
WHERE command_id = ANY(%(command_ids)s) AND taken_at IS NOT NULL AND acknowledged_at IS NULL
"""
ORDER = """
INSERT INTO upstream_commands (harvester_id, command, params, ack_requested, created_at)
VALUES (%(harvester_id)s, %(command)s, %(params)s, %(ack_requested)s, panda_now()) RETURNING command_id
"""
#: Kinds of notes.
INSTANCE, WORKER, STATISTICS, DIALOG, METRIC, NODE = "instance", "worker", "statistics", "dialog", "metric", "node"
#: Things that one report may speak of.
MAX_THINGS = 5_000


class Who(msgspec.Struct, kw_only=True):
    harvester_id: str


class Heartbeat(Who, kw_only=True):
    data: Any = None


class Workers(Who, kw_only=True):
    workers: Any


class Statistics(Who, kw_only=True):
    panda_queue: str
    statistics: Any


class Dialogs(Who, kw_only=True):
    dialogs: Any


class Metrics(Who, kw_only=True):
    metrics: Any


class Commands(Who, kw_only=True):
    n_commands: int = 1


class CommandIds(msgspec.Struct, kw_only=True):
    command_ids: Any


class WorkerStatus(Who, kw_only=True):
    worker_id: str | int
    status: str
    site: str = ""
    node_id: str = ""


class WorkerNode(msgspec.Struct, kw_only=True):
    site: str
    host_name: str


def heartbeat(asked: Asked) -> Answer:
    """A harvester is alive."""
    said = given(asked, Heartbeat)
    data = _document(said.data, "data") if said.data else {}
    _keep(asked, said.harvester_id, INSTANCE, {"": data if isinstance(data, dict) else {"data": data}})
    return Answer(None, "OK")


def update_workers(asked: Asked) -> Any:
    """True for each worker of the list."""
    said = given(asked, Workers)
    workers = _things(said.workers, "workers")
    _keep(asked, said.harvester_id, WORKER, {str(each.get("workerID", "")): each for each in workers})
    return [True for _ in workers]


def report_worker_statistics(asked: Asked) -> Answer:
    """How many workers a queue has, by kind and status."""
    said = given(asked, Statistics)
    _keep(asked, said.harvester_id, STATISTICS, {said.panda_queue: {"now": _document(said.statistics, "statistics")}})
    return Answer(None, "OK")


def get_worker_statistics(asked: Asked) -> Any:
    """The same for all queues: `{queue: {harvester: statistics}}`."""
    found: dict[str, dict[str, Any]] = {}
    with asked.house.begin() as connection:
        for row in rows(connection, NOTES, {"kind": STATISTICS}):
            found.setdefault(row.key, {})[row.harvester_id] = row.facts.get("now")
    return found


def add_dialogs(asked: Asked) -> Answer:
    """Messages of a harvester for people."""
    said = given(asked, Dialogs)
    _keep(asked, said.harvester_id, DIALOG, {str(d.get("diagID", "")): d for d in _things(said.dialogs, "dialogs")})
    return Answer(None, "OK")


def update_service_metrics(asked: Asked) -> Answer:
    """The newest measurements of each host."""
    said = given(asked, Metrics)
    metrics = _document(said.metrics, "metrics")
    if not isinstance(metrics, list) or not all(isinstance(each, list) and len(each) >= 3 for each in metrics):
        raise WrongType("Type error: metrics is no list of [time, host, values]")
    _keep(asked, said.harvester_id, METRIC, {str(each[1]): {"at": each[0], "values": each[2]} for each in metrics})
    return Answer(None, "OK")


def get_current_worker_id(asked: Asked) -> Any:
    """The largest number that one of its workers had."""
    with asked.house.begin() as connection:
        values = {"harvester_id": given(asked, Who).harvester_id}
        return int(rows(connection, LARGEST_WORKER, values)[0].worker_id)


def order(
    connection: Connection, harvester_id: str, command: str, params: Mapping[str, Any], *, ack_requested: bool
) -> int:
    """Have a harvester told to do something when it next asks. Returns the command's id."""
    values = {"harvester_id": harvester_id, "command": command, "params": msgspec.json.encode(params).decode()}
    return int(rows(connection, ORDER, values | {"ack_requested": ack_requested})[0].command_id)


def acquire_commands(asked: Asked) -> Any:
    """What it is to do, each command once."""
    said = given(asked, Commands)
    with asked.house.begin() as connection:
        values = {"harvester_id": said.harvester_id, "n": max(1, min(said.n_commands, MAX_THINGS))}
        taken = rows(connection, TAKE, values)
    return [
        {"command_id": row.command_id, "command": row.command, "params": row.params,
         "ack_requested": row.ack_requested, "creation_date": marked(row.created_at)}
        for row in sorted(taken, key=lambda row: row.command_id)
    ]  # fmt: skip


def acknowledge_commands(asked: Asked) -> Answer:
    """These were heard."""
    ids = _document(given(asked, CommandIds).command_ids, "command_ids")
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise WrongType("Type error: command_ids is no list of numbers")
    with asked.house.begin() as connection:
        run(connection, ACKNOWLEDGE, {"command_ids": [each for each in ids if 0 < each < 2**62]})
    return Answer({"StatusCode": OK})


def get_commands_legacy(asked: Asked) -> Any:
    """Legacy `acquire_commands`."""
    return {"StatusCode": OK, "Commands": acquire_commands(asked)}


def update_worker_status(asked: Asked) -> Answer:
    """A worker's pilot started, or has finished."""
    said = given(asked, WorkerStatus)
    if said.status not in ("started", "finished"):
        raise Invalid(f"{said.status[:60]!r} is not `started` or `finished`", where="status")
    facts = {"pilotStatus": said.status, "site": said.site, "nodeID": said.node_id}
    _keep(asked, said.harvester_id, WORKER, {str(said.worker_id): {n: v for n, v in facts.items() if v}})
    return Answer({"StatusCode": OK}, "OK")


def update_worker_node(asked: Asked) -> Answer:
    """What a node is like, of any kind that pilots tell."""
    said = given(asked, WorkerNode)
    kind = "/".join(str(asked.words[name])[:100] for name in ("vendor", "model") if name in asked.words)
    _keep(asked, "", NODE, {f"{said.site}/{said.host_name}/{kind}"[:500]: asked.words})
    return Answer(None, "OK")


def told(answer: Answer) -> list[Any]:
    """Legacy harvester calls hear `[true, message]`."""
    return [answer.success, answer.message]


def _keep(asked: Asked, harvester_id: str, kind: str, facts: Mapping[str, Any]) -> None:
    keys = list(facts)
    if not keys:
        return
    with asked.house.begin() as connection:
        run(
            connection,
            KEEP,
            {"harvester_id": harvester_id[:250], "kind": kind, "keys": keys,
             "facts": [msgspec.json.encode(facts[key]).decode() for key in keys]},
        )  # fmt: skip


def _document(value: Any, where: str) -> Any:
    return decoded(value, where) if isinstance(value, str) else value


def _things(value: Any, where: str) -> Sequence[dict[str, Any]]:
    found = _document(value, where)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise WrongType(f"Type error: {where} is no list of objects")
    if len(found) > MAX_THINGS:
        raise Invalid(f"holds more than {MAX_THINGS} entries", where=where)
    return found

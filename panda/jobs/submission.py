"""A job set is accepted: its document, its block of PandaIDs and its row, in one transaction.

What was answered with 201 is kept whatever dies next. The jobs themselves follow in chunks
(`expansion`); until then the set's ledger counts them as unexpanded.
"""

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.errors import Conflict, Invalid, NotFound, TooLarge
from panda.jobs import dealing, jobsets, places, shares, templates
from panda.jobs.quotas import admission
from panda.jobs.specs import JobSetRequest, Template
from panda.names import checked, split_did
from panda.settings import Api

#: Channel on which the relay hears of new work (law 15: one notice per submission).
CHANNEL = "panda_relay"

#: `\u0000` after an even number of backslashes: a character that neither PostgreSQL nor a command line can hold.
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

REPLAY = """
SELECT s.jobset_id, s.first_panda_id, s.n_jobs, s.document_hash, s.held_at IS NOT NULL AS held,
    d.scope || ':' || d.name AS output_dataset
FROM jobsets s JOIN datasets d ON d.dataset_id = s.output_dataset_id
WHERE s.owner = %(owner)s AND s.idempotency_key = %(key)s
"""
#: Two requests with one key at once: the second waits here for the first one's commit.
KEY_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))"
TAKE_IDS = "SELECT panda_take_ids(%(n)s) AS first"
ENSURE_PARTITIONS = "SELECT panda_ensure_partitions(%(last)s)"
INSERT = """
INSERT INTO jobsets (name, owner, share, idempotency_key, document_hash, document, bindings, first_panda_id, n_jobs,
    kind, working_group, n_open, open_parents, released_at, on_parent_failure, output_storage, created_at)
VALUES (%(name)s, %(owner)s, %(share)s, %(key)s, %(hash)s, %(document)s, %(bindings)s, %(first)s, %(n)s,
    %(kind)s, %(working_group)s, %(n)s, %(open_parents)s, CASE WHEN %(open_parents)s = 0 THEN panda_now() END,
    %(on_parent_failure)s, %(output_storage)s, panda_now())
RETURNING jobset_id
"""
OUTPUT_DATASET = """
INSERT INTO datasets (scope, name, owner, jobset_id, created_at)
VALUES (%(scope)s, %(name)s, %(owner)s, %(jobset_id)s, panda_now())
ON CONFLICT (scope, name) DO UPDATE SET scope = excluded.scope
RETURNING dataset_id, owner, status, kind
"""
SET_OUTPUT = "UPDATE jobsets SET output_dataset_id = %(dataset_id)s WHERE jobset_id = %(jobset_id)s"
LINK_PARENTS = """
INSERT INTO jobset_parents (jobset_id, parent_id) SELECT %(jobset_id)s, unnest(%(parents)s::bigint[])
"""
HOLD = "UPDATE jobsets SET held_at = panda_now() WHERE jobset_id = %(jobset_id)s"
SANDBOXES = "SELECT sha256 FROM spool_objects WHERE sha256 = ANY(%(sha256s)s)"
STORAGE = "SELECT 1 FROM storages WHERE name = %(name)s"
DATASET = "SELECT dataset_id, kind FROM datasets WHERE scope = %(scope)s AND name = %(name)s"
#: The neighbours of a name that is not there.
NEIGHBOURS = """
(SELECT scope || ':' || name AS did FROM datasets WHERE (scope, name) < (%(scope)s, %(name)s)
    ORDER BY scope DESC, name DESC LIMIT 50)
UNION ALL
(SELECT scope || ':' || name AS did FROM datasets WHERE (scope, name) > (%(scope)s, %(name)s)
    ORDER BY scope, name LIMIT 50)
"""
#: A container's datasets by name.
MEMBERS = """
SELECT d.dataset_id, d.scope || ':' || d.name AS did
FROM dataset_members m JOIN datasets d ON d.dataset_id = m.dataset_id
WHERE m.container_id = %(dataset_id)s AND d.status <> 'deleting' ORDER BY d.scope, d.name
"""
DATASET_COUNT = """
SELECT coalesce(sum(f.n_files), 0)::bigint AS n_files, coalesce(max(f.max_file_id), 0) AS max_file_id
FROM unnest(%(dataset_ids)s::bigint[]) AS d(dataset_id), LATERAL (
    SELECT count(*) AS n_files, max(file_id) AS max_file_id
    FROM (SELECT file_id FROM files WHERE dataset_id = d.dataset_id OFFSET 0) f) f
"""


class Accepted(NamedTuple):
    """What the client is told. `replayed`: the same key came before, nothing was stored again. `held`: some of its jobs
    wait for its owner's quota."""

    jobset_id: int
    first_panda_id: int
    last_panda_id: int
    n_jobs: int
    output_dataset: str
    replayed: bool
    held: bool = False


def submit(
    connection: Connection, request: JobSetRequest, raw: bytes, *, owner: str, key: str, limits: Api
) -> Accepted:
    """Accept a job set. `raw` is the body that `request` was decoded from; it is kept as it came.

    Raises:
        Invalid, TooLarge: the document cannot be meant; nothing is stored.
        Conflict: `idempotency_key_reused` with another document; `dataset_taken` by another owner; `over_quota`.
        NotFound: a job set that it depends on, a sandbox or a storage does not exist.
    """
    document_hash = hashlib.sha256(raw).digest()
    run(connection, KEY_LOCK, {"key": f"{owner}\0{key}".replace("\0", "/")})
    before = rows(connection, REPLAY, {"owner": owner, "key": key})
    if before:
        return _replayed(before[0], document_hash, key)
    if NUL.search(raw):
        raise Invalid("a NUL character can be part of nothing", code="nul")
    templates.check(request, limits)
    shares.check_leaf(connection, request.share)
    places.check(connection, request.brokerage)
    bindings = _bind(connection, request.template) if request.template else {}
    n_jobs = _count(request, bindings, limits)
    jobsets.check_exist(connection, request.depends_on)
    _check_sandboxes(connection, request)
    if request.output_storage and not rows(connection, STORAGE, {"name": request.output_storage}):
        raise NotFound("storage", request.output_storage)
    is_held = admission.check(connection, owner, n_jobs)
    first = rows(connection, TAKE_IDS, {"n": n_jobs})[0].first
    run(connection, ENSURE_PARTITIONS, {"last": first + n_jobs - 1})
    jobset_id = rows(
        connection,
        INSERT,
        {"name": request.name, "owner": owner, "share": request.share, "key": key, "hash": document_hash,
         "document": raw.decode(), "bindings": _kept(bindings), "first": first, "n": n_jobs,
         "open_parents": len(request.depends_on), "on_parent_failure": request.on_parent_failure,
         "output_storage": request.output_storage, "kind": request.kind, "working_group": request.working_group},
    )[0].jobset_id  # fmt: skip
    if is_held:
        run(connection, HOLD, {"jobset_id": jobset_id})
    if request.depends_on:  # before the dataset: a set that ends takes its locks in this order
        jobsets.lock_parents(connection, request.depends_on)
    did = request.output_dataset or f"user.{checked(owner, 'owner')}:{jobset_id}.{request.name}"
    run(
        connection,
        SET_OUTPUT,
        {"dataset_id": _output_dataset(connection, did, owner, jobset_id), "jobset_id": jobset_id},
    )
    if request.depends_on:
        run(connection, LINK_PARENTS, {"jobset_id": jobset_id, "parents": request.depends_on})
        jobsets.apply_ended_parents(connection, jobset_id, request.depends_on)
    run(connection, f"NOTIFY {CHANNEL}")
    return Accepted(jobset_id, first, first + n_jobs - 1, n_jobs, did, replayed=False, held=is_held)


def _replayed(before: Row[Any], document_hash: bytes, key: str) -> Accepted:
    if before.document_hash != document_hash:
        raise Conflict(f"key {key!r} came with another document before", code="idempotency_key_reused")
    last = before.first_panda_id + before.n_jobs - 1
    return Accepted(
        before.jobset_id, before.first_panda_id, last, before.n_jobs, before.output_dataset, replayed=True,
        held=before.held,
    )  # fmt: skip


def _check_sandboxes(connection: Connection, request: JobSetRequest) -> None:
    """A sandbox that was never uploaded would fail every attempt of every job."""
    named = {job.sandbox for job in request.jobs or ()} | {request.defaults.sandbox}
    wanted = sorted(sha256 for sha256 in named if sha256)
    if wanted:
        there = {row.sha256 for row in rows(connection, SANDBOXES, {"sha256s": wanted})}
        for sha256 in wanted:
            if sha256 not in there:
                raise NotFound("sandbox", sha256)


def _bind(connection: Connection, template: Template) -> dict[str, templates.Binding]:
    bindings = {}
    for name, each in template.inputs.items():
        where = f"template.inputs.{name}"
        scope, dataset = split_did(each.dataset, where)
        if each.files_per_job == 0:
            if each.match != "*":
                raise Invalid("match goes with files_per_job of 1 or more", where=where)
            bindings[name] = templates.bound(each, 0, 0)
            continue
        known = rows(connection, DATASET, {"scope": scope, "name": dataset})
        members = rows(connection, MEMBERS, {"dataset_id": known[0].dataset_id}) if _is_container(known) else []
        ids = [row.dataset_id for row in members or known]
        if each.match == "*":
            found = rows(connection, DATASET_COUNT, {"dataset_ids": ids})
            n_files, max_file_id = found[0].n_files, found[0].max_file_id
        else:
            n_files, max_file_id = dealing.count(connection, ids, each.match)
        if not known:
            raise Invalid(_no_dataset(connection, each.dataset), where=where, code="no_input")
        if not n_files:
            raise Invalid(f"{each.dataset} has no file that matches {each.match!r}", where=where, code="no_input")
        bindings[name] = templates.bound(each, n_files, max_file_id, [row.did for row in members])
    return bindings


def _no_dataset(connection: Connection, did: str) -> str:
    scope, name = split_did(did, "dataset")
    others = [row.did for row in rows(connection, NEIGHBOURS, {"scope": scope, "name": name})]
    near = get_close_matches(did, others, n=1)
    return f"there is no dataset {did}" + (f"; did you mean {near[0]}?" if near else "")


def _kept(bindings: dict[str, templates.Binding]) -> str:
    """As they stand in the table. Without members they are as processes of the last release read them."""
    kept = {name: each if each.members else each[:-1] for name, each in bindings.items()}
    return msgspec.json.encode(kept).decode()


def _is_container(known: Sequence[Row[Any]]) -> bool:
    return bool(known) and known[0].kind == "container"


def _count(request: JobSetRequest, bindings: dict[str, templates.Binding], limits: Api) -> int:
    if request.jobs is not None:
        return len(request.jobs)
    assert request.template is not None
    _check_size(request.template, bindings, limits)
    return templates.Expansion(request.template, bindings).n_jobs


def _check_size(template: Template, bindings: dict[str, templates.Binding], limits: Api) -> None:
    n_jobs = templates.size_of(template, bindings)
    if n_jobs > limits.max_template_jobs:
        raise TooLarge(f"the template makes {n_jobs} jobs; the limit is {limits.max_template_jobs}")


def _output_dataset(connection: Connection, did: str, owner: str, jobset_id: int) -> int:
    scope, name = split_did(did, "output_dataset")
    row = rows(connection, OUTPUT_DATASET, {"scope": scope, "name": name, "owner": owner, "jobset_id": jobset_id})[0]
    if row.owner != owner:
        raise Conflict(f"dataset {did} belongs to {row.owner}", code="dataset_taken")
    if row.status != "open":
        raise Conflict(f"dataset {did} is {row.status}", code="dataset_closed")
    if row.kind == "container":
        raise Conflict(f"{did} is a container: nothing is written into it", code="is_container")
    dataset_id: int = row.dataset_id
    return dataset_id

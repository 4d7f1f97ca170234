"""/v1/jobs/{id}/hold and release, /v1/jobsets/{id}/hold and release: what stands still until somebody says go on."""

from typing import Literal

import falcon
import msgspec
from sqlalchemy.engine import Connection

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import gives
from panda.auth import audit_log, policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.errors import Conflict
from panda.jobs import bulk, hold, jobsets, queries


class JobHoldResource:
    """/v1/jobs/{panda_id}/hold"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.HoldRequest, max_mb, may_be_empty=True)

    @allowed(Action.HOLD)
    @gives(
        schemas.Affected,
        takes=schemas.HoldRequest,
        takes_nothing_too=True,
        problems={404: "not_expanded", 409: "cannot_hold"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Let a job that no pilot has stand still until it is released. 409 `cannot_hold`: a pilot has it, or it ended.

        It gives its queue back. Asking twice does no harm."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.HOLD, queries.owner_of(connection, panda_id))
            queries.check_made(connection, panda_id)
            found = hold.hold(
                connection, [panda_id], by=identity.subject, reason=asked.reason, may_all=_may_all(identity)
            )
            if panda_id in found.refused:
                raise Conflict(f"job {panda_id}: {found.refused[panda_id]}", code="cannot_hold")
            audit_log.record(
                connection, identity.subject, "hold", f"job {panda_id}", reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=len(found.done)))


class JobReleaseResource:
    """/v1/jobs/{panda_id}/release"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.HoldRequest, max_mb, may_be_empty=True)

    @allowed(Action.HOLD)
    @gives(
        schemas.Affected,
        takes=schemas.HoldRequest,
        takes_nothing_too=True,
        problems={404: "not_expanded", 409: "cannot_release"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Let a held job go on. 409 `cannot_release`: it is not held, or an operator holds it."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.HOLD, queries.owner_of(connection, panda_id))
            queries.check_made(connection, panda_id)
            found = hold.release(connection, [panda_id], by=identity.subject, may_all=_may_all(identity))
            if panda_id in found.refused:
                raise Conflict(f"job {panda_id}: {found.refused[panda_id]}", code="cannot_release")
            audit_log.record(
                connection, identity.subject, "release", f"job {panda_id}", reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=len(found.done)))


class JobSetHoldResource:
    """/v1/jobsets/{jobset_id}/hold"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.HoldRequest, max_mb, may_be_empty=True)

    @allowed(Action.HOLD)
    @gives(
        schemas.JobSetActed,
        takes=schemas.HoldRequest,
        takes_nothing_too=True,
        problems={409: "not_expanded jobset_ended"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """Hold every job of the set that no pilot has.

        The first ones at once; where there are more, `action_id` is the action that brings the others. 409
        `not_expanded`: jobs of it are still being made; ask again in a moment."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.HOLD, queries.jobset_owner(connection, jobset_id))
            hold.check_whole(connection, jobset_id)
            acted = _begun(connection, "hold", jobset_id, identity, asked.reason, req.context.request_id)
        show(resp, acted)


class JobSetReleaseResource:
    """/v1/jobsets/{jobset_id}/release"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.HoldRequest, max_mb, may_be_empty=True)

    @allowed(Action.HOLD)
    @gives(schemas.JobSetActed, takes=schemas.HoldRequest, takes_nothing_too=True)
    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """Let the held jobs of the set go on, and the set itself if it is held because parents did not finish
        (`on_parent_failure: hold`).

        The first ones at once; where there are more, `action_id` is the action that brings the others."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.HOLD, queries.jobset_owner(connection, jobset_id))
            acted = _begun(connection, "release", jobset_id, identity, asked.reason, req.context.request_id)
            n_parents = jobsets.pass_over_parents(connection, jobset_id)
        show(resp, msgspec.structs.replace(acted, n_parents=n_parents))


def _may_all(identity: Identity) -> bool:
    """Whether the caller may act on everybody's jobs."""
    return policy.scope(identity, Action.HOLD, None) is None


def _begun(
    connection: Connection,
    verb: Literal["hold", "release"],
    jobset_id: int,
    identity: Identity,
    reason: str,
    request_id: str,
) -> schemas.JobSetActed:
    """The first chunk of an action on a whole set, and its row of the audit log."""
    owner = policy.scope(identity, Action.HOLD, None)
    action_id, chunk = bulk.begin_at_once(
        connection, verb, f"jobset:{jobset_id}", stage=None, by=identity.subject, reason=reason, owner=owner,
        request_id=request_id,
    )  # fmt: skip
    audit_log.record(
        connection, identity.subject, verb, f"jobset {jobset_id}", reason=reason,
        facts={"n": len(chunk.done), "action_id": action_id}, request_id=request_id,
    )  # fmt: skip
    refused = {str(panda_id): why for panda_id, why in chunk.refused.items()}
    return schemas.JobSetActed(n=len(chunk.done), refused=refused, action_id=None if chunk.is_last else action_id)

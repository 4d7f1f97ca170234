"""/v1/jobs/{panda_id}/why, and of job sets and pilots: why is it where it is, and what would change that."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.described import gives
from panda.auth import policy
from panda.auth.policy import Action
from panda.brokerage.changes import Change
from panda.brokerage.explaining import Explanation, explain
from panda.brokerage.explaining_sets import explain_set
from panda.db.session import Begin
from panda.dispatcher import pilot_why
from panda.jobs import queries
from panda.settings import Settings


class JobWhyResource:
    """/v1/jobs/{panda_id}/why"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings

    @allowed(Action.READ_JOBS)
    @gives(schemas.Why, problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Why a job is where it is: what it waits for, who comes first, which single change would let it run."""
        with self._begin() as connection:
            explained = explain(connection, panda_id, self._settings)
            policy.require(req.context.identity, Action.READ_JOBS, explained.answer.owner)
        show(resp, _of_job(explained))


class JobSetWhyResource:
    """/v1/jobsets/{jobset_id}/why"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings

    @allowed(Action.READ_JOBS)
    @gives(schemas.JobSetWhy)
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """Why the jobs of a set have not ended, by what they wait for: the largest kinds, one job of each explained.

        At most 10,000 jobs are looked at, of every part of a larger set."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.jobset_owner(connection, jobset_id))
            found = explain_set(connection, jobset_id, self._settings)
        groups = [
            schemas.WhyGroup(
                n=group.n, status=group.status, waits_for=group.waits_for, queue=group.queue, panda_ids=group.panda_ids,
                why=_of_job(group.explanation),
            )
            for group in found.groups
        ]  # fmt: skip
        show(
            resp,
            schemas.JobSetWhy(
                jobset_id=jobset_id, n_open=found.n_open, n_not_made=found.n_not_made, n_seen=found.n_seen,
                is_whole=found.is_whole, groups=groups, n_more=found.n_more,
            ),
        )  # fmt: skip


class PilotWhyResource:
    """/v1/pilots/{pilot_id}/why"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS)
    @gives(schemas.PilotWhy)
    def on_get(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        """Why a pilot got nothing, and what is ready at its queue."""
        with self._begin() as connection:
            answer = pilot_why.why(connection, pilot_id)
        show(
            resp,
            schemas.PilotWhy(
                pilot_id=answer.pilot_id,
                queue=answer.queue,
                summary=answer.summary,
                since=answer.since,
                changes=[
                    schemas.Change(who=each.who, say=each.say, queues=[], command=each.command)
                    for each in answer.changes
                ],
                ready=[_waiting(each) for each in answer.ready],
                asks=answer.asks,
                refusals=answer.refusals,
                facts=answer.facts,
            ),
        )


def _of_job(explained: Explanation) -> schemas.Why:
    answer, decision = explained.answer, explained.answer.decision
    return schemas.Why(
        panda_id=answer.panda_id,
        status=answer.status,
        summary=answer.summary,
        waits_for=answer.waits_for,
        since=answer.since,
        until=answer.until,
        changes=[_change(each) for each in explained.changes],
        ahead=[schemas.Ahead(**each._asdict()) for each in answer.ahead],
        estimate=None if answer.estimate is None else schemas.Estimate(**answer.estimate._asdict()),
        policy=decision.policy,
        funnel=[schemas.Verdict(**verdict) for verdict in decision.funnel],
        chosen=answer.queue,
        weights=decision.weights,
        terms=decision.terms,
        decided_at=decision.at,
        facts=answer.facts,
    )


def _change(change: Change) -> schemas.Change:
    return schemas.Change(who=change.who, say=change.sentence, queues=list(change.queues), command=change.command)


def _waiting(kind: pilot_why.Kind) -> schemas.Waiting:
    pair = kind.pair._asdict()
    del pair["shape_id"]
    return schemas.Waiting(**pair | {"tags": sorted(kind.pair.tags)}, n=kind.n, misfit=kind.misfit)

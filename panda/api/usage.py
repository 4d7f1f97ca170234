"""/v1/usage: what was used, by whom and where. /v1/jobs/{panda_id}/usage: what a job used while it ran, for plots."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.api.parameters import optional_whole, whole, whole_number, word
from panda.api.service_schemas import UsageSum
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import queries, usage, used

DAYS = 30


class UsageResource:
    """/v1/usage?by=&days=&bin=&owner=&group=&share=&queue=&site=&kind="""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, *SHORT_LIST, "by", "days", "bin", *used.Only._fields)
    @gives(
        Page(UsageSum, is_list=True),
        parameters={
            "by": {"enum": [*used.GROUPS, used.DAY], "description": "What to sum by; none: by user."},
            "bin": {
                "enum": list(used.BINS),
                "description": "For a series: a sum for each of these and each name, in order of time.",
            },
            "group": {"type": "string", "description": "What was used for this working group."},
            "share": {"type": "string", "description": "What was used of this share."},
            "site": {"type": "string", "description": "What was used at this site."},
            "kind": {"type": "string", "description": "What job sets of this kind used, for example `production`."},
            "days": whole_number(1, used.MOST_DAYS, f"How many days, today's among them; none: {DAYS}."),
        },
        problems={422: f"{SHORT_LIST_PROBLEMS[422]} unknown_group unknown_bin too_wide"},
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What attempts that ended used in the last days; most core time first, days in order.

        Files are counted for jobs that finished: what they read, and what of theirs was registered."""
        only = used.Only(**{name: word(req, name) for name in used.Only._fields})
        only = only._replace(owner=policy.scope(req.context.identity, Action.READ_JOBS, only.owner))
        days = whole(req, "days", DAYS, 1, used.MOST_DAYS)
        with self._begin() as connection:
            found = used.sums(connection, word(req, "by") or "user", days, only, word(req, "bin"))
        show_short_list(req, resp, UsageSum, [UsageSum(**row._asdict()) for row in found])


class JobUsageResource:
    """/v1/jobs/{panda_id}/usage?attempt="""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, "attempt")
    @gives(schemas.JobUsage, problems={404: "not_found"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """CPU, memory, I/O and disk of an attempt, one point per heartbeat, at most 200.

        A job that was shorter than a heartbeat has none."""
        attempt_nr = optional_whole(req, "attempt", 1, 10_000)
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            curve = usage.curve(connection, panda_id, attempt_nr)
        points = [schemas.UsagePoint(**point._asdict()) for point in curve.points]
        show(resp, schemas.JobUsage(panda_id=panda_id, attempt_nr=curve.attempt_nr, every=curve.every, points=points))

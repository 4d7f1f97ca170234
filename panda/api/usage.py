"""/v1/jobs/{panda_id}/usage: what a job used while it ran, for plots."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.described import gives
from panda.api.parameters import optional_whole
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import queries, usage


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

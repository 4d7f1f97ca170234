"""/v1/quotas: how much somebody may have queued, running and used, and how they stand to it."""

from typing import Any

import falcon
from msgspec import UNSET, structs
from sqlalchemy.engine import Row

from panda.api import quota_schemas as schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.api.schemas import Affected
from panda.auth import policy, users
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs.quotas import standing, table
from panda.jobs.quotas.rules import Limits


class QuotasResource:
    """/v1/quotas"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_QUOTAS, *SHORT_LIST)
    @gives(Page(schemas.Quota, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Every quota that was set, by subject."""
        with self._begin() as connection:
            found = table.all_of_them(connection)
        show_short_list(req, resp, schemas.Quota, [_shown(row) for row in found])


class QuotaResource:
    """/v1/quotas/{subject}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.QuotaRequest, max_mb)

    @allowed(Action.SET_QUOTA)
    @gives(
        schemas.Quota, takes=schemas.QuotaRequest,
        problems={422: "unknown_subject bad_name bad_quota no_members no_reason"},
    )  # fmt: skip
    def on_put(self, req: falcon.Request, resp: falcon.Response, subject: str) -> None:
        """Change what somebody may have; who, why and what it was before is written to the audit log.

        It counts within a second, for jobs that are ready already within some seconds."""
        asked = self._body.read(req)
        said = {name: value for name, value in structs.asdict(asked).items() if name != "reason" and value is not UNSET}
        with self._begin() as connection:
            row = table.set_quota(
                connection, subject, said, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, _shown(row))


class QuotaClearResource:
    """/v1/quotas/{subject}/clear"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.QuotaClearRequest, max_mb)

    @allowed(Action.SET_QUOTA)
    @gives(
        schemas.QuotaCleared, takes=schemas.QuotaClearRequest,
        problems={404: "not_found", 422: "unknown_subject no_reason"},
    )  # fmt: skip
    def on_post(self, req: falcon.Request, resp: falcon.Response, subject: str) -> None:
        """Take away what was set for somebody: the default says again what they may have."""
        asked = self._body.read(req)
        with self._begin() as connection:
            comes_back = table.clear(
                connection, subject, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.QuotaCleared(subject=subject, comes_back=comes_back))


class UserQuotaResource:
    """/v1/users/{name}/quota"""

    def __init__(self, begin: Begin, period_days: int) -> None:
        self._begin = begin
        self._period_days = period_days

    @allowed(Action.READ_USERS)
    @gives(schemas.UserQuota)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """How somebody stands to each quota that binds them, and what keeps their jobs waiting."""
        policy.require(req.context.identity, Action.READ_USERS, name)
        with self._begin() as connection:
            found = standing.report(connection, name, self._period_days)
        show(resp, user_quota(found))


class UserLimitResource:
    """/v1/users/{name}/limit"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.LimitRequest, max_mb)

    @allowed(Action.LIMIT_USER)
    @gives(Affected, takes=schemas.LimitRequest, problems={404: "not_found", 422: "no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give a user the smaller quotas of `limited`. `n` is 0 if they had them already."""
        asked = self._body.read(req)
        with self._begin() as connection:
            is_new = users.limit(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, Affected(n=int(is_new)))


class UserUnlimitResource:
    """/v1/users/{name}/unlimit"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.LimitRequest, max_mb)

    @allowed(Action.LIMIT_USER)
    @gives(Affected, takes=schemas.LimitRequest, problems={404: "not_found", 422: "no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give a user their own quotas back. `n` is 0 if they were not limited."""
        asked = self._body.read(req)
        with self._begin() as connection:
            was = users.unlimit(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, Affected(n=int(was)))


def user_quota(found: standing.Report) -> schemas.UserQuota:
    """A report as it is told."""
    return schemas.UserQuota(
        owner=found.owner,
        banned=found.banned,
        limited=found.limited,
        throttled=found.throttled,
        quotas=[
            schemas.QuotaStanding(
                subject=each.subject, beyond=each.beyond, n_held=each.n_held,
                outlook=schemas.Outlook(**each.outlook._asdict()) if each.outlook else None,
                **{name: schemas.Level(**getattr(each, name)._asdict()) for name in Limits._fields},
            )
            for each in found.standings
        ],
        part=round(found.used.part, 6),
        late_s=found.used.late_ms / 1000,
    )  # fmt: skip


def _shown(row: Row[Any]) -> schemas.Quota:
    return schemas.Quota(**row._asdict())

"""/v1/site-versions: what was known of places when, who changed it, and the way back."""

import falcon

from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.errors import BadRequest
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.api.parameters import MAX_ID, optional_whole, whole_number
from panda.api.site_schemas import (
    RollbackRequest,
    SiteChange,
    SiteChanges,
    SiteImported,
    SiteImportRequest,
    SiteRolledBack,
    SiteVersion,
    SiteVersionChanges,
)
from panda.auth.policy import Action
from panda.db.session import Begin, undone
from panda.settings import Settings
from panda.sites import versions
from panda.sites.importing import import_documents
from panda.sites.nouns import VERSIONS
from panda.sites.rollback import roll_back


class SiteVersionsResource:
    """/v1/site-versions"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(SiteVersion, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Versions that fit, newest first; those of one thing with `filter=name:NORTH-Q`."""
        show_list(self._begin, req, resp, VERSIONS, SiteVersion)


class SiteVersionResource:
    """/v1/site-versions/{version_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES)
    @gives(SiteVersionChanges)
    def on_get(self, req: falcon.Request, resp: falcon.Response, version_id: int) -> None:
        """A version, and what it changed."""
        version = SiteVersion(**found_one(self._begin, VERSIONS, version_id)._asdict())
        with self._begin() as connection:
            changes = versions.changes_of(connection, version_id)
        show(resp, SiteVersionChanges(version=version, changes=[SiteChange(**each._asdict()) for each in changes]))


class SiteDiffResource:
    """/v1/site-versions/diff?since=N&until=M"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, "since", "until")
    @gives(
        SiteChanges,
        parameters={
            "since": whole_number(1, MAX_ID, "The earlier version."),
            "until": whole_number(1, MAX_ID, "The later one; none: as it is now."),
        },
        problems={404: "not_found"},
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What is different between two versions, or between one and now."""
        since, until = optional_whole(req, "since", 1, MAX_ID), optional_whole(req, "until", 1, MAX_ID)
        if since is None:
            raise BadRequest("say since which version", where="since")
        with self._begin() as connection:
            if until is None:
                found = versions.compared(versions.state_at(connection, since), versions.state(connection))
            else:
                found = versions.diff(connection, since, until)
        show(resp, SiteChanges(version_id=until, changes=[SiteChange(**each._asdict()) for each in found]))


class SiteRollbackResource:
    """/v1/site-versions/{version_id}/rollback"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(RollbackRequest, max_mb)

    @allowed(Action.CHANGE_SITES)
    @gives(SiteRolledBack, takes=RollbackRequest, problems={422: "no_reason unknown_thing bad_site_data"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, version_id: int) -> None:
        """Make places what they were when this version had been made; that is a new version."""
        asked = self._body.read(req)
        with self._begin() as connection, undone(connection, if_=asked.dry_run):
            done = roll_back(
                connection, version_id, by=req.context.identity.subject, reason=asked.reason, names=asked.names,
                with_status=asked.status, request_id=req.context.request_id,
            )  # fmt: skip
        changes = [SiteChange(**each._asdict()) for each in done.recorded.changes]
        version = None if asked.dry_run else done.recorded.version_id
        show(resp, SiteRolledBack(version_id=version, changes=changes, kept=done.kept))


class SiteImportsResource:
    """/v1/site-imports"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._data_dir = settings.data_dir
        self._body = Body(SiteImportRequest, settings.api.max_body_mb)

    @allowed(Action.CHANGE_SITES)
    @gives(
        SiteImported,
        takes=SiteImportRequest,
        problems={422: "no_reason bad_document bad_site_data bad_name unknown_section"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take over what documents say of places, all of it or nothing; that is a new version."""
        asked = self._body.read(req)
        with self._begin() as connection, undone(connection, if_=asked.dry_run):
            done = import_documents(
                connection, asked.documents, self._data_dir, by=req.context.identity.subject, reason=asked.reason,
                with_status=asked.status, request_id=req.context.request_id,
            )  # fmt: skip
        version = None if asked.dry_run else done.recorded.version_id
        changes = [SiteChange(**each._asdict()) for each in done.recorded.changes]
        show(resp, SiteImported(version_id=version, changes=changes, n_things=done.n_things, inactive=done.inactive))

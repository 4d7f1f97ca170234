"""The WSGI app: which page answers where, who may come in, and what a failure looks like."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import falcon
from sqlalchemy.exc import SQLAlchemyError

from monitoring import gate
from monitoring.meters import Metrics
from monitoring.pages import (
    admin,
    bulk,
    data,
    doors,
    errors,
    incidents,
    job,
    job_acts,
    job_moves,
    jobs,
    jobsets,
    mine,
    overview,
    people,
    pilots,
    search,
    sites,
    switches,
    tokens,
    transfers,
    troubles,
    usage,
)
from monitoring.pages.page import Parts, problem
from monitoring.reads.blocks import TOO_SLOW, trouble_of
from monitoring.show import render
from panda.errors import Conflict, Forbidden, Invalid, NotFound, PandaError, TooLarge, Unauthenticated, Unavailable
from panda.logs import Log
from panda.request_meter import Meter

log = Log("monitoring.app")

PUBLIC = ("/login", "/static/", "/favicon.ico", "/metrics")
STATUS = (
    (Invalid, falcon.HTTP_400),
    (Unauthenticated, falcon.HTTP_401),
    (Forbidden, falcon.HTTP_403),
    (NotFound, falcon.HTTP_404),
    (Conflict, falcon.HTTP_409),
    (TooLarge, falcon.HTTP_413),
    (Unavailable, falcon.HTTP_503),
)
#: What is wrong with a filter, rather than with a page.
OF_LISTS = frozenset({"bad_filter", "unknown_filter", "unknown_sort", "unserved_sort", "bad_cursor"})
#: Pages without a filter whose address says what they show -> what they show by themselves.
ASKED_AT_WILL = {"/usage": "the usual plot"}
#: What Falcon refuses by itself -> our code for it.
CODES = {falcon.HTTP_404: "not_found", falcon.HTTP_405: "method_not_allowed"}


def make_app(
    parts: Parts, n_watchers: Callable[[], int] = lambda: 0, n_told: Callable[[], int] = lambda: 0
) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI app of every page.

    Args:
        n_watchers: browsers that watch live now; `n_told`: words that they were told so far.
    """
    meter = Meter("panda_page_requests_total", "panda_page_seconds", "panda-monitor")
    before: list[Any] = [meter, Guard(parts)]
    app = falcon.App(middleware=before)
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.keep_blank_qs_values = True
    app.resp_options.secure_cookies_by_default = False
    app.add_route("/", overview.Overview(parts))
    app.add_route("/jobs", jobs.Jobs(parts))
    app.add_route("/jobs/bulk/{verb}", bulk.Bulk(parts))
    app.add_route("/jobs/actions", bulk.Actions(parts))
    app.add_route("/jobs/actions/{action_id:int}", bulk.ActionPage(parts))
    app.add_route("/job", search.OldLink())
    app.add_route("/jobs/{panda_id:int}", job.Job(parts))
    app.add_route("/jobs/{panda_id:int}/logs/{attempt_nr:int}/{name}", job.RawLog(parts))
    app.add_route("/jobs/{panda_id:int}/retry", job_acts.JobRetry(parts))
    app.add_route("/jobs/{panda_id:int}/cancel", job_acts.JobCancel(parts))
    _add_moves(app, parts)
    app.add_route("/jobsets", jobsets.JobSets(parts))
    app.add_route("/jobsets/{jobset_id:int}", jobsets.JobSet(parts))
    app.add_route("/jobsets/{jobset_id:int}/retry", bulk.JobSetRetry(parts))
    app.add_route("/jobsets/{jobset_id:int}/cancel", job_acts.JobSetCancel(parts))
    _add_places(app, parts)
    _add_people(app, parts)
    app.add_route("/search", search.Search(parts))
    app.add_route("/help", admin.Help(parts))
    app.add_route("/metrics", Metrics(parts, meter, n_watchers, n_told))
    app.add_route("/login", doors.Login(parts))
    app.add_route("/logout", doors.Logout(parts))
    app.add_route("/static/{name}", doors.Static(parts))
    failures = Failures(parts)
    app.add_error_handler(Exception, failures.unforeseen)
    app.add_error_handler(falcon.HTTPError, failures.http)
    app.add_error_handler(PandaError, failures.ours)
    app.add_error_handler(SQLAlchemyError, failures.store)
    return app


def _add_moves(app: falcon.App[falcon.Request, falcon.Response], parts: Parts) -> None:
    app.add_route("/jobs/{panda_id:int}/hold", job_moves.JobHold(parts))
    app.add_route("/jobs/{panda_id:int}/release", job_moves.JobRelease(parts))
    app.add_route("/jobs/{panda_id:int}/priority", job_moves.JobPriority(parts))
    app.add_route("/jobs/{panda_id:int}/rebroker", job_moves.JobRebroker(parts))
    app.add_route("/jobs/{panda_id:int}/debug", job_moves.JobDebug(parts))


def _add_places(app: falcon.App[falcon.Request, falcon.Response], parts: Parts) -> None:
    app.add_route("/queues", sites.Sites(parts))
    app.add_route("/sites", sites.Sites(parts))
    app.add_route("/sites/{site}", sites.Site(parts))
    app.add_route("/queues/{queue}", sites.Queue(parts))
    app.add_route("/queues/{queue}/status", sites.SetQueue(parts))
    app.add_route("/pilots", pilots.Pilots(parts))
    app.add_route("/pilots/{pilot_id}", pilots.Pilot(parts))
    app.add_route("/nodes/{queue}/{node}", pilots.Node(parts))
    app.add_route("/transfers", transfers.Transfers(parts))
    app.add_route("/nodes/{queue}/{node}/pause", switches.NodePause(parts))
    app.add_route("/datasets", data.Datasets(parts))
    app.add_route("/datasets/{did}", data.Dataset(parts))
    app.add_route("/files", data.Files(parts))
    app.add_route("/files/{did}/{lfn}", data.File(parts))


def _add_people(app: falcon.App[falcon.Request, falcon.Response], parts: Parts) -> None:
    app.add_route("/me", people.Me(parts))
    app.add_route("/me/views/new", mine.SaveView(parts))
    app.add_route("/me/views/{name}/forget", mine.ForgetView(parts))
    app.add_route("/me/notices/new", mine.AddRule(parts))
    app.add_route("/me/notices/read", mine.MarkRead(parts))
    app.add_route("/me/notices/{rule_id:int}/drop", mine.DropRule(parts))
    app.add_route("/tokens", tokens.Tokens(parts))
    app.add_route("/tokens/new", tokens.NewToken(parts))
    app.add_route("/tokens/{token_id:int}/revoke", tokens.RevokeToken(parts))
    app.add_route("/users", people.Users(parts))
    app.add_route("/users/{name}", people.User(parts))
    app.add_route("/usage", usage.Usage(parts))
    app.add_route("/errors", errors.Errors(parts))
    app.add_route("/errors/{code}", errors.Error(parts))
    app.add_route("/incidents", incidents.Incidents(parts))
    app.add_route("/incidents/{incident_id:int}", incidents.Incident(parts))
    app.add_route("/incidents/{incident_id:int}/answer", incidents.AnswerIncident(parts))
    app.add_route("/celery", admin.CelerySummary(parts))
    app.add_route("/admin", admin.Admin(parts))
    app.add_route("/admin/switches/pause", switches.PauseSheet(parts))
    app.add_route("/admin/switches/resume", switches.ResumeSheet(parts))
    app.add_route("/troubles", troubles.Troubles(parts))
    app.add_route("/audit", admin.Audit(parts))


class Guard:
    """Every page but the login needs a session, or to be read with a token; every answer gets the security headers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.session = self._session(req)
        if "\x00" in req.path:
            raise falcon.HTTPRouteNotFound  # nothing is called so, and the database could not even be asked
        token = gate.bearer_of(req.get_header("Authorization"))
        if token is not None and req.method in ("GET", "HEAD") and not req.path.startswith(PUBLIC):
            resp.set_header("Cache-Control", "no-store")
            req.context.session = None  # whoever says who they are is that one or nobody
            req.context.session = self._parts.sessions.of_token(token)
        if req.context.session is not None or req.path.startswith(PUBLIC):
            return
        resp.complete = True
        resp.set_header("Cache-Control", "no-store")
        if render.is_for_program(req) or req.method not in ("GET", "HEAD"):
            told = "POST /login with a token, or GET with `Authorization: Bearer …`."
            problem(self._parts, req, resp, falcon.HTTP_401, "Log in first", told, code="unauthenticated")
            return
        resp.status = falcon.HTTP_303
        resp.location = "/login?" + urlencode({"next": req.relative_uri})

    def _session(self, req: falcon.Request) -> gate.Session | None:
        """Files that pages are made with are for everybody, so nobody is asked who wants them. Who acts is asked about
        anew, but for who leaves."""
        if req.path.startswith("/static/"):
            return None
        sessions, key = self._parts.sessions, req.cookies.get(gate.COOKIE)
        acts = req.method not in ("GET", "HEAD") and req.path not in ("/login", "/logout")
        return sessions.recall_to_act(key) if acts else sessions.recall(key)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        for name, value in render.SECURITY_HEADERS.items():
            resp.set_header(name, value)


class Failures:
    """Errors with a face."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def ours(self, req: falcon.Request, resp: falcon.Response, error: PandaError, params: dict[str, Any]) -> None:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), falcon.HTTP_400)
        title = {
            falcon.HTTP_401: "Say who you are",
            falcon.HTTP_403: "Not yours",
            falcon.HTTP_404: "There is no such page",
            falcon.HTTP_409: "Not possible now",
            falcon.HTTP_503: "Not possible now",
        }.get(status, "This cannot be meant")
        said = str(error)
        detail = said if said.endswith(("?", ".")) else f"{said}."
        is_list = error.code in OF_LISTS and req.method == "GET"
        hints = [("/", "the overview")]
        if req.path in ASKED_AT_WILL:
            hints.insert(0, (req.path, ASKED_AT_WILL[req.path]))
        elif is_list:
            hints.insert(0, (req.path, "the whole list"))
        again = " ".join(req.get_param(name) or "" for name in ("q", "filter", "add")).strip() if is_list else ""
        problem(self._parts, req, resp, status, title, detail, hints, code=error.code, again=again)

    def http(self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]) -> None:
        title = "There is no such page" if isinstance(error, falcon.HTTPRouteNotFound) else error.title or "An error"
        detail = error.description or "The address is not one of ours."
        status = falcon.code_to_http_status(error.status)
        code = CODES.get(status, "invalid" if status < "500" else "internal")
        problem(self._parts, req, resp, status, title, detail, [("/", "the overview")], code=code)

    def store(self, req: falcon.Request, resp: falcon.Response, error: SQLAlchemyError, params: dict[str, Any]) -> None:
        is_slow = trouble_of(error) == TOO_SLOW
        request_id = uuid4().hex[:12]
        log.warning("page not read", path=req.path, request_id=request_id, problem=str(error).splitlines()[0])
        title = "This took too long" if is_slow else "The database does not answer"
        again = "send the form again in a moment, it acts once" if req.method == "POST" else "try again in a moment"
        detail = f"Jobs are safe; {again}. The overview shows which part has trouble. Request {request_id}."
        problem(self._parts, req, resp, falcon.HTTP_503, title, detail, [("/", "the overview")],
                       code="too_slow" if is_slow else "unavailable")  # fmt: skip

    def unforeseen(self, req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
        request_id = uuid4().hex[:12]
        log.exception("page failed", path=req.path, request_id=request_id)
        detail = f"This is a mistake of ours; the log of the monitor tells more about request {request_id}."
        problem(self._parts, req, resp, falcon.HTTP_500, "Something broke", detail, [("/", "the overview")],
                       code="internal")  # fmt: skip

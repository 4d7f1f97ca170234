"""The face of every error in HTTP: a problem document (RFC 9457).

    {"type": "urn:panda:no_input", "title": "Unprocessable Content", "status": 422, "code": "no_input",
     "detail": "a sentence for people", "where": "template.inputs.A", "request_id": "5f1c…"}

Scripts rely on `status` and `code`; `where` names the field. What a client cannot have caused is logged
with the request's id, and told without its inside.
"""

from http import HTTPStatus
from typing import Any

import falcon
import msgspec
import psycopg
from sqlalchemy.exc import DBAPIError, TimeoutError

from panda import errors
from panda.api.rates import TooManyRequests
from panda.dataservice.space import NoRoom
from panda.jobs.spool import LogGap, StorageFull
from panda.logs import Log

log = Log("panda.api")

PROBLEM = "application/problem+json"


class BadRequest(errors.Invalid):
    """It is not even a request: no JSON, a NUL, a parameter that is no number."""


class UnsupportedMedia(errors.PandaError):
    """A body in a format or an encoding that is not read here."""

    code = "unsupported_media_type"


#: The nearest class in a problem's ancestry counts.
STATUS: dict[type[Exception], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    NoRoom: HTTPStatus.INSUFFICIENT_STORAGE,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
}
#: Errors of the request itself that are raised where no HTTP is known.
STATUS_BY_CODE = {
    "unknown_parameter": HTTPStatus.BAD_REQUEST,
    "bad_filter": HTTPStatus.BAD_REQUEST,
    "bad_cursor": HTTPStatus.BAD_REQUEST,
}

#: SQLSTATEs of a database that is going, coming, full or too busy: the same request may be sent again.
RETRYABLE = ("08", "40", "53", "57", "55P03", "25P03")


def install(app: "falcon.App[falcon.Request, falcon.Response]") -> None:
    """Give `app` its handlers."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(DBAPIError, _database)
    app.add_error_handler(TimeoutError, _no_connection)
    app.add_error_handler(psycopg.OperationalError, _no_connection)
    app.add_error_handler(errors.PandaError, _panda)
    app.add_error_handler(falcon.HTTPError, _falcon)


def _panda(req: falcon.Request, resp: falcon.Response, problem: errors.PandaError, params: dict[str, Any]) -> None:
    status = STATUS_BY_CODE.get(problem.code) or next(
        (STATUS[kind] for kind in type(problem).__mro__ if kind in STATUS), None
    )
    if status is None or problem.code == errors.ForbiddenMove.code:  # a fault of ours
        _unforeseen(req, resp, problem, params)
        return
    extra: dict[str, Any] = {}
    if isinstance(problem, errors.Invalid) and problem.where:
        extra["where"] = problem.where
    if isinstance(problem, LogGap):
        extra["size_bytes"] = problem.size_bytes
    if isinstance(problem, errors.Unauthenticated):
        resp.set_header("WWW-Authenticate", "Bearer")
    if isinstance(problem, errors.Unavailable | TooManyRequests):
        resp.set_header("Retry-After", str(problem.retry_after_s))
    _tell(req, resp, status, problem.code, str(problem), extra)


def _falcon(req: falcon.Request, resp: falcon.Response, problem: falcon.HTTPError, params: dict[str, Any]) -> None:
    status = HTTPStatus(problem.status_code)
    if problem.headers:
        resp.set_headers(problem.headers)
    code = {404: "no_such_path", 405: "method_not_allowed"}.get(status, "invalid")
    detail = {404: f"there is nothing at {req.path}", 405: f"{req.method} is not for {req.path}"}.get(status)
    _tell(req, resp, status, code, detail or problem.description or problem.title or status.phrase)


def _database(req: falcon.Request, resp: falcon.Response, problem: DBAPIError, params: dict[str, Any]) -> None:
    state = getattr(problem.orig, "sqlstate", None)
    is_away = problem.connection_invalidated or (state is None and isinstance(problem.orig, psycopg.OperationalError))
    if is_away or (state or "").startswith(RETRYABLE):
        _no_connection(req, resp, problem, params)
    else:
        _unforeseen(req, resp, problem, params)


def _no_connection(req: falcon.Request, resp: falcon.Response, problem: Exception, params: dict[str, Any]) -> None:
    log.warning(
        "database unavailable", request_id=_request_id(req), problem=type(problem).__name__, detail=_line(problem)
    )
    resp.set_header("Retry-After", str(errors.Unavailable.retry_after_s))
    _tell(req, resp, HTTPStatus.SERVICE_UNAVAILABLE, errors.Unavailable.code, "the database is busy or away; try again")


def _unforeseen(req: falcon.Request, resp: falcon.Response, problem: Exception, params: dict[str, Any]) -> None:
    log.exception("request failed", request_id=_request_id(req), method=req.method, path=req.path)
    detail = "an error of the server; its log knows more under this request id"
    _tell(req, resp, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail)


def _tell(
    req: falcon.Request,
    resp: falcon.Response,
    status: HTTPStatus,
    code: str,
    detail: str,
    extra: dict[str, Any] | None = None,
) -> None:
    resp.stream = None
    face = getattr(req.context, "face", None)
    if face is not None:  # a caller that has never heard of problem documents (panda.upstream)
        face(req, resp, status, detail)
        return
    resp.status = f"{status.value} {status.phrase}"
    resp.content_type = PROBLEM
    resp.data = msgspec.json.encode(
        {"type": f"urn:panda:{code}", "title": status.phrase, "status": status.value, "code": code, "detail": detail,
         **(extra or {}), "request_id": _request_id(req)}
    )  # fmt: skip


def _request_id(req: falcon.Request) -> str:
    return str(getattr(req.context, "request_id", ""))


def _line(problem: Exception) -> str:
    return str(problem).partition("\n")[0][:300]

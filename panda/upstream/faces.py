"""How an answer looks to upstream's clients.

`/api/v1`: HTTP 200 and `{"success", "message", "data"}`, also for what went wrong. `/server/panda`: a flat object
with a `StatusCode`, as JSON or as a form, or plain text. Who may not call gets 403 and a line of text in both, and so
does who calls what does not exist.
"""

from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode

import falcon
import msgspec

from panda.upstream.wire import speaks_json

#: StatusCodes of the legacy dispatcher.
OK, TIMEOUT, NO_JOBS, FAILED, BAD_TOKEN, BAD_ROLE, DENIED, NO_KEY, PROXY_ERROR = 0, 10, 20, 30, 50, 60, 70, 80, 90

LEGACY, V1 = "/server/panda/", "/api/"
#: The pilot ends when the answer to this one is no JSON, and asks again when there was no job.
GET_JOB = "/server/panda/getJob"


class Answer(NamedTuple):
    """What a handler says; an `/api/v1` call shows all of it, a legacy one the data."""

    data: Any = None
    message: str = ""
    success: bool = True


def show_v1(resp: falcon.Response, answer: Answer) -> None:
    """The envelope."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode({"success": answer.success, "message": answer.message, "data": answer.data})


def show_legacy(req: falcon.Request, resp: falcon.Response, said: Any) -> None:
    """Text as it is; an object as JSON for those who ask for it, else as a form; a list always as JSON."""
    if isinstance(said, str):
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = said
    elif isinstance(said, dict) and not speaks_json(req):
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = urlencode({name: "NULL" if value is None else value for name, value in said.items()})
    else:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(said)


def tell(req: falcon.Request, resp: falcon.Response, status: HTTPStatus, detail: str) -> None:
    """An error that no handler answered: leave, path, method, a database that is away, a bug of ours."""
    if req.path == GET_JOB and status.value >= 500:
        resp.status = falcon.HTTP_200
        show_legacy(req, resp, {"StatusCode": NO_JOBS, "errorDialog": detail})
        return
    text = detail
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        status, text = HTTPStatus.FORBIDDEN, f"ERROR : method {_method(req.path)} is forbidden"
    elif status == HTTPStatus.UNAUTHORIZED:
        status = HTTPStatus.FORBIDDEN
    resp.status = f"{status.value} {status.phrase}"
    resp.content_type = falcon.MEDIA_TEXT
    resp.data = None
    resp.text = text if text.startswith("ERROR") else f"ERROR : {text}"


def _method(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2][:60]

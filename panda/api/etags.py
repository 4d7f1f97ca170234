"""An answer that the caller has already is not sent again: `ETag`, `If-None-Match`, 304."""

import hashlib
from typing import Any

import falcon

#: Larger answers are not hashed.
MAX_BYTES = 1_000_000


class Etags:
    """Falcon middleware: for JSON and CSV that a GET answers with 200."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, succeeded: bool) -> None:
        """An answer is told from another by its bytes."""
        body = resp.data
        if req.method != "GET" or not succeeded or body is None or len(body) > MAX_BYTES or resp.status != "200 OK":
            return
        if getattr(req.context, "identity", None) is None or resp.get_header("ETag"):
            return
        etag = hashlib.blake2b(body, digest_size=12).hexdigest()
        resp.set_header("ETag", f'"{etag}"')
        if not resp.get_header("Cache-Control"):
            resp.set_header("Cache-Control", "private, no-cache")
        if etag in _known(req):
            resp.status = falcon.HTTP_304
            resp.data = None


def _known(req: falcon.Request) -> set[str]:
    """The marks that the caller has; `*` is none of ours."""
    given = req.env.get("HTTP_IF_NONE_MATCH", "")
    return {mark.strip().removeprefix("W/").strip('"') for mark in given.split(",")} if given else set()

"""Lists, page by page: the next page is asked for when the last one is used up."""

from collections.abc import Iterator

from panda.client.calls import Calls, Query
from panda.client.errors import ServerError
from panda.client.replies import R, parsed

PAGE = 500


def pages(calls: Calls, path: str, kind: type[R], query: Query | None = None, limit: int | None = None) -> Iterator[R]:
    """Every item of the list at `path`, at most `limit`.

    Raises:
        ServerError: the answer is no page, or its cursor does not move.
    """
    asked = {**(query or {})}
    n_left = limit
    while n_left is None or n_left > 0:
        page = calls.get(path, {**asked, "limit": PAGE if n_left is None else min(PAGE, n_left)})
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise ServerError(f"the answer of {path} is no page of a list", code="not_understood")
        for item in page["data"][:n_left]:
            yield parsed(kind, item)
        if n_left is not None:
            n_left -= len(page["data"])
        cursor = (page.get("page") or {}).get("next")
        if cursor is None:
            return
        if cursor == asked.get("after"):
            raise ServerError(f"the list {path} does not get past {cursor}", code="not_understood")
        asked["after"] = cursor


def one_page(calls: Calls, path: str, kind: type[R], query: Query | None = None) -> list[R]:
    """A list that is never paged: the events, files, attempts or logs of one job."""
    page = calls.get(path, query)
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        raise ServerError(f"the answer of {path} is no list", code="not_understood")
    return [parsed(kind, item) for item in page["data"]]

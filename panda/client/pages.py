"""Lists, page by page: the next page is asked for when the last one is used up."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, Self

from panda.client.calls import Calls, Query
from panda.client.errors import ServerError
from panda.client.replies import R, parsed

if TYPE_CHECKING:
    import pandas
    import polars

PAGE = 500
#: Rows that a notebook shows of a list.
SHOWN = 20


class Pages(Iterator[R], Generic[R]):
    """The items of a list, in its order, fetched as they are asked for. It can be gone through once.

    A notebook shows the first items, which stay to be taken.
    """

    def __init__(self, calls: Calls, path: str, kind: type[R], query: Query, limit: int | None) -> None:
        self._calls, self._path, self._kind = calls, path, kind
        self._asked = {**query}
        self._n_left = limit
        self._ready: deque[R] = deque()
        self._is_over = limit is not None and limit <= 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        """Raises ServerError: the answer is no page, or its cursor does not move."""
        while not self._ready:
            if self._is_over:
                raise StopIteration
            self._fetch()
        return self._ready.popleft()

    def page(self) -> list[R] | None:
        """What is at hand, else the next page (which may be empty); None: that was all."""
        if not self._ready:
            if self._is_over:
                return None
            self._fetch()
        found = list(self._ready)
        self._ready.clear()
        return found

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rest of the list as the server tells it."""
        return [item.raw for item in self]

    def to_pandas(self) -> "pandas.DataFrame":
        """The rest of the list as a frame; times are UTC. Raises MissingExtra: pandas is not installed."""
        from panda.client.frames import to_pandas

        return to_pandas(self.to_dicts(), self._kind)

    def to_polars(self) -> "polars.DataFrame":
        """The rest of the list as a frame; times are UTC. Raises MissingExtra: polars is not installed."""
        from panda.client.frames import to_polars

        return to_polars(self.to_dicts(), self._kind)

    def _repr_html_(self) -> str:
        from panda.client.notebook import table

        while len(self._ready) < SHOWN and not self._is_over:
            self._fetch()
        shown = [self._ready[number].raw for number in range(min(SHOWN, len(self._ready)))]
        return table(shown, there_is_more=len(self._ready) > SHOWN or not self._is_over)

    def _fetch(self) -> None:
        size = PAGE if self._n_left is None else min(PAGE, self._n_left)
        page = self._calls.get(self._path, {**self._asked, "limit": size})
        items, cursor = _read(page, self._path)
        found = [parsed(self._kind, item) for item in items[: self._n_left]]
        if self._n_left is not None:
            self._n_left -= len(found)
        if cursor is None or self._n_left == 0:
            self._is_over = True
        elif cursor == self._asked.get("after"):
            self._is_over = True
            raise ServerError(f"the list {self._path} does not get past {cursor}", code="not_understood")
        self._asked["after"] = cursor
        self._ready.extend(found)


def pages(calls: Calls, path: str, kind: type[R], query: Query | None = None, limit: int | None = None) -> Pages[R]:
    """Every item of the list at `path`, at most `limit`."""
    return Pages(calls, path, kind, query or {}, limit)


def one_page(calls: Calls, path: str, kind: type[R], query: Query | None = None) -> list[R]:
    """A list that is never paged: the events, files, attempts or logs of one job."""
    items, _ = _read(calls.get(path, query), path)
    return [parsed(kind, item) for item in items]


def _read(page: Any, path: str) -> tuple[list[Any], str | int | None]:
    """Items and cursor of a page. Raises ServerError: it is none."""
    end = page.get("page") if isinstance(page, dict) else None
    items = page.get("data") if isinstance(page, dict) else None
    cursor = end.get("next") if isinstance(end, dict) else None
    if not isinstance(items, list) or not isinstance(cursor, str | int | None):
        raise ServerError(f"the answer of {path} is no page of a list", code="not_understood")
    return items, cursor

"""/v1/views: filters that somebody keeps under a name."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import views


class ViewsResource:
    """/v1/views"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.KEEP_VIEWS, *SHORT_LIST)
    @gives(Page(schemas.View, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The caller's views, by name."""
        with self._begin() as connection:
            found = views.of(connection, req.context.identity.subject)
        show_short_list(req, resp, schemas.View, [schemas.View(**each._asdict()) for each in found])


class ViewResource:
    """/v1/views/{name}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.ViewRequest, max_mb)

    @allowed(Action.KEEP_VIEWS)
    @gives(schemas.Affected, takes=schemas.ViewRequest, problems={400: "bad_filter", 422: "bad_name too_many_views"})
    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Keep a filter of jobs under a name; the one that has it already is replaced."""
        asked = self._body.read(req)
        with self._begin() as connection:
            views.save(connection, req.context.identity.subject, name, asked.filter)
        show(resp, schemas.Affected(n=1))

    @allowed(Action.KEEP_VIEWS)
    @gives(schemas.Affected)
    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Forget a view."""
        with self._begin() as connection:
            views.forget(connection, req.context.identity.subject, name)
        show(resp, schemas.Affected(n=1))

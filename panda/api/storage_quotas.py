"""/v1/storage-quotas: how much who may keep where, and how much that is."""

import falcon

from panda.api import data_schemas
from panda.api.access import allowed
from panda.api.answers import show_page
from panda.api.described import Page, gives
from panda.api.parameters import word
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import space
from panda.db.session import Begin


class StorageQuotasResource:
    """/v1/storage-quotas"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_STORAGE_QUOTAS, "owner")
    @gives(Page(data_schemas.StorageQuota))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Quotas that concern somebody (users: themselves), and what is used of them; there are no pages."""
        owner = policy.scope(req.context.identity, Action.READ_STORAGE_QUOTAS, word(req, "owner"))
        with self._begin() as connection:
            found = space.quotas(connection, owner)
        show_page(resp, [data_schemas.StorageQuota(**row._asdict()) for row in found], None)

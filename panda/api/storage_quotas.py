"""/v1/storage-quotas: how much who may keep where, and how much that is."""

import falcon

from panda.api import data_schemas
from panda.api.access import allowed
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.api.parameters import word
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import space
from panda.db.session import Begin


class StorageQuotasResource:
    """/v1/storage-quotas"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_STORAGE_QUOTAS, *SHORT_LIST, "owner")
    @gives(Page(data_schemas.StorageQuota, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Quotas that concern somebody (users: themselves), and what is used of them."""
        owner = policy.scope(req.context.identity, Action.READ_STORAGE_QUOTAS, word(req, "owner"))
        with self._begin() as connection:
            found = space.quotas(connection, owner)
        shown = [data_schemas.StorageQuota(**row._asdict()) for row in found]
        show_short_list(req, resp, data_schemas.StorageQuota, shown)

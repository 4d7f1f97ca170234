"""/v1/transfers, /v1/links: which files are on their way, and how busy the ways are."""

import falcon

from panda.api import data_schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.described import Page, gives
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.auth.policy import Action
from panda.dataservice import flow
from panda.db.session import Begin


class TransfersResource:
    """/v1/transfers"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA, *LIST)
    @gives(Page(data_schemas.Transfer, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Transfers that fit, newest first; those under way with `filter=status:queued,moving`."""
        show_list(self._begin, req, resp, flow.TRANSFERS, data_schemas.Transfer)


class TransferResource:
    """/v1/transfers/{transfer_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(data_schemas.Transfer)
    def on_get(self, req: falcon.Request, resp: falcon.Response, transfer_id: int) -> None:
        """A transfer, and how many jobs wait for it."""
        show(resp, data_schemas.Transfer(**found_one(self._begin, flow.TRANSFERS, transfer_id)._asdict()))


class LinksResource:
    """/v1/links"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(Page(data_schemas.LinkLoad))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Queue and throughput from each storage to each other; ways that are idle are left out."""
        with self._begin() as connection:
            found = flow.links(connection)
        items = [data_schemas.LinkLoad(**row._asdict(), bytes_per_s=row.bytes_done / flow.FLOW_S) for row in found]
        show_page(resp, items, None)

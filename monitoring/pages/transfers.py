"""What is on its way between the storages, how busy the ways are, and how much room there is."""

from typing import Any

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads import queries
from monitoring.reads.queries import Facts, facts
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import flow, recalls, space
from panda.errors import Forbidden


class Transfers(Page):
    """/transfers"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req)
        identity = session_of(req).identity
        policy.require(identity, Action.READ_DATA)
        reader = self._parts.reader
        try:
            owner = policy.scope(identity, Action.READ_STORAGE_QUOTAS, None)
        except Forbidden:
            owner = identity.subject
        data = {
            "transfers": reader.block(lambda c: _plain(flow.on_page(c))),
            "recalls": reader.block(lambda c: _plain(recalls.by_storage(c))),
            "ways": reader.block(_ways),
            "storages": reader.block(lambda c: facts(c, queries.STORAGES)),
            "quotas": reader.block(lambda c: _plain(space.quotas(c, owner))),
        }
        self._answer(req, resp, "transfers.html", data, self._now(), csv="transfers")


def _ways(connection: Connection) -> list[Facts]:
    return [row._asdict() | {"bytes_per_s": row.bytes_done / flow.FLOW_S} for row in flow.links(connection)]


def _plain(found: Any) -> list[Facts]:
    return [row._asdict() for row in found]

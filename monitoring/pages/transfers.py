"""What is on its way between the storages, how busy the ways are, and how much room there is."""

from typing import Any

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.listing import CSV_ROWS, Listing, ListPage, ask, picked
from monitoring.pages.page import session_of
from monitoring.reads import queries
from monitoring.reads.queries import Facts, facts
from monitoring.show import looks, render, tables
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import flow, recalls, space
from panda.errors import Forbidden

LISTING = Listing(
    flow.TRANSFERS, "/transfers", "transfers", "panda transfers",
    "status:failed ended:24h source:NORTH* destination:SOUTH-DISK tries>1 error:*timeout*",
    is_mixed=True,
)  # fmt: skip


class Transfers(ListPage):
    """/transfers?q=; where nothing is asked: what moves, what comes next, and what failed last."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = session_of(req).identity
        policy.require(identity, Action.READ_DATA)
        asked = ask(req, LISTING, tables.COLUMNS["transfers.html"])
        reader = self._parts.reader
        try:
            owner = policy.scope(identity, Action.READ_STORAGE_QUOTAS, None)
        except Forbidden:
            owner = identity.subject
        data = {} if render.wants_csv(req) else {
            "recalls": reader.block(lambda c: _plain(recalls.by_storage(c))),
            "ways": reader.block(_ways),
            "storages": reader.block(lambda c: facts(c, queries.STORAGES)),
            "quotas": reader.block(lambda c: _plain(space.quotas(c, owner))),
        }  # fmt: skip
        if asked.is_said or asked.after or asked.sort or render.wants_csv(req):
            self._list(req, resp, "transfers.html", asked, asked.expression, data=data, is_mixed=False)
            return
        now = reader.block(lambda c: _plain(flow.on_page(c)))
        rows = [picked(row, asked.fields if render.wants_json(req) else None) for row in now.value or []]
        told = {"transfers": rows, "trouble": now.trouble, "next": None, "q": "", "sort": "", **data}
        self._answer(req, resp, "transfers.html", told, self._now(), csv="transfers", asked=asked, next_link="",
                     csv_word=f"CSV, newest {looks.count(CSV_ROWS)}", is_mixed=True)  # fmt: skip


def _ways(connection: Connection) -> list[Facts]:
    return [row._asdict() | {"bytes_per_s": row.bytes_done / flow.FLOW_S} for row in flow.links(connection)]


def _plain(found: Any) -> list[Facts]:
    return [row._asdict() for row in found]

"""What every page has: the parts of this process, and the way to an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import falcon
import msgspec

from monitoring.celery_side import CeleryView
from monitoring.gate import Session, Sessions
from monitoring.health import Health
from monitoring.reads import queries
from monitoring.reads.blocks import Block, Memory, Reader
from monitoring.show import render, tables
from monitoring.show.looks import ACTIVE
from monitoring.show.render import Renderer
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db.session import Begin, rows
from panda.errors import Forbidden, Invalid, Unavailable, UnknownName
from panda.jobs.spool import Spool
from panda.settings import Settings

OUTCOME = "SELECT outcome FROM page_deeds WHERE who = %(who)s AND key = %(key)s"


@dataclass(frozen=True)
class Parts:
    """What pages are made from."""

    settings: Settings
    begin: Begin
    reader: Reader
    sessions: Sessions
    celery: CeleryView
    health: Health
    spool: Spool
    renderer: Renderer
    static: dict[str, tuple[bytes, str]]
    memory: Memory


#: What every address may say besides.
ALWAYS = ("json", "csv", "done")


class Page:
    """A resource that shows something."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def _now(self) -> datetime:
        """The database's clock; ours while the database is away."""
        found = self._parts.reader.block(queries.now)
        return found.value or datetime.now(UTC)

    def _answer(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        template: str,
        data: dict[str, Any],
        as_of: datetime,
        csv: str | None = None,
        csv_columns: Sequence[str] | None = None,
        **more: Any,
    ) -> None:
        """`csv`: the key of the list in `data` that a table of it holds, with
        `csv_columns`, or all that it has. `more` is for the page alone; of it `csv_word`
        names the button, where the table is not all there is.

        Raises:
            Invalid: `no_table`, a table is asked for and this page has none.
            Unavailable: its list could not be read.
        """
        if render.wants_csv(req):
            render.answer_csv(resp, _listed(data, csv), csv_columns or tables.COLUMNS[template])
            return
        if render.wants_json(req):
            render.answer_json(resp, data, as_of)
            return
        identity = session_of(req).identity
        more.setdefault("topics", "overview")
        more.setdefault("csv_word", "CSV" if data.get("next") is None else "CSV of this page")
        render.answer(
            req, resp, self._parts.renderer, template, data, as_of, self._parts.memory.of("nav", self._nav),
            told=self._told(req, identity), may=_leave(identity), csv_link=render.csv_link(req) if csv else "", **more,
        )  # fmt: skip

    def _told(self, req: falcon.Request, identity: Identity) -> str:
        """What the deed came to that led here (`?done=` its key)."""
        key = req.get_param("done")
        if not key:
            return ""
        found = self._parts.reader.block(lambda c: rows(c, OUTCOME, {"who": identity.subject, "key": key[:100]}))
        return str(found.value[0].outcome) if found.value else ""

    def _nav(self) -> dict[str, int | None]:
        """The numbers beside the menu: jobs on their way, queues, Celery workers that are alive."""
        reader = self._parts.reader
        counts = reader.block(lambda c: queries.by_status(queries.facts(c, queries.COUNTS))).value
        n_queues = reader.block(lambda c: int(queries.facts(c, queries.N_QUEUES)[0]["n"])).value
        jobs = None if counts is None else sum(counts.get(status, 0) for status in ACTIVE)
        workers = [worker for worker in self._parts.celery.workers() if worker.is_alive]
        incidents = reader.block(lambda c: int(queries.facts(c, queries.N_INCIDENTS)[0]["n"])).value
        found = {
            "jobs": jobs, "queues": n_queues, "workers": len(workers) or None, "incidents": incidents or None,
            "troubles": self._parts.memory.last("n troubles"),
        }  # fmt: skip
        self._parts.memory.keep("nav", found)
        return found


def problem(
    parts: Parts,
    req: falcon.Request,
    resp: falcon.Response,
    status: str,
    title: str,
    detail: str,
    hints: list[tuple[str, str]] | None = None,
    *,
    code: str,
    again: str = "",
) -> None:
    """An error with a face, within the reader's own menu. Asks nobody: its numbers are those of the page before."""
    session: Session | None = req.context.get("session")
    render.problem(
        req, resp, parts.renderer, status, title, detail, hints, code=code, again=again,
        nav=parts.memory.last("nav") or render.NO_NAV, may=_leave(session.identity) if session else _nothing,
    )  # fmt: skip


def _nothing(*_: object) -> bool:
    return False


def _listed(data: dict[str, Any], key: str | None) -> list[Any]:
    """The list of a page for its table. Raises Invalid, Unavailable."""
    if key is None:
        raise Invalid("this page has no table; it is JSON with ?json", where="csv", code="no_table")
    found = data[key]
    trouble = found.trouble if isinstance(found, Block) else data.get("trouble")
    if trouble:
        raise Unavailable(f"the table could not be read: {trouble}")
    listed = found.value or [] if isinstance(found, Block) else found
    return [msgspec.structs.asdict(row) if isinstance(row, msgspec.Struct) else row for row in listed]


def check_words(req: falcon.Request, *known: str) -> None:
    """A list says nothing of what was asked with a word that it does not know. Raises UnknownName."""
    for name in req.params:
        if name not in known and name not in ALWAYS:
            raise UnknownName("filter", name, known)


def number_of(req: falcon.Request, name: str) -> int | None:
    """A positive number of the URL; None when it is not there. Raises falcon.HTTPInvalidParam."""
    return req.get_param_as_int(name, min_value=1, max_value=queries.BIGGEST) if req.get_param(name) else None


def _leave(identity: Identity) -> Any:
    """For templates: `may("RETRY", owner)`."""

    def may(action: str, owner: str | None = None) -> bool:
        try:
            policy.require(identity, Action[action], owner)
        except Forbidden:
            return False
        return True

    return may


def session_of(req: falcon.Request) -> Session:
    """Who reads; the guard let nobody else through."""
    session: Session = req.context.session
    return session

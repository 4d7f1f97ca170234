"""The overview: what runs, what waits, what fails, and whether every part is alive."""

from datetime import datetime
from typing import Any

import falcon

from monitoring.pages import troubles
from monitoring.pages.overview_facts import PERIODS, overview
from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads.blocks import Block
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.errors import Forbidden, UnknownName


class Overview(Page):
    """/"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "hours")
        hours = req.get_param_as_int("hours")
        if hours is not None and hours not in PERIODS:
            raise UnknownName("period", str(hours), [str(period) for period in PERIODS], where="hours")
        parts = self._parts

        def make() -> tuple[dict[str, Any], datetime]:
            window = parts.settings.engine.retry_window_s
            found = overview(parts.reader, parts.health, parts.memory, hours=hours, retry_window_s=window)
            return found, self._now()

        data, as_of = parts.memory.of(("overview", hours), make)
        data = _for_role(data, session_of(req).identity)
        data["troubles"] = troubles.found(parts) if _is_operating(session_of(req).identity) else []
        self._answer(req, resp, "overview.html", data, as_of, periods=PERIODS, api_port=parts.settings.api.port,
                     shown=troubles.SHOWN_FIRST)  # fmt: skip


def _is_operating(identity: Identity) -> bool:
    """Whether somebody sees what is wrong anywhere."""
    try:
        policy.require(identity, Action.READ_INCIDENTS)
    except Forbidden:
        return False
    return True


def _for_role(data: dict[str, Any], identity: Identity) -> dict[str, Any]:
    """What payloads and components say is for those who may see everybody's jobs."""
    if _is_operating(identity):
        return data
    errors = data["errors"]
    kept = [{name: value for name, value in row.items() if name != "message"} for row in errors.value or []]
    return {**data, "errors": Block(kept, errors.trouble), "incidents": Block([])}

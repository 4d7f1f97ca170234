"""One deed for many jobs: looked at first, then confirmed, then carried out by the server, chunk by chunk."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from panda.client.calls import Calls
from panda.client.errors import Unavailable, WaitTimeout
from panda.client.pages import Pages, pages
from panda.client.replies import Job, Reply, parsed

FIRST_LOOK_S, LAST_LOOK_S, GROWTH = 0.2, 2.0, 1.5
#: Seconds that a server may be away while somebody waits.
PATIENCE_S = 120.0


class Preview(Reply, kw_only=True, frozen=True):
    """What an action would reach. Nothing was done yet; `Actions.confirm` begins it."""

    action_id: int
    n: int
    token: str
    status: str = ""
    expires_at: datetime | None = None
    first: list[Job] = []
    untouched: dict[str, int] = {}
    """Why, and how many: jobs that the filter finds and the action leaves alone."""
    refused: dict[str, int] = {}
    """Of a retry: why, and how many of the newest `n_looked` jobs would get no new attempt as they stand."""
    n_looked: int = 0
    asked: dict[str, Any] = {}
    """The words that are said again when it is confirmed."""


class Action(Reply, kw_only=True, frozen=True):
    """An action that was begun, and how far it is."""

    action_id: int
    status: str
    n: int = 0
    action: str = ""
    filter: str = ""
    note: str = ""
    asked_by: str = ""
    reason: str = ""
    n_previewed: int | None = None
    n_done: int = 0
    n_refused: int = 0
    refused: dict[str, int] = {}
    created_at: datetime | None = None
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_ended(self) -> bool:
        return self.status in ("done", "stopped")


class Actions:
    """/v1/jobs/actions, /v1/actions"""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock

    def preview(
        self,
        action: str,
        filter: str,
        *,
        reason: str,
        stage: str | None = None,
        priority: int | None = None,
        exclude: Sequence[str] = (),
    ) -> Preview:
        """What `action` (retry, cancel, priority, hold, release, rebroker) reaches of jobs that fit; nothing is done.

        Args:
            filter: as in `jobset:7 status:failed`.
            stage: where new attempts start; `priority`: the new one; `exclude`: where jobs must not go.
        Raises:
            Invalid: the filter, or another word, cannot be meant.
        """
        said = {"action": action, "filter": filter, "reason": reason, "stage": stage, "priority": priority,
                "exclude": list(exclude) or None}  # fmt: skip
        asked = {name: value for name, value in said.items() if value is not None}
        answer = self._calls.json("POST", "/v1/jobs/actions", {**asked, "dry_run": True}, idempotent=True)
        return parsed(Preview, {**answer, "asked": asked} if isinstance(answer, dict) else answer)

    def confirm(self, preview: Preview) -> Action:
        """Begin what was previewed. Its token begins one action, however often the call is repeated.

        Raises:
            Conflict: the preview is too old.
        """
        document = {**preview.asked, "token": preview.token, "count": preview.n}
        return parsed(Action, self._calls.json("POST", "/v1/jobs/actions", document, idempotent=True))

    def show(self, action_id: int) -> Action:
        """How far an action is. Raises NotFound."""
        return parsed(Action, self._calls.get(f"/v1/actions/{action_id}"))

    def list(self, *, filter: str | None = None, owner: str | None = None, limit: int | None = None) -> Pages[Action]:
        """Actions that fit, newest first."""
        return pages(self._calls, "/v1/actions", Action, {"filter": filter, "owner": owner}, limit)

    def wait(
        self,
        action_id: int,
        *,
        timeout_s: float | None = None,
        on_look: Callable[[Action], None] = lambda _: None,
        patience_s: float = PATIENCE_S,
    ) -> Action:
        """Wait until the action has been carried out.

        Raises:
            WaitTimeout: `timeout_s` passed; the action goes on.
            Unavailable: the server stayed away for `patience_s`.
        """
        started = seen = self._clock()
        look_s = FIRST_LOOK_S
        while True:
            try:
                action = self.show(action_id)
                seen = self._clock()
                on_look(action)
                if action.is_ended:
                    return action
            except Unavailable:
                if self._clock() - seen >= patience_s:
                    raise
            left_s = float("inf") if timeout_s is None else started + timeout_s - self._clock()
            if left_s <= 0:
                raise WaitTimeout(f"action {action_id} goes on after {timeout_s:g} s")
            self._calls.sleep(min(look_s, left_s))
            look_s = min(LAST_LOOK_S, look_s * GROWTH)

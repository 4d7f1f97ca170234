"""Users and tokens: what an admin does with them, and what everybody may with their own."""

from collections.abc import Sequence
from typing import Any

from panda.client.calls import Calls, mapping, segment
from panda.client.pages import Pages, pages
from panda.client.replies import Affected, Reply, parsed


class Users:
    """/v1/users"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, filter: str | None = None, limit: int | None = None) -> Pages[Reply]:
        """Users that fit, by name; facts in `.raw`."""
        return pages(self._calls, "/v1/users", Reply, {"filter": filter}, limit)

    def show(self, name: str) -> Reply:
        """Raises NotFound."""
        return parsed(Reply, self._calls.get(f"/v1/users/{segment(name)}"))

    def create(self, name: str, roles: Sequence[str], *, reason: str = "") -> Reply:
        """Make a user, whose tokens may carry these roles and no others. Raises Conflict: there is one."""
        document = {"name": name, "roles": list(roles), "reason": reason}
        return parsed(Reply, mapping(self._calls.json("POST", "/v1/users", document), "user", name=str))

    def ban(self, name: str, *, reason: str, running: str | None = None) -> Affected:
        """Refuse every token of a user, within five seconds, and start none of their jobs any more.

        Args:
            running: `finish` or `kill`, for their jobs that run; None: as the server is set.
        """
        path = f"/v1/users/{segment(name)}/ban"
        document = {"reason": reason} | ({"running": running} if running else {})
        return parsed(Affected, self._calls.json("POST", path, document, idempotent=True))

    def unban(self, name: str, *, reason: str) -> Affected:
        """Let a user in again, with the tokens that they have."""
        return self._deed(name, "unban", reason)

    def limit(self, name: str, *, reason: str) -> Affected:
        """Give a user the smaller quotas of those who are limited."""
        return self._deed(name, "limit", reason)

    def unlimit(self, name: str, *, reason: str) -> Affected:
        """Give a user their own quotas back."""
        return self._deed(name, "unlimit", reason)

    def quota(self, name: str) -> Reply:
        """How a user stands to each quota that binds them; facts in `.raw`."""
        found = self._calls.get(f"/v1/users/{segment(name)}/quota")
        return parsed(Reply, mapping(found, "quota", owner=str, quotas=list))

    def revoke_tokens(self, name: str, *, reason: str = "") -> Affected:
        """End every token of a user, within five seconds."""
        return self._deed(name, "revoke-tokens", reason)

    def _deed(self, name: str, deed: str, reason: str) -> Affected:
        path = f"/v1/users/{segment(name)}/{deed}"
        return parsed(Affected, self._calls.json("POST", path, {"reason": reason}, idempotent=True))


class Tokens:
    """/v1/tokens"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, filter: str | None = None, owner: str | None = None, limit: int | None = None) -> Pages[Reply]:
        """What tokens are for, newest first; never the tokens themselves."""
        return pages(self._calls, "/v1/tokens", Reply, {"filter": filter, "owner": owner}, limit)

    def create(
        self, owner: str, roles: Sequence[str], *, label: str = "", ttl_s: float | None = None, queue: str = ""
    ) -> dict[str, Any]:
        """A token for somebody (admins only); it is shown this once. `queue` binds a pilot's to one queue.

        `user_made` in the answer: there was no such user, and there is one now. Raises Invalid: `unknown_queue`."""
        document = {"owner": owner, "roles": list(roles), "label": label, "ttl_s": ttl_s, "queue": queue}
        return mapping(self._calls.json("POST", "/v1/tokens", document), "token", token=str)

    def revoke(self, token_id: int, *, reason: str = "") -> Affected:
        """End a token, within five seconds."""
        path = f"/v1/tokens/{token_id}/revoke"
        return parsed(Affected, self._calls.json("POST", path, {"reason": reason}, idempotent=True))


class Logins:
    """/v1/login"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def ways(self) -> dict[str, Any]:
        """Where people get tokens of an issuer: `issuer` (None: nowhere), `client_id`, `scope`, `audience`."""
        return mapping(self._calls.get("/v1/login"), "way to log in")

    def exchange(self) -> dict[str, Any]:
        """A token of ours (`token`, `token_id`, `owner`) for one of an issuer, which this client comes with.

        Raises:
            Conflict: it comes with one of ours already.
        """
        return mapping(self._calls.json("POST", "/v1/login"), "login", token=str, token_id=int, owner=str)


class Incidents:
    """/v1/incidents"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, filter: str | None = None, limit: int | None = None) -> Pages[Reply]:
        """Incidents that fit, newest first; facts in `.raw`."""
        return pages(self._calls, "/v1/incidents", Reply, {"filter": filter}, limit)

    def acknowledge(self, incident_id: int, *, comment: str = "") -> Reply:
        """Say that I look after it. Raises Conflict: it is over."""
        return self._answer(incident_id, "acknowledge", comment)

    def close(self, incident_id: int, *, comment: str = "") -> Reply:
        """Say that it is over. Raises Conflict: it was already."""
        return self._answer(incident_id, "close", comment)

    def _answer(self, incident_id: int, action: str, comment: str) -> Reply:
        path, document = f"/v1/incidents/{incident_id}", {"action": action, "comment": comment}
        return parsed(Reply, mapping(self._calls.json("POST", path, document), "incident", incident_id=int))


class Quotas:
    """/v1/quotas"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self) -> Pages[Reply]:
        """Every quota that was set, by subject (`default`, `limited`, `user:NAME`, `group:NAME`); facts in `.raw`."""
        return pages(self._calls, "/v1/quotas", Reply)

    def set(self, subject: str, *, reason: str, **values: Any) -> dict[str, Any]:
        """Change what somebody may have (operators only); what is not named stays.

        Args:
            values: `queued_jobs`, `running_jobs`, `running_cores`, `core_hours` (0: any number; None: nothing is said
                any more), `beyond` (`refuse` or `hold`), `members` of a group.
        Raises:
            Invalid: something of it cannot be meant.
        """
        path = f"/v1/quotas/{segment(subject)}"
        return mapping(
            self._calls.json("PUT", path, {**values, "reason": reason}, idempotent=True), "quota", subject=str
        )

    def clear(self, subject: str, *, reason: str) -> dict[str, Any]:
        """Take away what was set for somebody. Raises NotFound: nothing was."""
        path = f"/v1/quotas/{segment(subject)}/clear"
        return mapping(self._calls.json("POST", path, {"reason": reason}), "quota", subject=str)

"""What operators do with what is known of places: its versions, downtimes, and queues that come and go."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from panda.client.calls import Calls, mapping, segment
from panda.client.pages import Pages, pages
from panda.client.replies import Affected, Reply, parsed

Changes = list[dict[str, Any]]
"""Each with `kind`, `name`, `change`, `field`, `was` and `now`."""


class Places:
    """/v1/site-versions, /v1/site-imports, /v1/downtimes, /v1/queues/{name}/…"""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, name: str | None = None, filter: str | None = None, limit: int | None = None) -> Pages[Reply]:
        """Versions, newest first; facts in `.raw`. `name`: only those that changed this thing."""
        wanted = " ".join(part for part in (f'name:"{name}"' if name else "", f"({filter})" if filter else "") if part)
        return pages(self._calls, "/v1/site-versions", Reply, {"filter": wanted or None}, limit)

    def version(self, version_id: int) -> dict[str, Any]:
        """A version: `version`, and `changes`, what it changed. Raises NotFound."""
        return mapping(self._calls.get(f"/v1/site-versions/{version_id}"), "version", version=dict, changes=list)

    def diff(self, since: int, until: int | None = None) -> Changes:
        """What is different between two versions, or between one and now. Raises NotFound."""
        found = self._calls.get("/v1/site-versions/diff", {"since": since, "until": until})
        changes: Changes = mapping(found, "difference", changes=list)["changes"]
        return changes

    def rules(self) -> Sequence[Reply]:
        """The rules by which queues and nodes are taken out, as they are now; facts in `.raw`."""
        return [*pages(self._calls, "/v1/site-rules", Reply)]

    def roll_back(
        self, version_id: int, *, reason: str, names: Sequence[str] = (), status: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Make places what they were at a version: `version_id` of the new one, `changes`, and what was `kept`.

        Args:
            names: only these things; none: all.
            status: roll back the status of queues and storages too.
            dry_run: tell what would be different, and change nothing.
        """
        document = {"reason": reason, "names": list(names), "status": status, "dry_run": dry_run}
        path = f"/v1/site-versions/{version_id}/rollback"
        return mapping(self._calls.json("POST", path, document), "rollback", changes=list, kept=list)

    def import_documents(
        self, documents: Sequence[Mapping[str, Any]], *, reason: str, status: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Take over what documents say, all of it or nothing: `changes`, `version_id`, `n_things`, `inactive`.

        Args:
            documents: each of the shape of `sites.toml`, or CRIC's queues or storages by name.
            status: set the status of queues that there are, too.
        Raises:
            Invalid: something cannot be meant, or contradicts itself or what there is; nothing was changed.
        """
        document = {"documents": list(documents), "reason": reason, "status": status, "dry_run": dry_run}
        answer = self._calls.json("POST", "/v1/site-imports", document)
        return mapping(answer, "import", changes=list, inactive=list, n_things=int)

    def plan_downtime(
        self,
        kind: str,
        target: str,
        *,
        until: datetime,
        reason: str,
        since: datetime | None = None,
        name: str = "",
    ) -> Reply:
        """Plan a downtime of a site, queue or storage; `since` unset: from now on. Raises Invalid, Conflict."""
        document = {
            "kind": kind,
            "target": target,
            "starts_at": since,
            "ends_at": until,
            "reason": reason,
            "name": name,
        }
        return parsed(Reply, mapping(self._calls.json("POST", "/v1/downtimes", document), "downtime", name=str))

    def change_downtime(
        self, name: str, *, reason: str, since: datetime | None = None, until: datetime | None = None
    ) -> Reply:
        """Give a downtime another start or end. Raises NotFound, Invalid."""
        document = {"starts_at": since, "ends_at": until, "reason": reason}
        answer = self._calls.json("POST", f"/v1/downtimes/{segment(name)}", document, idempotent=True)
        return parsed(Reply, mapping(answer, "downtime", name=str))

    def cancel_downtime(self, name: str, *, reason: str) -> Affected:
        """It does not take place, or is over. Raises NotFound."""
        return parsed(Affected, self._calls.json("POST", f"/v1/downtimes/{segment(name)}/cancel", {"reason": reason}))

    def remove_queue(self, queue: str, *, reason: str) -> dict[str, Any]:
        """Take a queue away; `n_live` jobs are under way there. Raises NotFound, Conflict: somebody did already."""
        path = f"/v1/queues/{segment(queue)}/remove"
        return mapping(self._calls.json("POST", path, {"reason": reason}), "queue", queue=str, n_live=int)

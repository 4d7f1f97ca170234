"""Rules look at how attempts ended, and take out queues and nodes.

What a rule did stands in the status of the queue or in the pause of the node, in the audit log, in an incident and in
`site_rule_acts`, each time with its name and the figures that it went by. A passive rule leaves the last two alone.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import Begin, rows, run
from panda.jobs import incidents, switches
from panda.jobs.incidents import Incident
from panda.jobs.switches import Place, What
from panda.sites import moving_off
from panda.sites.rules import NodeRule, QueueRule, Rules
from panda.sites.status import from_now, write_status
from panda.sites.versions import Deed, changing
from panda.sites.waking import look_again
from panda.states import QueueStatus

#: Ends since the queue has the status that it has, and since the rule acted last on the queue, or on the node.
ENDS = """
SELECT m.queue, m.node, m.error_code, sum(m.n)::int AS n, sum(m.wall_s)::float8 AS wall_s
FROM node_minutes m JOIN queues q ON q.name = m.queue
LEFT JOIN LATERAL (SELECT at FROM site_rule_acts
    WHERE rule = %(rule)s AND queue = m.queue AND node = CASE WHEN %(of_nodes)s THEN m.node ELSE '' END
    ORDER BY at DESC LIMIT 1) a ON true
WHERE m.minute > (SELECT panda_now()) - make_interval(secs => %(window_s)s)
    AND m.minute >= date_trunc('minute', q.status_at) AND (a.at IS NULL OR m.minute > a.at)
    AND q.removed_at IS NULL
GROUP BY m.queue, m.node, m.error_code
"""
QUEUES = "SELECT name, status, status_rule FROM queues WHERE removed_at IS NULL ORDER BY name"
ACT = """
INSERT INTO site_rule_acts (at, rule, queue, node, did, is_passive, because)
VALUES (panda_now(), %(rule)s, %(queue)s, %(node)s, %(did)s, %(is_passive)s, %(because)s)
"""
LAST_ACTS = """
SELECT rule, count(*)::int AS n, max(at) AS last_at FROM site_rule_acts WHERE rule = ANY(%(rules)s) GROUP BY rule
"""
TIDY = "DELETE FROM site_rule_acts WHERE at < panda_now() - interval '90 days'"


@dataclass
class Tally:
    """How attempts at one place ended."""

    n_finished: int = 0
    n_failed: int = 0
    failed_wall_s: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)

    def add(self, error_code: str, n: int, wall_s: float) -> None:
        if not error_code:
            self.n_finished += n
            return
        self.n_failed += n
        self.failed_wall_s += wall_s
        self.codes[error_code] += n

    @property
    def n(self) -> int:
        return self.n_finished + self.n_failed

    @property
    def failed_percent(self) -> float:
        return 100.0 * self.n_failed / self.n if self.n else 0.0

    def words(self, window_s: int) -> str:
        """The figures, for people."""
        most = ", ".join(f"{code} {n} times" for code, n in self.codes.most_common(2))
        return f"{self.n_failed} of {self.n} attempts failed in {window_s // 60} min ({most})"


Tallies = Mapping[tuple[str, str], Tally]
"""By queue and node."""


def judge(begin: Begin, rules: Rules) -> int:
    """Ask every rule that takes something out. Returns how many queues and nodes were. Called by the clock, by one
    process at a time."""
    n = 0
    for rule in rules.queues:
        with begin() as connection:
            closed = _judge_queues(connection, rule)
        for queue, because in closed.items():
            _bring_away(begin, queue, f"rule:{rule.name}", because)
        n += len(closed)
    for node_rule in rules.nodes:
        with begin() as connection:
            n += _judge_nodes(connection, node_rule)
    return n


def failing_queues(rule: QueueRule, tallies: Tallies) -> dict[str, Tally]:
    """Queues that a rule finds failing. Pure."""
    by_queue: dict[str, Tally] = defaultdict(Tally)
    for (queue, _), tally in tallies.items():
        _join(by_queue[queue], tally)
    return {
        queue: tally
        for queue, tally in sorted(by_queue.items())
        if tally.n >= rule.at_least and tally.failed_percent >= rule.failed_percent
    }


def black_holes(rule: NodeRule, tallies: Tallies) -> dict[tuple[str, str], Tally]:
    """Nodes that a rule finds to eat jobs. Pure."""
    found: dict[tuple[str, str], Tally] = {}
    for (queue, node), tally in sorted(tallies.items()):
        if not node or tally.n < rule.at_least or tally.failed_percent < rule.failed_percent:
            continue
        if tally.failed_wall_s / tally.n_failed > rule.quick_s:
            continue
        others = Tally()
        for (its_queue, its_node), its in tallies.items():
            if its_queue == queue and its_node not in ("", node):
                _join(others, its)
        if others.n >= rule.at_least and others.failed_percent <= rule.others_percent:
            found[queue, node] = tally
    return found


def act(connection: Connection, rule: str, queue: str, node: str, did: str, because: str, *, is_passive: bool) -> None:
    """Write down what a rule did, or would have done, and tell operators."""
    values = {"rule": rule, "queue": queue, "node": node, "did": did, "is_passive": is_passive, "because": because}
    run(connection, ACT, values)
    place = f"node {node} of queue {queue}" if node else f"queue {queue}"
    would = "would be" if is_passive else "is"
    message = f"rule {rule}: {place} {would} {did}: {because}"
    level = "info" if did == QueueStatus.ONLINE else "warning"
    incidents.report(connection, [Incident("sites", level, f"rule {rule}: {place}", message[:2000], context=values)])


def acts_of(connection: Connection, rules: Rules) -> dict[str, tuple[int, datetime]]:
    """By name of a rule: how often it acted in the last 90 days, and when last."""
    found = rows(connection, LAST_ACTS, {"rules": [rule.name for rule in rules.all]})
    return {row.rule: (row.n, row.last_at) for row in found}


def tidy(connection: Connection) -> None:
    """Forget what rules did long ago."""
    run(connection, TIDY)


def _judge_queues(connection: Connection, rule: QueueRule) -> dict[str, str]:
    """Queues that were closed, and why."""
    known = {row.name: row for row in rows(connection, QUEUES)}
    online = {name for name, row in known.items() if row.status == QueueStatus.ONLINE}
    tallies = _tallies(connection, rule, of_nodes=False)
    failing = {queue: tally for queue, tally in failing_queues(rule, tallies).items() if queue in online}
    if not failing:
        return {}
    out_already = {name for name, row in known.items() if row.status_rule and name not in online}
    if not _is_believed(connection, rule, len(failing) + len(out_already), len(online | out_already), "queues"):
        return {}
    why = {queue: tally.words(rule.window_s) for queue, tally in failing.items()}
    if rule.passive:
        for queue, because in why.items():
            act(connection, rule.name, queue, "", rule.then, because, is_passive=True)
        return {}
    who = f"rule:{rule.name}"
    with changing(connection, Deed(who, "rule", "; ".join(f"{queue}: {because}" for queue, because in why.items()))):
        until = from_now(connection, rule.for_s) if rule.for_s else None
        for queue, because in why.items():
            _close(connection, rule, queue, because, who, until)
    look_again(connection)
    return why


def _close(connection: Connection, rule: QueueRule, queue: str, because: str, who: str, until: datetime | None) -> None:
    reason = f"rule {rule.name}: {because}"
    ends = {"until": until, "then": QueueStatus.ONLINE if until else None}
    write_status(connection, queue, rule.then, by=who, reason=reason, rule=rule.name, ends=ends)
    facts: dict[str, Any] = {"was": QueueStatus.ONLINE, "now": rule.then, "rule": rule.name}
    record(connection, who, "set_queue_status", f"queue {queue}", reason=reason, facts=facts)
    act(connection, rule.name, queue, "", rule.then, because, is_passive=False)


def _bring_away(begin: Begin, queue: str, by: str, because: str) -> None:
    """What no pilot has taken there goes elsewhere: it would only fail."""
    reason = f"queue {queue} fails: {because}"
    while moving_off.ready_jobs(begin, [queue], by=by, reason=reason):
        pass
    moving_off.assigned_jobs(begin, [queue], by=by, reason=reason)


def _judge_nodes(connection: Connection, rule: NodeRule) -> int:
    tallies = _tallies(connection, rule, of_nodes=True)
    found = black_holes(rule, tallies)
    paused = {
        (pause.place.queue, pause.place.node)
        for pause in switches.current(connection)
        if pause.what is What.DISPATCH and pause.place.node
    }
    n = 0
    for queue in sorted({queue for queue, _ in found}):
        new = [key for key in found if key[0] == queue and key not in paused]
        out_already = {node for its, node in paused if its == queue}
        nodes = out_already | {node for its, node in tallies if its == queue and node}
        n_out = len(new) + len(out_already)
        if new and _is_believed(connection, rule, n_out, len(nodes), f"nodes of queue {queue}"):
            for key in new:
                _take_out(connection, rule, *key, found[key])
            n += 0 if rule.passive else len(new)
    return n


def _take_out(connection: Connection, rule: NodeRule, queue: str, node: str, tally: Tally) -> None:
    quickly = f"after {tally.failed_wall_s / tally.n_failed:.0f} s on average"
    because = f"{tally.words(rule.window_s)}, {quickly}"
    if not rule.passive:
        until = from_now(connection, rule.for_s)
        reason = f"{because}; until {until:%Y-%m-%d %H:%M} UTC"
        place = Place(queue=queue, node=node)
        switches.pause(connection, What.DISPATCH, place, by=f"rule:{rule.name}", reason=reason, for_s=rule.for_s)
    act(connection, rule.name, queue, node, "taken out", because, is_passive=rule.passive)


def _is_believed(connection: Connection, rule: QueueRule | NodeRule, n_out: int, n_all: int, what: str) -> bool:
    """Whether so many can be at fault at once. If not, operators are told."""
    if n_out * 100 <= n_all * rule.at_most_percent:
        return True
    message = (
        f"rule {rule.name}: {n_out} of {n_all} {what} would be out, more than {rule.at_most_percent} %; "
        "the fault may lie elsewhere, and nothing was done"
    )
    incidents.report(connection, [Incident("sites", "error", f"rule {rule.name}: too many {what}", message)])
    return False


def _tallies(connection: Connection, rule: QueueRule | NodeRule, *, of_nodes: bool) -> dict[tuple[str, str], Tally]:
    values = {"rule": rule.name, "window_s": float(rule.window_s), "of_nodes": of_nodes}
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for row in rows(connection, ENDS, values):
        if not row.error_code or rule.counts(row.error_code):
            tallies[row.queue, row.node].add(row.error_code, row.n, row.wall_s)
    return tallies


def _join(whole: Tally, part: Tally) -> None:
    whole.n_finished += part.n_finished
    whole.n_failed += part.n_failed
    whole.failed_wall_s += part.failed_wall_s
    whole.codes.update(part.codes)

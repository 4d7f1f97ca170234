"""Troubles that failures tell of: a node that is a black hole, codes that are new, that rise, or have one place."""

from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import quote

from monitoring.reads.queries import Facts
from monitoring.show import codes
from monitoring.show.looks import count, percent, several
from monitoring.troubles.seen import Seen
from monitoring.troubles.words import Act, Trouble, bulk_link, silent_s, whom
from panda.sites.trying import OWNER

STORAGE_FULL = "pilot:1333"
#: What pilots say when outputs cannot be copied to the site's storage.
STAGE_OUT = frozenset({"pilot:1137", "pilot:1172"})
POISON = ("dispatch:kills_pilots",)
#: What payloads say of themselves.
OWN = "payload:"
#: Jobs that try a queue are not retried: others are sent.
SOMEBODYS = f"owner!={OWNER}"
#: A code is worth a word from so many failures of the day on.
MIN_FAILURES = 5
#: Once no job rests with it, a code is over when its last hour began so long ago.
OVER_S = 2 * 3600
#: That much of a code's failures at one queue: the place is to blame.
AT_ONE_PLACE = 0.8
#: A node that failed so many times in three hours, and that much of what it ended, ...
NODE_FAILURES, NODE_SHARE = 8, 0.7
#: ... while the others of its queue failed less than this.
OTHERS_SHARE = 0.4


def is_black_hole(mine: Facts, others: list[Facts]) -> bool:
    """Whether a node fails what it takes while the others of its queue do not. Rows of `site_queries.NODES`."""
    n_others = sum(each["n"] for each in others)
    return (
        mine["n_failed"] >= max(NODE_FAILURES, NODE_SHARE * mine["n"])
        and n_others > 0
        and _share(others) < OTHERS_SHARE
    )


def _share(nodes: list[Facts]) -> float:
    return float(sum(each["n_failed"] for each in nodes) / max(1, sum(each["n"] for each in nodes)))


def black_holes(seen: Seen) -> Iterator[Trouble]:
    """A node that fails what it takes, while the others of its queue do not."""
    taken_out = {(p.place.queue, p.place.node) for p in seen.pauses if p.place.node}
    by_queue: dict[str, list[Facts]] = defaultdict(list)
    for row in seen.ended:
        by_queue[row["queue"]].append(row)
    for row in seen.nodes:
        queue, node = row["queue"], row["node"]
        mine = next((each for each in by_queue[queue] if each["node"] == node), None)
        others = [each for each in by_queue[queue] if each["node"] != node]
        if mine is None or row["n"] < NODE_FAILURES or not is_black_hole(mine, others) or (queue, node) in taken_out:
            continue
        same = [each for each in seen.resting if each["queue"] == queue and each["node"] == node]
        failed_there = f'status:failed queue:{queue} node:"{node}" {SOMEBODYS}'
        path = f"/nodes/{quote(queue, safe='')}/{quote(node, safe='')}"
        yield Trouble(
            kind="node", key=f"node {queue}/{node}", title=f"Node {node} of {queue} fails what it takes",
            since=min((each["first_at"] for each in same), default=row["first_at"]),
            hits=whom(same) or f"{several(row['n'], 'attempt')}",
            told=f"{count(mine['n_failed'])} of {several(mine['n'], 'attempt')} failed there in a day, "
            f"{percent(_share(others))} on the other nodes.",
            link=path, acts=[("Take the node out…", f"{path}/pause"),
                             ("Retry its failed jobs…", bulk_link("retry", failed_there))],
        )  # fmt: skip


def failures(seen: Seen) -> Iterator[Trouble]:
    """Codes of the day that are new, that rise, that have one place in common, or that name their culprit."""
    holes = {trouble.key.removeprefix("node ") for trouble in black_holes(seen)}
    closed = {queue["name"]: queue["status"] for queue in seen.queues if queue["status"] != "online"}
    for code in sorted({row["code"] for row in seen.resting} | {row["error_code"] for row in seen.codes}):
        same = [row for row in seen.resting if row["code"] == code]
        listed = [row for row in seen.codes if row["error_code"] == code]
        n = sum(row["n"] for row in same)
        mark = next((row["mark"] for row in listed if row["mark"]), "")
        is_poison = code in POISON or code.endswith((":poison", ":raised"))
        if same and all(f"{row['queue']}/{row['node']}" in holes for row in same):
            continue  # its node is the trouble
        if code.startswith(OWN) and mark != "rising" and len({row["owner"] for row in same}) < 2:
            continue  # a payload's end is its owner's business
        if not (is_poison and n) and max(n, sum(row["n"] for row in listed)) < MIN_FAILURES:
            continue
        if not same and all(silent_s(seen, row["last_at"]) > OVER_S for row in listed):
            continue  # what failed was retried, and it has not come again
        stage = next((row["stage"] for row in same), listed[0]["failed_stage"] if listed else "")
        yield from _failing(code, stage, same, listed, mark, closed, is_poison=is_poison)


def _failing(
    code: str, stage: str, same: list[Facts], listed: list[Facts], mark: str, closed: dict[str, str], *, is_poison: bool
) -> Iterator[Trouble]:
    by_queue: dict[str, int] = defaultdict(int)
    for row in same:
        by_queue[row["queue"]] += row["n"]
    n, queue = sum(by_queue.values()), max(by_queue, key=lambda name: by_queue[name], default="")
    is_one_place = bool(queue) and by_queue[queue] >= AT_ONE_PLACE * n
    kind = _kind(code, stage, is_poison=is_poison)
    if kind == "errors" and not mark and not (is_one_place and len(by_queue) > 1):
        return
    words = {"new": "A new error: ", "rising": "An error rises: "}.get(mark, "") if kind == "errors" else ""
    where = f" at {queue}" if is_one_place and kind != "poison" else ""
    first = min((row["first_at"] for row in same), default=None)
    marked = min((row["since"] for row in listed if row["since"]), default=None)
    tried_again = f"{several(sum(row['n'] for row in listed), 'attempt')}, all tried again"
    already = f"{queue} is {closed[queue]} already." if where and queue in closed else ""
    yield Trouble(
        kind=kind, key=f"code {code}", title=f"{words}{codes.meaning(code)}{where}",
        since=marked if mark == "rising" else first or marked,
        is_bad=mark == "rising" or (bool(same) and kind != "errors"),
        hits=whom(same) or tried_again, told=" ".join(filter(None, (f"{code}.", codes.advice(code), already))),
        link=f"/errors/{quote(code, safe='')}", acts=_cures(kind, code, same, "" if already or not where else queue),
    )  # fmt: skip


def _kind(code: str, stage: str, *, is_poison: bool) -> str:
    if is_poison:
        return "poison"
    if code == STORAGE_FULL:
        return "storage"
    return "stage_out" if stage == "stage_out" or code in STAGE_OUT else "errors"


def _cures(kind: str, code: str, same: list[Facts], queue: str) -> list[Act]:
    if kind == "poison":
        sets = sorted({row["jobset_id"] for row in same})
        return [(f"Cancel job set {jobset_id}…", f"/jobsets/{jobset_id}/cancel") for jobset_id in sets[:3]]
    acts = [("Retry them…", bulk_link("retry", f'status:failed error:"{code}" {SOMEBODYS}'))] if same else []
    if queue and not code.startswith(OWN):
        acts.append(("Close the queue to new jobs…", f"/queues/{quote(queue)}/status?to=brokeroff"))
    return acts

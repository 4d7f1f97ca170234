"""A job that has a queue and no pilot yet, or waits for a queue, is brokered anew because somebody asks for it.

Perhaps with places where it must not go. (`panda.sites` brings jobs away from a queue that goes; a job that no pilot
took in time is the sweeper's.) Brokerage then weighs the queue that it comes from low, so that it rather goes
elsewhere. Transfers that it waited for and that nobody else wants are forgotten by the data service.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Invalid
from panda.jobs import due
from panda.jobs.submission import CHANNEL
from panda.jobs.transitions import move_many
from panda.states import JobStatus, Stage, Wait

#: Who may be brokered anew; the others are not there yet, or a pilot has them.
REACHES = frozenset({JobStatus.DEFINED, JobStatus.ASSIGNED, JobStatus.ACTIVATED})
#: Why a job of status `{0}` cannot.
WHY_NOT = "it is {0}; only a job that no pilot has, and that brokerage has seen, can be brokered anew"
WAITS = {Wait.OPERATOR: "it is held; release it first", Wait.QUOTA: "it waits for its owner's quota"}
#: Places that one job may be kept from.
MOST_PLACES = 50
STATUS = "SELECT panda_id, status FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
WITHDRAW = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
AVOID = """
INSERT INTO job_avoids (panda_id, place, at)
SELECT panda_id, place, panda_now()
FROM unnest(%(panda_ids)s::bigint[]) AS panda_id, unnest(%(places)s::text[]) AS place
ON CONFLICT DO NOTHING
"""
TOO_MANY = f"""
SELECT panda_id FROM job_avoids WHERE panda_id = ANY(%(panda_ids)s) GROUP BY panda_id HAVING count(*) > {MOST_PLACES}
"""


def rebroker(
    connection: Connection, panda_ids: Sequence[int], *, exclude: Sequence[str] = (), by: str, reason: str
) -> tuple[list[int], dict[int, str]]:
    """Let brokerage look at these jobs again, and keep them from the sites and queues `exclude` (patterns) for good.

    Returns: those that it looks at now, ascending; and why not the others.
    Raises:
        Invalid: `bad_name`: a place that is none; `too_many_places`.
    """
    check_places(exclude)
    locked = due.lock(connection, panda_ids)
    found = {row.panda_id: row.status for row in rows(connection, STATUS, {"panda_ids": sorted(locked)})}
    refused = dict.fromkeys(set(panda_ids) - set(found), "it is archived or unknown")
    refused |= {i: WHY_NOT.format(status) for i, status in found.items() if status not in REACHES}
    refused |= {i: WAITS[locked[i].waits_for] for i in found if i not in refused and locked[i].waits_for in WAITS}
    reached = sorted(set(found) - set(refused))
    if reached and exclude:
        run(connection, AVOID, {"panda_ids": reached, "places": sorted(set(exclude))})
        if rows(connection, TOO_MANY, {"panda_ids": reached}):
            raise Invalid(f"a job is kept from at most {MOST_PLACES} places", where="exclude", code="too_many_places")
    _bring_back(connection, {i: found[i] for i in reached}, by=by, reason=reason or "brokered anew")
    if reached:
        run(connection, f"NOTIFY {CHANNEL}")
    return reached, refused


def _bring_back(connection: Connection, status_of: dict[int, str], *, by: str, reason: str) -> None:
    """To brokerage with them; their rows of `job_due` are locked."""
    panda_ids = sorted(status_of)
    if not panda_ids:
        return
    run(connection, WITHDRAW, {"panda_ids": panda_ids})
    for was in (JobStatus.ASSIGNED, JobStatus.ACTIVATED):
        members = [i for i in panda_ids if status_of[i] == was]
        move_many(connection, members, was, JobStatus.DEFINED, by=by, stage=Stage.BROKER, reason=reason)
    due.wake(connection, panda_ids, Stage.BROKER)


def check_places(exclude: Sequence[str]) -> None:
    """Whether these may be names of sites and queues, or patterns of them. Raises Invalid as `rebroker` does."""
    if len(exclude) > MOST_PLACES:
        raise Invalid(f"at most {MOST_PLACES} places", where="exclude", code="too_many_places")
    for number, place in enumerate(exclude):
        if not place.strip() or len(place) > 250 or "\x00" in place:
            raise Invalid(f"{place[:60]!r} is no name of a site or queue", where=f"exclude[{number}]", code="bad_name")

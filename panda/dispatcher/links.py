"""What a pilot is told about files: a link for each input and each output of the jobs that it got."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, Protocol

from sqlalchemy.engine import Connection, Row

from panda import plugins
from panda.db.session import rows
from panda.dispatcher.words import PilotInput, PilotOutput, PilotPlace

#: Inputs at a storage that the queue reads, its own first; outputs where `activate` gave them a place, and where they
#: go if that one does not take them.
FILES = """
SELECT f.panda_id, f.kind, f.lfn, f.size_bytes, f.adler32, st.kind AS mover, st.root, q.direct_read,
    CASE f.kind WHEN 'input' THEN r.path ELSE f.path END AS path,
    o.name AS other, o.kind AS other_mover, o.root AS other_root
FROM (SELECT * FROM job_files WHERE panda_id = ANY(%(panda_ids)s) AND kind IN ('input', 'output') OFFSET 0) f
JOIN queues q ON q.name = %(queue)s
LEFT JOIN LATERAL (
    SELECT path, storage FROM replicas WHERE file_id = f.file_id AND storage = ANY(q.storage || q.read_storages)
    ORDER BY storage <> q.storage, storage LIMIT 1) r ON f.kind = 'input'
JOIN storages st ON st.name = CASE f.kind WHEN 'input' THEN coalesce(r.storage, q.storage) ELSE f.storage END
LEFT JOIN storages o ON f.kind = 'output' AND o.name = q.second_storage AND o.status = 'online'
ORDER BY f.panda_id, f.kind, f.lfn
"""

#: A link outlives its job's wall time by this: stage-in before it, stage-out and its retries after it.
MARGIN_S = 6 * 3600.0


class LinkMaker(Protocol):
    """What is wanted here of a storage's mover, which belongs to the data service."""

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """A URL by which a node reads or writes one file."""
        ...


@cache
def _maker(kind: str) -> LinkMaker:
    maker: LinkMaker = plugins.load("panda.movers", kind)()
    return maker


class Links(dict[int, tuple[list[PilotInput], list[PilotOutput]]]):
    """Inputs and outputs by PandaID; empty lists for a job without files."""

    def __missing__(self, panda_id: int) -> tuple[list[PilotInput], list[PilotOutput]]:
        return [], []


def links_of(connection: Connection, queue: str, walltime_s: Mapping[int, int], direct: Collection[int] = ()) -> Links:
    """Links for the files of jobs that have some.

    Args:
        walltime_s: seconds by PandaID.
        direct: PandaIDs of jobs that would rather read their inputs where they lie, if the queue lets them.
    Returns: an input without a replica here (it was deleted since) has no link: its pilot reports that it is gone."""
    links = Links()
    if not walltime_s:
        return links
    for file in rows(connection, FILES, {"queue": queue, "panda_ids": list(walltime_s)}):
        inputs, outputs = links.setdefault(file.panda_id, ([], []))
        for_s = walltime_s[file.panda_id] + MARGIN_S
        if file.kind == "input":
            url = _link(file, "GET", for_s)
            is_direct = file.direct_read and file.panda_id in direct
            inputs.append(
                PilotInput(
                    lfn=file.lfn, size_bytes=file.size_bytes, adler32=file.adler32, url=url, direct=is_direct
                )
            )  # fmt: skip
        else:
            outputs.append(
                PilotOutput(lfn=file.lfn, url=_link(file, "PUT", for_s), alternatives=_alternatives(file, for_s))
            )
    return links


def _alternatives(file: Row[Any], for_s: float) -> list[PilotPlace]:
    if file.other is None or file.path is None:
        return []
    url = _maker(file.other_mover).link(file.other_root, file.path, "PUT", for_s)
    return [PilotPlace(storage=file.other, url=url)]


def _link(file: Row[Any], verb: Literal["GET", "PUT"], for_s: float) -> str:
    return "" if file.path is None else _maker(file.mover).link(file.root, file.path, verb, for_s)

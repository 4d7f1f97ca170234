"""The kind of jobs (analysis, production, …), which their job set says in its document.

A document can be large: it is opened once per job set and process, not once per job.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows

#: Kinds that are kept, by the hash of a document, which never changes.
MOST_KEPT = 20_000
HASHES = "SELECT jobset_id, document_hash FROM jobsets WHERE jobset_id = ANY(%(jobset_ids)s)"
KINDS = """
SELECT document_hash, coalesce(document->>'kind', 'analysis') AS kind
FROM jobsets WHERE jobset_id = ANY(%(jobset_ids)s)
"""
_KNOWN: dict[bytes, str] = {}


def kinds_of(connection: Connection, jobset_ids: Sequence[int]) -> dict[int, str]:
    """The kind of each of these job sets that is there."""
    found = rows(connection, HASHES, {"jobset_ids": list(jobset_ids)}) if jobset_ids else []
    hash_of = {row.jobset_id: bytes(row.document_hash) for row in found}
    unknown = [jobset_id for jobset_id, document_hash in hash_of.items() if document_hash not in _KNOWN]
    if len(_KNOWN) + len(unknown) > MOST_KEPT:
        _KNOWN.clear()
        unknown = list(hash_of)
    for row in rows(connection, KINDS, {"jobset_ids": unknown}) if unknown else []:
        _KNOWN[bytes(row.document_hash)] = row.kind
    return {jobset_id: _KNOWN[document_hash] for jobset_id, document_hash in hash_of.items()}

"""Queues and storages as upstream's pilot reads them: queue data, schedconfig and DDM endpoints.

Made from our tables at each request. They are public, as upstream's are: pilots fetch them without a token.
"""

from typing import Any

import falcon
import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth.access import ANY_PARAMETER, public
from panda.errors import NotFound
from panda.sites import siteinfo
from panda.sites.cric import PREFIX
from panda.upstream.calls import House

COPYTOOLS: dict[str, Any] = {
    "copytools": {"mv": {"setup": ""}},
    "acopytools": {"pr": ["mv"], "pw": ["mv"], "pl": ["mv"], "default": ["mv"]},
    "catchall": "mv_final_destination",
}
WITHOUT_CONTAINERS: dict[str, Any] = {"container_type": "", "container_options": "", "is_cvmfs": False}
#: One attempt for IPv6 less, unless the queue says otherwise.
PARAMETERS = {"internet_protocol_version": "IPv4"}
READS, WRITES = ("pr", "read_lan"), ("pw", "pl", "write_lan")


def queue(connection: Connection, name: str) -> Row[Any]:
    """The queue `name`, as `siteinfo.queues` has it. Raises NotFound."""
    for row in siteinfo.queues(connection):
        if row.name == name:
            return row
    raise NotFound("queue", name[:100])


def queue_data(row: Row[Any], timefloor_min: int) -> dict[str, Any]:
    """One queue in upstream's words; sizes in MB, times in s."""
    return {
        "nickname": row.name,
        "panda_resource": row.name,
        "atlas_site": row.site,
        "gstat": row.site,
        "state": "ACTIVE",
        "status": row.status,
        "type": "unified",
        **COPYTOOLS,
        "astorages": {activity: [row.storage, *row.read_storages] for activity in READS}
        | {activity: [row.write_storage or row.storage] for activity in WRITES},
        "maxwdir": row.disk_mb,
        "maxrss": row.memory_mb,
        "maxinputsize": row.disk_mb,
        "timefloor": timefloor_min,
        "corecount": row.cores,
        "maxtime": row.walltime_s,
        "minrss": row.min_memory_mb,
        "mintime": row.min_walltime_s,
        "corepower": row.corepower,
        "cloud": row.cloud,
        **WITHOUT_CONTAINERS,
        "params": PARAMETERS | row.parameters,
        **{word: value for word, value in _known(row).items() if value},
    }


def _known(row: Row[Any]) -> dict[str, Any]:
    """What jobs may ask of a queue. Containers are told as what there is, not as `container_type`, which would
    make the pilot start each payload in one."""
    architectures: list[dict[str, Any]] = []
    if row.architecture:
        architectures.append({"type": "cpu", "arch": [row.architecture]})
    if row.gpus:
        architectures.append({"type": "gpu", "model": [row.gpu_model or "any"], "count": row.gpus})
    return {
        "architectures": architectures,
        "containers": list(row.containers),
        "releases": list(row.software),
        "vo_name": row.vos[0] if row.vos else "",
        "comment_": row.status_reason,
    }


def endpoint(row: Row[Any], number: int) -> dict[str, Any]:
    """One storage in upstream's words. Only a folder that the node sees can be reached by its copy tool `mv`."""
    address = row.root if "://" in row.root else f"file://localhost{row.root}"
    protocol = {
        "endpoint": address,
        "flavour": "POSIX" if address.startswith("file:") else row.kind.upper(),
        "id": number,
        "path": f"/{PREFIX}",
    }
    return {
        "id": number,
        "name": row.name,
        "type": "DATADISK",
        "token": row.name,
        "state": "ACTIVE" if row.status == "online" else "DISABLED",
        "site": row.site,
        "is_deterministic": True,
        "arprotocols": {use: [protocol] for use in ("read_lan", "write_lan", "read_wan", "write_wan")},
        "rprotocols": {},
        "resource": {"endpoint": address},
    }


class SchedconfigResource:
    """/cache/schedconfig/{name}: `QUEUE.all.json`, or all of them by name."""

    ALL = frozenset({"pandaqueues.json", "schedconfig.all.json", "schedconfig.json"})

    def __init__(self, house: House) -> None:
        self._house = house

    @public(ANY_PARAMETER)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """What a queue is like."""
        with self._house.begin() as connection:
            found = {row.name: row for row in siteinfo.queues(connection)}
        timefloor_min = self._house.settings.upstream.timefloor_min
        if name in self.ALL:
            _show(resp, {each: queue_data(row, timefloor_min) for each, row in found.items()})
            return
        wanted = name.removesuffix(".json").removesuffix(".all")
        if wanted not in found:
            raise NotFound("queue", wanted[:100])
        _show(resp, queue_data(found[wanted], timefloor_min))


class DdmEndpointsResource:
    """/cache/ddmendpoints.json"""

    def __init__(self, house: House) -> None:
        self._house = house

    @public(ANY_PARAMETER)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All storages by name."""
        with self._house.begin() as connection:
            found = siteinfo.storages(connection)
        _show(resp, {row.name: endpoint(row, number) for number, row in enumerate(found, start=1)})


def _show(resp: falcon.Response, document: Any) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(document)

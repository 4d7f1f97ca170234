"""What a page does, as Python to copy: the other half of "Copy as CLI"."""

from typing import Any

_WITH = "from panda.client import Client\n\nwith Client.from_env() as panda:\n    "


def python(call: str) -> str:
    """A call of the client, with what has to stand around it."""
    return _WITH + call.replace("\n", "\n    ")


def of_job(verb: str, panda_id: int, **said: Any) -> str:
    """A deed on one job."""
    words = "".join(f", {name}={value!r}" for name, value in said.items() if value)
    return python(f"panda.{verb}({panda_id}{words})")


def of_many(verb: str, text: str, **said: Any) -> str:
    """A deed on all jobs that fit a filter: looked at, then begun."""
    words = "".join(f", {name}={value!r}" for name, value in said.items() if value is not None and value != [])
    return python(
        f"preview = panda.actions.preview({verb!r}, {text!r}, reason='…'{words})\n"
        "print(preview.n, 'jobs')\n"
        "panda.actions.confirm(preview)"
    )


def of_list(text: str) -> str:
    """The jobs that fit a filter."""
    return python(f"for job in panda.find('jobs', {text!r}, limit=100):\n    print(job.panda_id, job.status)")


def of_logs(panda_id: int) -> str:
    """The end of each log of a job."""
    told = "print(log.name, logs.tail(log, 50)[0].decode(), sep='\\n')"
    return python(f"logs = panda.logs({panda_id})\nfor log in logs.list():\n    {told}")


def debug(panda_id: int, is_on: bool) -> str:
    """Upstream's own client has this alone."""
    return f"from pandaclient import Client\n\nClient.setDebugMode({panda_id}, {is_on}, False)"

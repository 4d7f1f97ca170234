"""`python -m monitoring`: the pages, and Flower below /flower/, on one port."""

import asyncio
import os
import sys
from functools import partial

from monitoring import celery_side, server
from monitoring.app import make_app
from monitoring.gate import Sessions
from monitoring.health import Health
from monitoring.live import Hub
from monitoring.pages.page import Parts
from monitoring.reads.blocks import Memory, Reader
from monitoring.show.render import Renderer, load_static
from panda import collector, incident_log, logs, settings
from panda.auth import audit_log
from panda.auth.page_sessions import Drawer
from panda.auth.verifiers import verifier
from panda.db.session import Begin, begin_from
from panda.errors import ConfigError
from panda.jobs.spool import Spool


def record(begin: Begin, who: str, action: str, target: str) -> None:
    """One row in the audit log, committed."""
    with begin() as connection:
        audit_log.record(connection, who, action, target)


async def run(current: settings.Settings) -> None:
    """Serve until the process is told to end.

    Raises:
        ConfigError: no database is named. OSError: the port is taken.
    """
    begin = begin_from(current)
    reader = Reader(begin)
    heard = celery_side.Heard()
    sessions = Sessions(verifier(begin, current), drawer=Drawer(begin))
    static = load_static()
    parts = Parts(
        settings=current,
        begin=begin,
        reader=reader,
        sessions=sessions,
        celery=heard,
        health=Health(current, reader, heard),
        spool=Spool(current.data_dir),
        renderer=Renderer(static),
        static=static,
        memory=Memory(),
    )
    hub = Hub(reader, current.monitor.max_streams)
    tornado = server.build(
        current,
        celery_side.bare_app(current),
        make_app(parts, hub.__len__, lambda: hub.n_told),
        sessions,
        partial(record, begin),
        heard,
        reader,
        hub,
    )
    hub.start()
    stop = asyncio.Event()
    server.stop_on_signals(stop)
    collector.spare()
    await server.serve(tornado, sessions, current.monitor.host, current.monitor_port, stop)


def main() -> int:
    """Exit code: 0, or 1 when it could not start."""
    logs.setup(os.environ.get("PANDA_LOG_LEVEL", "INFO"))
    log = logs.Log("monitoring")
    try:
        incident_log.install("monitor", settings.current())
        asyncio.run(run(settings.current()))
    except (ConfigError, OSError) as problem:
        log.error("monitor cannot start", problem=problem)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Flower's listener and Redis calls wait in threads that nothing can wake

"""A mark in the database every few seconds, from every API process: so that an outage is known as one."""

import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from panda.db.session import Begin
from panda.jobs import outages
from panda.logs import Log

log = Log("panda.api")


def keep_marking(begin: Begin) -> None:
    """Leave marks for as long as this process lives, in a thread of its own."""
    threading.Thread(target=_mark, args=(begin,), name="alive", daemon=True).start()


def _mark(begin: Begin) -> None:
    is_away = False
    while True:
        try:
            with begin() as connection:
                outages.mark(connection)
            is_away = False
        except SQLAlchemyError as problem:
            if not is_away:
                log.warning("no mark of this process: the database is away", problem=str(problem).split("\n")[0])
            is_away = True
        time.sleep(outages.MARK_S)

"""Between the stores and the processes: `python -m panda.local.preparation` migrates and fills in.

A process of its own, so that the supervisor stays small and its one thread.
"""

import sys

from panda import logs
from panda.db.migrate import upgrade
from panda.errors import PandaError
from panda.local.bootstrap import prepare
from panda.settings import current


def main() -> int:
    logs.setup()
    settings = current()
    try:
        upgrade(settings.store.database_url)
        prepare(settings)
    except PandaError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python pilot.pyz --url ... --queue ... --token-file ... --work ...`: read the arguments, run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import uuid
from pathlib import Path
from typing import List, NoReturn, Optional

from pilot import __version__, node, payload, processes
from pilot.client import Client, Token
from pilot.exits import EXIT_USAGE
from pilot.job import Terms
from pilot.offer import Offer
from pilot.slot import Slot

log = logging.getLogger("pilot")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return number


def _arguments(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pilot", description="PanDA's pilot: runs jobs on this node.")
    env = os.environ
    add = parser.add_argument
    add("--url", default=env.get("PANDA_URL", ""), help="the PanDA server (or PANDA_URL)")
    add("--queue", required=True, help="PanDA queue to take jobs of")
    add("--token-file", default=env.get("PANDA_TOKEN_FILE", ""), help="file with the pilot token")
    add("--work", required=True, help="folder for work folders; made if it does not exist")
    add("--pilot-id", default="", help="default: node name and a random part")
    add("--cores", type=_positive, help="cores of the slot; default: all we may use")
    add("--memory-mb", type=_positive, help="memory of the slot, 10^6 bytes; default: the machine's")
    add("--disk-mb", type=_positive, help="disk for work folders, 10^6 bytes; default: what is free")
    add("--walltime-s", type=_positive, default=7 * 86_400, help="time left in the slot")
    add("--tags", default="", help="comma-separated tags that jobs may ask for")
    add("--idle-s", type=_seconds, default=20.0, help="leave after so long without a job; 0: at once")
    add("--max-jobs", type=_count, default=0, help="leave after so many jobs; 0: no limit")
    add("--bulk", type=_positive, default=1, help="hold up to N jobs ahead (for tiny jobs)")
    add("--wait-s", type=_seconds, default=20.0, help="long poll: the server may hold a request so long")
    add("--outage-s", type=_seconds, default=3600.0, help="keep results so long when the server is away")
    add("--grace-s", type=_seconds, default=10.0, help="time between SIGTERM and SIGKILL")
    add("--log-cap-mb", type=_positive, default=50, help="cap of each log of a job, 10^6 bytes")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    add("--version", action="version", version=f"pilot {__version__}")
    return parser.parse_args(argv)


def _complain(message: str) -> NoReturn:
    sys.stderr.write(f"pilot: {message}\n")
    raise SystemExit(EXIT_USAGE)


def _token(token_file: str) -> Token:
    """From the file, else from PANDA_TOKEN, which is taken out of our environment."""
    value = os.environ.pop("PANDA_TOKEN", "").strip()
    try:
        token = Token(path=Path(token_file).absolute()) if token_file else Token(value)
    except (OSError, ValueError) as error:
        _complain(f"cannot read the token file {token_file!r}: {error}")
    if not token.value:
        _complain("no token: give --token-file, PANDA_TOKEN_FILE or PANDA_TOKEN")
    if not token.value.isprintable() or " " in token.value:
        _complain("the token holds characters that no token has")
    return token


def main(argv: Optional[List[str]] = None) -> int:
    """Run the pilot. Returns its exit code (see `pilot.exits`)."""
    args = _arguments(sys.argv[1:] if argv is None else argv)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=args.log_level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    if not args.url:
        _complain("no server: give --url or PANDA_URL")
    token = _token(args.token_file)
    work = os.path.realpath(args.work)
    try:
        client = Client(args.url, token, f"panda-pilot/{__version__}")
        os.makedirs(work, mode=0o700, exist_ok=True)
        if not os.access(work, os.W_OK | os.X_OK):
            _complain(f"may not write to the work folder {work}")
        offer = Offer(
            pilot_id=args.pilot_id or f"{node.name()}-{uuid.uuid4().hex[:12]}",
            queue=args.queue,
            node=node.name(),
            tags=[tag for tag in args.tags.split(",") if tag],
            cores=args.cores or node.cores(),
            memory_mb=args.memory_mb or node.memory_mb(),
            disk_mb=args.disk_mb or node.disk_mb(work),
            slot_s=args.walltime_s,
            idle_s=args.idle_s,
            max_jobs=args.max_jobs,
            bulk=args.bulk,
            wait_s=min(args.wait_s, 60.0),
            grace_s=args.grace_s,
        )
    except (OSError, ValueError) as error:
        _complain(str(error))
    payload.forbid_core_dumps()
    if not processes.adopt_orphans():
        log.warning("this kernel does not hand orphans to the pilot; runaway daemons may survive")
    log.info(
        "pilot %s %s for queue %s: %d cores, %d MB memory, %d MB disk",
        __version__,
        offer.pilot_id,
        offer.queue,
        offer.cores,
        offer.memory_mb,
        offer.disk_mb,
    )
    terms = Terms(log_cap_bytes=args.log_cap_mb * 10**6, outage_s=args.outage_s)
    return Slot(offer, terms, client, work).run()


if __name__ == "__main__":
    sys.exit(main())

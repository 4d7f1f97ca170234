"""`python pilot.pyz --url ... --queue ... --token-file ... --work ...`: read the arguments, run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import List, NoReturn, Optional

from pilot import __version__, arguments, cgroups, checks, diary, kernel, limits, node, payload, queue_options, route
from pilot.client import Client, Token
from pilot.exits import EXIT_UNFIT, EXIT_USAGE, SERVER_HEARS_NOTHING
from pilot.guard import MARK, Guard
from pilot.home import Home
from pilot.job import Terms
from pilot.offer import Offer
from pilot.slot import Slot

log = logging.getLogger("pilot")


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


def _offer(args: argparse.Namespace, work: str) -> Offer:
    return Offer(
        pilot_id=args.pilot_id or f"{node.name()}-{uuid.uuid4().hex[:12]}",
        url=args.url,
        work=work,
        queue=args.queue,
        node=node.name(),
        tags=arguments.words(args.tags),
        cores=args.cores or node.cores(),
        memory_mb=args.memory_mb or node.memory_mb(),
        disk_mb=args.disk_mb or node.disk_mb(work),
        gpus=args.gpus,
        slot_s=args.walltime_s,
        idle_s=args.idle_s,
        max_jobs=args.max_jobs,
        bulk=args.bulk,
        wait_s=min(args.wait_s, 60.0),
        grace_s=args.grace_s,
        drain_s=args.drain_s,
        pause_s=args.pause_s,
    )


def _terms(args: argparse.Namespace, home: Home, groups: Optional[cgroups.Cgroups]) -> Terms:
    return Terms(
        log_cap_bytes=args.log_cap_mb * 10**6,
        outage_s=args.outage_s,
        margin=1 + args.margin_percent / 100,
        silence_s=args.silence_s,
        n_processes=args.max_processes,
        base={**payload.passed_on(arguments.words(args.pass_env)), MARK: home.mark},
        cgroups=groups,
    )


def _described(groups: Optional[cgroups.Cgroups]) -> str:
    return "cgroups: " + " ".join(groups.controllers) if groups else "watchdog"


def main(argv: Optional[List[str]] = None) -> int:
    """Run the pilot. Returns its exit code (see `pilot.exits`)."""
    said = sys.argv[1:] if argv is None else argv
    args = arguments.parse(said)
    diary.open_log(args.log_level)
    if not args.url:
        _complain("no server: give --url or PANDA_URL")
    token = _token(args.token_file)
    work = os.path.realpath(args.work)
    try:
        route.trust(args.ca_file)
        way = route.Route(args.url, args.ca_file)
        client = Client(way, token, f"panda-pilot/{__version__}")
        os.makedirs(work, mode=0o700, exist_ok=True)
        args = arguments.parse(said, queue_options.of(client, args.queue, args.outage_s))
        offer = _offer(args, work)
        home = Home.make(work, pilot_id=offer.pilot_id, queue=offer.queue)
    except (OSError, ValueError) as error:
        _complain(str(error))
    book = diary.Diary(client, offer.pilot_id, offer.queue, home.log)
    limits.forbid_core_dumps()
    adopts = kernel.adopt_orphans()
    if not adopts:
        log.warning("this kernel does not hand orphans to the pilot; runaway daemons may survive")
    groups = cgroups.find()
    log.info("pilot %s %s asks %s for jobs of %s, %s", __version__, offer.pilot_id, args.url, offer.queue, way)
    log.info("%d cores, %d MB memory, %d MB disk", offer.cores, offer.memory_mb, offer.disk_mb)
    found = checks.check(home.path, offer.disk_mb, arguments.words(args.need), _described(groups))
    book.begin(found)
    if found.problems:
        code, why = EXIT_UNFIT, "; ".join(found.problems)
    else:
        slot = Slot(offer, _terms(args, home, groups), client, home, Guard(home.mark), adopts)
        code = slot.run()
        why = slot.why
    book.end(code, why, is_heard=code not in SERVER_HEARS_NOTHING)
    home.leave()
    return code


if __name__ == "__main__":
    sys.exit(main())

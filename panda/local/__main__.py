"""`python -m panda.local up|down|doctor`: the plain entry; the `panda` command calls the same functions."""

import argparse
import sys
from pathlib import Path

from panda.local.doctor import run_doctor
from panda.local.up import run_down, run_up


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    if given.command == "down":
        return run_down(given.data)
    if given.command == "doctor":
        return run_doctor(given.data, as_json=given.json)
    return run_up(
        given.data, given.port, detach=given.detach, only=given.only, without=given.without,
        file=given.procfile, bare=given.bare,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m panda.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a system")
    up.add_argument("--port", type=int, help="of the API; the monitor takes the next one; 0: two free ones")
    up.add_argument("--detach", action="store_true", help="return when everything answers")
    up.add_argument("--only", action="append", default=[], metavar="NAME", help="start this process of the Procfile")
    up.add_argument("--without", action="append", default=[], metavar="NAME", help="leave this one out")
    up.add_argument("--procfile", type=Path, help="another one than the installation's")
    up.add_argument("--bare", action="store_true", help="neither migrate nor load sites nor write a token")
    down = commands.add_parser("down", help="end it")
    doctor = commands.add_parser("doctor", help="check it")
    doctor.add_argument("--json", action="store_true", help="for programs")
    for command in (up, down, doctor):
        command.add_argument("--data", type=Path, default=Path("data"), help="folder of all its state")
    return parser


if __name__ == "__main__":
    sys.exit(main())

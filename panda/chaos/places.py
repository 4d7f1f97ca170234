"""Faults of the network and of disks."""

import os
import subprocess
from contextlib import suppress

from panda.chaos.lab import Inject, Lab, NotPossible
from panda.chaos.proxy import FAIR, Weather


def weather(what: Weather, seconds: float) -> Inject:
    """The network between clients, played pilots and the API misbehaves for a while."""

    def inject(lab: Lab) -> None:
        lab.proxy.weather = what
        try:
            lab.wait(seconds)
        finally:
            lab.proxy.weather = FAIR

    return inject


def full_disk(name: str, seconds: float) -> Inject:
    """The disk of this folder is full for a while."""

    def inject(lab: Lab) -> None:
        if not lab.system.has_disk(name):
            raise NotPossible("no disk of its own could be mounted")
        filler = lab.system.folder / name / "filler"
        try:
            with filler.open("wb") as file, suppress(OSError):
                free = os.statvfs(filler)
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)  # at once, without writing
                file.seek(0, os.SEEK_END)
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            lab.wait(seconds)
        finally:
            filler.unlink(missing_ok=True)

    return inject


def read_only_disk(lab: Lab) -> None:
    """The disk of logs and sandboxes may not be written to for a while."""
    if not lab.system.has_disk("spool"):
        raise NotPossible("no disk of its own could be mounted")
    place = str(lab.system.folder / "spool")
    for _ in range(50):  # not while a file is open for writing
        if not subprocess.run(["mount", "-o", "remount,ro", place], capture_output=True, check=False).returncode:
            break
        lab.wait(0.1)
    else:
        raise NotPossible("the disk was never idle")
    try:
        lab.wait(4)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", place], capture_output=True, check=False)

"""Faults of processes: they die, stand still, run out of what they need, are started anew."""

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from panda.chaos.lab import Inject, Lab, NotPossible, send, standing_still

#: In the order in which somebody would renew them.
ROLLING = ("api", "relay", "stages", "data", "beat", "pilots", "monitor")
#: Where PanDA's own work is done.
WORKERS = ("api", "relay", "stages", "data")


def kill(name: str) -> Inject:
    """kill -9 of one process of the Procfile, or of a store."""

    def inject(lab: Lab) -> None:
        send(lab.system.below(name)[:1])

    return inject


def kill_child(name: str) -> Inject:
    """kill -9 of something that a process started: a worker of the API, a pool child, a backend."""

    def inject(lab: Lab) -> None:
        children = lab.system.below(name)[1:]
        send([lab.random.choice(children)] if children else [])

    return inject


def stop(name: str, seconds: float) -> Inject:
    """A process and its children stand still, then go on: it hangs instead of refusing."""

    def inject(lab: Lab) -> None:
        with standing_still(lab.system.below(name)):
            lab.wait(seconds)

    return inject


def rolling_restart(lab: Lab) -> None:
    """Each process is asked to end and started anew, one after the other, as for a new version of the code."""
    for name in ROLLING:
        before = lab.system.pid(name)
        if before:
            send([before], signal.SIGTERM)
        for _ in range(50):
            if lab.stop.is_set() or lab.system.pid(name) not in (before, 0):
                break
            lab.wait(0.2)


def few_handles(lab: Lab) -> None:
    """No process of ours may open another file or connection for a while."""
    pids = [pid for name in WORKERS for pid in lab.system.below(name)]
    with limited(lab, pids, resource.RLIMIT_NOFILE, _open_handles):
        lab.wait(4)


def little_memory(lab: Lab) -> None:
    """One process of ours, chosen at random, gets no more memory for a while."""
    pids = [pid for name in WORKERS for pid in lab.system.below(name)]
    with limited(lab, [lab.random.choice(pids)] if pids else [], resource.RLIMIT_AS, _address_space):
        lab.wait(4)


@contextmanager
def limited(lab: Lab, pids: Sequence[int], what: int, to: Callable[[int], int]) -> Iterator[None]:
    """The soft limits of these processes stand at `to(pid)` meanwhile; also what they start gets its limit back.

    Raises NotPossible: there are none, or none of ours to limit."""
    before: dict[int, tuple[int, int]] = {}
    for pid in pids:
        with suppress(OSError, ValueError):
            soft, hard = resource.prlimit(pid, what)
            resource.prlimit(pid, what, (to(pid), hard))
            before[pid] = (soft, hard)
    if not before:
        raise NotPossible("nothing of the kind runs, or it may not be limited")
    usual = next(iter(before.values()))
    try:
        yield
    finally:
        for pid in {*before, *(pid for name in WORKERS for pid in lab.system.below(name))}:
            with suppress(OSError, ValueError):
                if resource.prlimit(pid, what)[0] < usual[0] or usual[0] == resource.RLIM_INFINITY:
                    resource.prlimit(pid, what, before.get(pid, usual))


def _open_handles(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd")) + 1


def _address_space(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return (pages + 500) * resource.getpagesize()

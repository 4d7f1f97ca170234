"""Runs one peer: how long its jobs took, and what all of its processes used of the processor.

Started with a peer's own Python, so it knows the standard library alone: `python measured.py dramatiq 5000 2 …`.
Prints one JSON line.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    name, n_jobs, n_slots, folder, *more = sys.argv[1:]
    # Whatever a peer starts and leaves behind becomes our child, so that its time is counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    os.environ["PYTHONPATH"] = here  # for a peer's own workers
    os.chdir(folder)
    peer = importlib.import_module(f"with_{name}")
    with peer.ready(int(n_slots), *more) as run:
        run(20)  # warm: imports, connections
        before_s = _own_cpu_s()
        began = time.monotonic()
        run(int(n_jobs))
        lasted_s = time.monotonic() - began
    _end_children()
    print(json.dumps({"rate": int(n_jobs) / lasted_s, "cpu_ms": 1000 * (_cpu_s() - before_s) / int(n_jobs)}))


def _own_cpu_s() -> float:
    """Of this process so far: what starting a peer cost it is not the jobs'. Its children's start is counted."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _own_cpu_s() + used.ru_utime + used.ru_stime


def _end_children() -> None:
    """Everything below us ends and is waited for."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = [int(pid) for pid in file.read().split()]
            for pid in children:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(0.05)


if __name__ == "__main__":
    main()

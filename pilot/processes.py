"""Which processes run on the node, from /proc, and which of them belong to a job.

A payload may fork, daemonise and change its session. Its processes are found by ancestry, by
the sessions they were seen in, and for orphans (which the kernel hands to the pilot, their
"child subreaper") by the PANDA_ID in their environment.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Set

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One line of /proc/<pid>/stat."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    cpu_s: float
    rss_bytes: int


Table = Dict[int, Process]


def pids() -> Set[str]:
    """Names in /proc at this moment: the process ids, and a few words that `look_up` skips."""
    return set(os.listdir("/proc"))


def look_up(wanted: Iterable[str]) -> Table:
    """Those of the given processes that still run; zombies do not count."""
    table: Table = {}
    for name in wanted:
        if not name.isdigit():
            continue
        pid = int(name)
        try:
            descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
        except OSError:
            continue
        try:
            stat = os.read(descriptor, 1024)
        except OSError:
            continue
        finally:
            os.close(descriptor)
        # The name in brackets may hold anything, also brackets; numbers start after the last one.
        fields = stat[stat.rfind(b")") + 2 :].split()
        if len(fields) > 21 and fields[0] not in (b"Z", b"X"):
            # user and system time, its own and that of the children it has waited for
            cpu_s = sum(int(field) for field in fields[11:15]) / TICKS_PER_S
            table[pid] = Process(
                pid=pid,
                ppid=int(fields[1]),
                pgid=int(fields[2]),
                sid=int(fields[3]),
                cpu_s=cpu_s,
                rss_bytes=int(fields[21]) * PAGE_BYTES,
            )
    return table


def family(table: Table, roots: Iterable[int], sessions: Set[int]) -> Set[int]:
    """Processes of the table that are, or descend from, `roots` or a member of `sessions`."""
    children: Dict[int, List[int]] = {}
    for process in table.values():
        children.setdefault(process.ppid, []).append(process.pid)
    members: Set[int] = set()
    todo = [pid for pid in roots if pid in table]
    todo += [process.pid for process in table.values() if process.sid in sessions]
    while todo:
        pid = todo.pop()
        if pid not in members:
            members.add(pid)
            todo += children.get(pid, [])
    return members


def environment(pid: int) -> Set[bytes]:
    """The `NAME=value` entries that a process was started with; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return set(environ.read(4 << 20).split(b"\0"))
    except OSError:
        return set()


def proportional_bytes(members: Iterable[int]) -> int:
    """Memory of processes together, shared pages counted once (PSS). Costly: ask when it matters."""
    total_bytes = 0
    for pid in members:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
                for line in rollup:
                    if line.startswith(b"Pss:"):
                        total_bytes += int(line.split()[1]) * 1024
                        break
        except OSError:
            continue
    return total_bytes


class Moved(NamedTuple):
    """Bytes that processes read from and wrote to disks."""

    read_bytes: int
    written_bytes: int


def moved_bytes(pid: int) -> Moved:
    """What one process moved so far; nothing where the kernel does not count, or not for us."""
    try:
        with open(f"/proc/{pid}/io", "rb") as io:
            fields = dict(line.split(b": ") for line in io.read().splitlines())
        return Moved(int(fields[b"read_bytes"]), int(fields[b"write_bytes"]))
    except (OSError, ValueError, KeyError):
        return Moved(0, 0)


def children(pid: int) -> Optional[Set[int]]:
    """The children of a process's first thread, zombies too; None: this kernel does not list them."""
    try:
        descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
    except OSError:
        return None
    try:
        listed = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    # A list that fills the buffer may go on.
    return {int(word) for word in listed.split()} if len(listed) < 4000 else None

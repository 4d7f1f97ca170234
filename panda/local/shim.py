"""The last step before a child of the supervisor becomes its program: who it is, and when it dies.

Runs as `python -I -S shim.py PARENT SIGNAL IDENTITY REACH PROGRAM ARGUMENT…`, and is replaced by PROGRAM.

PARENT, SIGNAL: the kernel sends SIGNAL when PARENT is gone, so that a supervisor that was killed
leaves nobody behind. "0": the child outlives its parent.

IDENTITY: PostgreSQL refuses to run as root. Neither way round opens a folder to anyone:
- `same`: who we are; for everybody but root.
- `namespace`: a user namespace in which we are called `nobody`. To the machine the process is still
  root without its privileges: the files stay root's own, nothing changes hands.
- `nobody`: that user, for containers that forbid namespaces. It keeps the one capability to pass
  through folders of root, so the data folder lies behind a door (0700, root's) that other processes
  of `nobody` cannot pass.

REACH: a folder that the program must be able to write to, else exit code 97.
Standard library only, no import of ours: it starts in 30 ms.
"""

import ctypes
import os
import pwd
import sys

UNREACHABLE = 97

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def enter_namespace() -> None:
    inside, uid, gid = nobody(), os.geteuid(), os.getegid()
    checked(libc.unshare(CLONE_NEWUSER))
    maps = {"setgroups": "deny", "uid_map": f"{inside} {uid} 1", "gid_map": f"{inside} {gid} 1"}
    for name, line in maps.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(nobody())
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setuid(nobody())
    bit = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; low word first
    checked(libc.capset(header, sets))
    checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0))


def die_with(parent: int, signal: int) -> None:
    checked(libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))
    if os.getppid() != parent:  # it went before we asked
        os.kill(os.getpid(), signal)


def main(parent: int, signal: int, identity: str, reach: str, program: list[str]) -> None:
    if identity == "namespace":
        enter_namespace()
    elif identity == "nobody":
        become_nobody()
    if reach and not os.access(reach, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        sys.exit(UNREACHABLE)
    if parent:  # after the change of identity, which clears it
        die_with(parent, signal)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])

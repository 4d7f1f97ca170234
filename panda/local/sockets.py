"""Where unix sockets may lie: a folder that only we enter, with a path that is short enough.

An address of a unix socket holds 107 bytes, and some file systems hold no sockets at all.
"""

import os
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def socket_folder(folder: Path) -> Path:
    """A folder of mode 0700 for the sockets of the store in `folder`; the same one every time.

    `folder/sockets` when it can hold them, else one in /tmp with a name that nobody can guess
    beforehand, written down in `folder/sockets.path`.
    """
    near = folder / "sockets"
    near.mkdir(mode=0o700, exist_ok=True)
    if _is_ours_alone(near) and _holds_sockets(near):
        return near
    note = folder / "sockets.path"
    with suppress(OSError):
        far = Path(note.read_text(encoding="utf-8"))
        if _is_ours_alone(far):
            return far
    far = Path(tempfile.mkdtemp(prefix="panda-", dir="/tmp"))
    note.write_text(str(far), encoding="utf-8")
    return far


def forget_sockets(folder: Path) -> None:
    """Remove the folder in /tmp, if there is one."""
    note = folder / "sockets.path"
    with suppress(OSError):
        far = Path(note.read_text(encoding="utf-8"))
        if far.name.startswith("panda-") and _is_ours_alone(far):
            shutil.rmtree(far)
        note.unlink()


def _is_ours_alone(folder: Path) -> bool:
    with suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return False


def _holds_sockets(folder: Path) -> bool:
    probe = folder / f".probe{os.getpid():07d}"  # as long as the longest, .s.PGSQL.5432
    with suppress(OSError), socket.socket(socket.AF_UNIX) as trial:
        probe.unlink(missing_ok=True)
        trial.bind(str(probe))
        probe.unlink()
        return True
    return False
